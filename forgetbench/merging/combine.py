"""One tensor of the result, slice by slice: what the recipe makes of the same slice of every model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.drift.weights import Weights
from forgetbench.errors import UsageError
from forgetbench.merging import rules
from forgetbench.merging.cut import Cut, cut, keep_count, trim
from forgetbench.merging.types import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rule = Callable[[list[Floats]], Floats]

SLICE = 1 << 22
"""Values of one model held at a time (16 MiB as float32): at least one row."""


def combined(name: str, rows: int, sides: Sequence[Weights], recipe: Recipe) -> Iterator[Floats]:
    """Rows 0 to `rows` of the merged tensor, (some rows, columns) at a time.

    A slice that is the same in all models, bit for bit, stays as it is: no rule may change it, rounding would.
    Raises UsageError for NaN and infinity, which TIES would lose without a trace.
    """
    rule = _rule(name, rows, sides, recipe)
    for values in slices(name, 0, rows, sides):
        for side, value in zip(sides, values, strict=True):
            if not np.isfinite(value).all():
                raise UsageError(
                    f"model '{side.side.alias}': {name}", "holds NaN or infinity", "merge a checkpoint that is whole"
                )
        made = rule(values)
        yield values[0] if _all_same(values) else made


def slices(name: str, start: int, stop: int, sides: Sequence[Weights]) -> Iterator[list[Floats]]:
    """Rows start to stop of a tensor of each model, at most `SLICE` values of each (or one row) at a time."""
    step = max(1, SLICE // max(1, sides[0].entry(name).columns))
    for begin in range(start, stop, step):
        yield [side.read(name, begin, min(stop, begin + step)) for side in sides]


def _all_same(values: Sequence[Floats]) -> bool:
    first = values[0].view(np.uint32)
    return all(np.array_equal(first, other.view(np.uint32)) for other in values[1:])


def _rule(name: str, rows: int, sides: Sequence[Weights], recipe: Recipe) -> Rule:
    weights = recipe.weights or ()
    match recipe.method:
        case "linear":
            return lambda values: rules.linear(values, weights)
        case "wise-ft":
            alpha = _known(recipe.alpha)
            return lambda values: rules.interpolate(values[0], values[1], alpha)
        case "slerp":
            factors = _angle(name, rows, sides, _known(recipe.alpha))
            return lambda values: rules.weighed(values[0], values[1], factors)
        case "ties":
            return _ties(name, rows, sides, recipe)
        case "dare" | "dare-ties":
            return _dare(name, len(sides), recipe)
        case other:
            raise ValueError(f"no rule for full weights: {other}")


def _angle(name: str, rows: int, sides: Sequence[Weights], alpha: float) -> tuple[float, float]:
    dot, first, second = [], [], []
    for a, b in slices(name, 0, rows, sides):
        x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        dot.append(float(x @ y))
        first.append(float(x @ x))
        second.append(float(y @ y))
    return rules.slerp_factors(math.fsum(dot), math.sqrt(math.fsum(first)), math.sqrt(math.fsum(second)), alpha)


def _ties(name: str, rows: int, sides: Sequence[Weights], recipe: Recipe) -> Rule:
    weights, lam, density = recipe.weights or (), _known(recipe.lam), _known(recipe.density)
    keep = keep_count(rows * sides[0].entry(name).columns, density)
    cuts: list[Cut | None] = [None] * (len(sides) - 1)
    if density < 1.0:
        cuts = [cut(lambda side=side: _deltas(name, rows, sides[0], side), keep) for side in sides[1:]]  # type: ignore[misc]

    def rule(values: list[Floats]) -> Floats:
        trimmed = []
        for i, value in enumerate(values[1:]):
            delta, where = value - values[0], cuts[i]
            if where is not None:
                delta, cuts[i] = trim(delta, where)
            trimmed.append(delta)
        return rules.ties(values[0], trimmed, weights, lam)

    return rule


def _deltas(name: str, rows: int, base: Weights, side: Weights) -> Iterator[Floats]:
    for first, second in slices(name, 0, rows, (base, side)):
        yield second - first


def _dare(name: str, models: int, recipe: Recipe) -> Rule:
    weights, lam, density = recipe.weights or (), _known(recipe.lam), _known(recipe.density)
    draws = [generator(recipe.seed or 0, name, i) for i in range(1, models)]
    consensus = rules.ties if recipe.method == "dare-ties" else rules.dare

    def rule(values: list[Floats]) -> Floats:
        dropped = []
        for value, rng in zip(values[1:], draws, strict=True):
            delta = value - values[0]
            if density < 1.0:
                delta = rules.drop(delta, rng.random(delta.shape, dtype=np.float32) < density, density)
            dropped.append(delta)
        return consensus(values[0], dropped, weights, lam)

    return rule


def generator(seed: int, name: str, model: int) -> np.random.Generator:
    """Of the entries of one tensor of one model: neither other tensors nor the size of slices change its draws."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{model}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))


def _known(value: float | None) -> float:
    """A field that `recipes` has filled for this method."""
    if value is None:
        raise ValueError("the recipe lacks a parameter of its method")
    return value
