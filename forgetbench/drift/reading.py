"""What the figures come to, in sentences. They describe; none of them judges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from forgetbench.drift.types import Group, TensorDrift, TokenRows

HALF = 0.5
"""A part is named as the seat of the change where it holds at least this share of |dW|_F^2."""
CONCENTRATED = 1.5
"""... and at least this many times its share of the weights; else the change is spread evenly."""


class Part(NamedTuple):
    name: str
    share: float
    """Of |dW|_F^2."""
    weight: float
    """Of the parameters."""


def sentences(
    total: Group, tensors: Sequence[TensorDrift], tokens: Sequence[TokenRows], compared: float = 1.0
) -> tuple[str, ...]:
    """One sentence on size, one on place, one for each embedding on special tokens. `compared`: the share of all
    weights of the two that could be compared; the first sentence says it where it is not 1."""
    if not tensors:
        return ("No tensor could be compared.",)
    changed = [t for t in tensors if t.delta_norm]
    if compared < 1.0:
        # As `all but` where it would be rounded to 100 %.
        told = f"Only {percent(compared)}" if compared < 0.995 else f"All but {percent(1.0 - compared)}"
        told, weights = f"{told} of the weights could be compared: ", "those"
    else:
        told, weights = "", "The weights"
    if not changed:
        same = "those did not change." if told else "Every tensor that was compared is the same in both."
        return (told + same,)
    if total.relative is None:
        size = "those are all zeros in the base." if told else "The base's weights are all zeros."
    else:
        size = (
            f"{weights} moved by {percent(total.relative)} of their Frobenius norm, "
            f"in {len(changed)} of {len(tensors)} tensors."
        )
    return (told + size, _place(tensors), *(_tokens(rows) for rows in tokens))


def left_out(skipped: int, only_base: int, only_candidate: int) -> list[str]:
    """One note that counts what was not compared; none where everything was."""
    if not skipped + only_base + only_candidate:
        return []
    return [
        f"Tensors that were not compared: {skipped} of those that both have, {only_base} that only the base has, "
        f"{only_candidate} that only the candidate has."
    ]


def percent(share: float) -> str:
    """Two significant figures: 3.1 %, 0.042 %."""
    value = 100.0 * share
    if value == 0.0:
        return "0 %"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f} %" if digits <= 6 else f"{value:.1e} %"


def times(ratio: float) -> str:
    """14 times, 1.4 times, 0.14 times."""
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.2g}"


def _place(tensors: Sequence[TensorDrift]) -> str:
    parts = [p for p in _parts(tensors) if p.share >= max(HALF, CONCENTRATED * p.weight)]
    if not parts:
        return "The change is spread evenly: no layers or kind of matrix hold most of it in much less of the weights."
    # The part whose share of the change exceeds its share of the weights by most; of equals the shorter name.
    best = max(parts, key=lambda p: (round(p.share - p.weight, 6), -len(p.name)))
    return (
        f"Most of the change sits in {best.name}: {percent(best.share)} of the squared change "
        f"in {percent(best.weight)} of the weights."
    )


def _parts(tensors: Sequence[TensorDrift]) -> Iterator[Part]:
    """Every run of layers with one kind or all kinds, every kind and tensor outside of layers, and the whole."""
    delta = math.fsum(t.delta_norm**2 for t in tensors)
    count = sum(t.parameters for t in tensors)

    def part(name: str, squares: float, parameters: int) -> Part:
        return Part(name, squares / delta, parameters / count)

    yield part("all tensors", delta, count)
    stacks: dict[str, list[TensorDrift]] = {}
    for t in tensors:
        if t.place.layer is None:
            yield part(t.name.removesuffix(".weight"), t.delta_norm**2, t.parameters)
        else:
            stacks.setdefault(t.place.stack, []).append(t)
    for stack, members in stacks.items():
        prefix = "" if len(stacks) == 1 else f"{stack} "
        layers = sorted({t.place.layer for t in members if t.place.layer is not None})
        for kind in (None, *sorted({t.place.kind for t in members})):
            squares, parameters = [0.0] * len(layers), [0] * len(layers)
            for t in members:
                if kind in (None, t.place.kind) and t.place.layer is not None:
                    at = layers.index(t.place.layer)
                    squares[at] += t.delta_norm**2
                    parameters[at] += t.parameters
            for first in range(len(layers)):
                for last in range(first, len(layers)):
                    run = slice(first, last + 1)
                    where = _run(prefix, layers[first], layers[last], len(layers) == last - first + 1)
                    name = where if kind is None else f"{kind} of {where}"
                    yield part(name, math.fsum(squares[run]), sum(parameters[run]))


def _run(prefix: str, first: int, last: int, everything: bool) -> str:
    if everything and first != last:
        return f"all {prefix}layers"
    return f"{prefix}layer {first}" if first == last else f"{prefix}layers {first} to {last}"


def _tokens(rows: TokenRows) -> str:
    where = f"In {rows.tensor.removesuffix('.weight')}"
    if rows.ratio is None:
        if rows.special_moved == 0.0:
            return f"{where} no row moved."
        return f"{where} only the rows of special tokens moved ({rows.special} of {rows.special + rows.others})."
    return (
        f"{where} the {rows.special} special tokens moved {times(rows.ratio)} times as far as the rest "
        f"({rows.special_moved:.2g} against {rows.others_moved:.2g} a row)."
    )
