"""The posterior of an item's success rates (p_b, p_s) from fresh samples of both sides, and its label.

"It flipped greedily" selects items: those at p = .5 flip most often although nothing was lost, and a flat prior would
take each item for one of its own kind. So the prior is estimated from the items themselves (empirical Bayes; Robbins
1956): the joint distribution of (p_b, p_s) over items that were selected in the same way, by EM on a grid (Laird
1978, JASA 73:805; as analysis/joint.py), with `STRENGTH` made-up items spread evenly over it (the mode under a
Dirichlet prior). The fresh samples are independent of the greedy answer that selected the item, given its rates, so
that fitting to selected items alone is no second use of the selection. Few items: nearly flat. Many: their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.passk import pass_at_k
from forgetbench.analysis.types import Interval
from forgetbench.causes.types import Count, Direction, Label, Options, Stability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GRID = 21
"""Points of each rate: 0, .05, ... 1."""
STRENGTH = 10.0
"""Items that the flat part of the prior weighs as much as."""
STEPS = 100
_HAIR = 1e-3
_EPS = 1e-9


def points() -> Floats:
    """(GRID,) the rates, 0 to 1."""
    return np.linspace(0.0, 1.0, GRID)


def likelihood(counts: Sequence[Count]) -> Floats:
    """(items, GRID) P(successes | rate) up to a factor of each item; the ends are moved in by a hair."""
    inner = points().clip(_HAIR, 1.0 - _HAIR)
    right = np.array([c.right for c in counts], dtype=np.float64)[:, None]
    n = np.array([c.n for c in counts], dtype=np.float64)[:, None]
    logs = right * np.log(inner) + (n - right) * np.log1p(-inner)
    values: Floats = np.exp(logs - logs.max(axis=1, keepdims=True))
    return values


def fit_prior(base: Sequence[Count], candidate: Sequence[Count], *, steps: int = STEPS) -> Floats:
    """(GRID, GRID) weights over (p_b, p_s), of the items given; flat where there are none."""
    flat = np.full((GRID, GRID), 1.0 / GRID**2)
    if not base:
        return flat
    b, s = likelihood(base), likelihood(candidate)
    weights = flat
    for _ in range(steps):
        expected = np.einsum("ig,gh,ih->i", b, weights, s, optimize=True)
        seen = weights * ((b / expected[:, None]).T @ s)
        weights = (seen + STRENGTH * flat) / (len(base) + STRENGTH)
    return weights


def posteriors(prior: Floats, base: Sequence[Count], candidate: Sequence[Count]) -> Floats:
    """(items, GRID, GRID) of each item, summing to 1."""
    joint = prior[None] * likelihood(base)[:, :, None] * likelihood(candidate)[:, None, :]
    values: Floats = joint / joint.sum(axis=(1, 2), keepdims=True)
    return values


def stability(posterior: Floats, base: Count, candidate: Count, direction: Direction, options: Options) -> Stability:
    """One item's posterior (GRID, GRID) in words. A gained flip is labelled with its sides exchanged.

    Raises ValueError where a side has no sample.
    """
    rates = points()
    d = rates[:, None] - rates[None, :]
    before, after = (posterior, d) if direction == "lost" else (posterior.T, d)
    held = (rates[:, None] >= options.high - _EPS) & (rates[None, :] <= options.low + _EPS)
    p_consistent = float(before[held].sum())
    p_lower = float(before[after > options.small + _EPS].sum())
    k = max(1, min(base.n, candidate.n) // 2)
    p_small = float(posterior[np.abs(d) <= options.small + _EPS].sum())
    return Stability(
        label=_label(p_consistent, p_lower, p_small, options.sure),
        base=base,
        candidate=candidate,
        base_rate=float((posterior.sum(axis=1) * rates).sum()),
        candidate_rate=float((posterior.sum(axis=0) * rates).sum()),
        loss=_interval(posterior, d, options.sure),
        p_consistent=p_consistent,
        p_lower=p_lower,
        p_small=p_small,
        pass_k=k,
        pass_base=_pass(base, k),
        pass_candidate=_pass(candidate, k),
    )


def _pass(count: Count, k: int) -> float:
    return float(pass_at_k(np.array([count.n]), np.array([count.right]), k)[0])


def _label(p_consistent: float, p_lower: float, p_small: float, sure: float) -> Label:
    if p_consistent >= sure:
        return "consistent"
    if p_lower >= sure:
        return "weakened"
    return "flicker" if p_small >= sure else "undetermined"


def _interval(posterior: Floats, d: Floats, level: float) -> Interval:
    order = np.argsort(d, axis=None, kind="stable")
    values, mass = d.ravel()[order], np.cumsum(posterior.ravel()[order])
    tail = (1.0 - level) / 2.0
    low, high = (float(values[min(int(np.searchsorted(mass, q)), values.size - 1)]) for q in (tail, 1.0 - tail))
    return Interval(low, high, level, "posterior, empirical Bayes")
