"""From what a user asked for to checked recipes. Every mistake is one line that names the option."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, get_args

from forgetbench.errors import UsageError
from forgetbench.merging.types import AdapterMethod, Method, Recipe

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where a sweep looks when nothing else is asked."""


class _Uses(NamedTuple):
    weights: bool = False
    alpha: bool = False
    density: float | None = None
    """The default; None: no use for one."""
    lam: bool = False
    seed: bool = False
    rank: bool = False
    base: bool = False
    """Whether the first model is the base of task vectors and has no weight."""


_FULL: dict[str, _Uses] = {
    "linear": _Uses(weights=True),
    "slerp": _Uses(alpha=True),
    "ties": _Uses(weights=True, density=0.2, lam=True, base=True),  # the paper's k = 20 %, lambda = 1
    "dare": _Uses(weights=True, density=0.1, lam=True, seed=True, base=True),  # the paper's p = 0.9
    "dare-ties": _Uses(weights=True, density=0.1, lam=True, seed=True, base=True),
    "wise-ft": _Uses(alpha=True),
}
# Half of the entries: A and B are trimmed apart, so that their product keeps about a quarter.
_ADAPTERS: dict[str, _Uses] = {
    "linear": _Uses(weights=True),
    "cat": _Uses(weights=True),
    "svd": _Uses(weights=True, rank=True),
    "ties": _Uses(weights=True, density=0.5),
    "dare": _Uses(weights=True, density=0.5, seed=True),
    "dare-ties": _Uses(weights=True, density=0.5, seed=True),
}
assert set(_FULL) == set(get_args(Method))
assert set(_ADAPTERS) == set(get_args(AdapterMethod))


def recipes(
    method: str,
    models: int,
    *,
    adapters: bool = False,
    weights: Sequence[float] | None = None,
    alphas: Sequence[float] | None = None,
    density: float | None = None,
    lam: float | None = None,
    seed: int | None = None,
    rank: int | None = None,
) -> tuple[Recipe, ...]:
    """One recipe for each alpha (one in all for methods without). None: the method's default.

    Raises UsageError for an unknown method, an option it has no use for, a value outside of its range, and a number of
    models that it cannot merge.
    """
    table = _ADAPTERS if adapters else _FULL
    if method not in table:
        what = "adapters" if adapters else "full weights"
        raise UsageError("--method", f"'{method}' is no way to merge {what}", f"use one of {', '.join(table)}")
    uses = table[method]
    given = {"weights": weights, "alphas": alphas, "density": density, "lambda": lam, "seed": seed, "rank": rank}
    wanted = {
        "weights": uses.weights,
        "alphas": uses.alpha,
        "density": uses.density is not None,
        "lambda": uses.lam,
        "seed": uses.seed,
        "rank": uses.rank,
    }
    for option, value in given.items():
        if value is not None and not wanted[option]:
            raise UsageError(f"--{option}", f"has no part in {method}", "leave it out")
    _count(method, models, uses)
    shares = _weights(weights, models - 1 if uses.base else models) if uses.weights else None
    if uses.density is not None:
        density = uses.density if density is None else density
        if not 0.0 < density <= 1.0:
            raise UsageError("--density", f"{density:g} is not in (0, 1]", "give the share that is kept, such as 0.2")
    lam = 1.0 if uses.lam and lam is None else lam
    if lam is not None and not (math.isfinite(lam) and lam >= 0.0):
        raise UsageError("--lambda", f"{lam:g} is not a finite number from 0 on", "give a factor such as 1")
    seed = 0 if uses.seed and seed is None else seed
    if seed is not None and seed < 0:
        raise UsageError("--seed", f"{seed} is negative", "give a whole number from 0 on")
    if rank is not None and rank < 1:
        raise UsageError("--rank", f"{rank} is not positive", "give the rank of the merged adapter, such as 64")
    ways: tuple[float | None, ...] = _alphas(ALPHAS if alphas is None else alphas) if uses.alpha else (None,)
    name: Method | AdapterMethod = method  # type: ignore[assignment]  # one of the table's, which get_args checked
    return tuple(Recipe(name, shares, alpha, density, lam, seed, rank) for alpha in ways)


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """'0,.25,1' as numbers; None stays None. Raises UsageError for what is no number."""
    if text is None:
        return None
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            raise UsageError(option, f"'{part.strip()[:40]}' is not a number", "write numbers with commas") from None
    return tuple(found)


def _count(method: str, models: int, uses: _Uses) -> None:
    if uses.alpha and models != 2:
        raise UsageError("models", f"{models} were named, {method} goes from one to another", "name two")
    if models < 2:
        raise UsageError("models", f"{models} was named: there is nothing to merge", "name two or more, base first")


def _weights(given: Sequence[float] | None, count: int) -> tuple[float, ...]:
    shares = (1.0,) * count if given is None else tuple(given)
    if len(shares) != count:
        raise UsageError("--weights", f"are {len(shares)}, the models that are weighed {count}", "give one for each")
    bad = next((w for w in shares if not math.isfinite(w) or w < 0.0), None)
    if bad is not None:
        raise UsageError("--weights", f"{bad:g} is not a finite number from 0 on", "give shares such as 1,1")
    if not sum(shares) > 0.0:
        raise UsageError("--weights", "are all 0", "give one model a share")
    return shares


def _alphas(given: Sequence[float]) -> tuple[float, ...]:
    for alpha in given:
        if not 0.0 <= alpha <= 1.0:
            raise UsageError("--alphas", f"{alpha:g} is not in [0, 1]", "0 is the first model, 1 the second")
    found = tuple(a + 0.0 for a in given)  # -0 is 0
    if not found or len({f"{a:g}" for a in found}) != len(found):
        raise UsageError("--alphas", "name a value twice, or none", "give different values")
    return found
