"""Inference on a weighted sum of paired changes: a usability score over several metrics, with its interval.

Source: G. Zou and A. Donner (2008), "Construction of confidence limits about effect measures: a general approach",
Statistics in Medicine 27:1693-1702 (MOVER: limits of a sum from the limits of its terms). With terms w_j d_j, w_j > 0,
and their limits l_j < d_j < u_j at the same level

    L = sum w_j d_j - sqrt( sum_jk r_jk w_j (d_j - l_j) w_k (d_k - l_k) ),   U likewise with u_j,

r_jk the correlation of d_j and d_k, 0 for different items. So a term in which nothing changed still adds the width that
its number of items leaves open, where a normal approximation of the whole would add none. A term's limits are those at
which its own one-sided p equals the level, continuity correction included (`paired.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.paired import Estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEPS = 40


class Term(NamedTuple):
    """One term: its weight and estimator, and the differences (n,) with their clusters (n,), shared by all terms."""

    weight: float
    fit: Estimator
    d: Floats
    clusters: NDArray[np.int64]


class WeightedEstimator:
    """An `Estimator` of sum w_j d_j; at least one term, weights above 0."""

    method = "MOVER over the terms' limits"
    test = "MOVER"

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = tuple(terms)
        self._correlation = correlation(terms)
        self.delta = math.fsum(t.weight * t.fit.delta for t in terms)
        self.n = sum(t.fit.n for t in terms)
        self.n_clusters = int(np.unique(np.concatenate([t.clusters for t in terms])).size)
        spread = np.asarray([t.weight * math.sqrt(t.fit.unit_variance / t.fit.n) for t in terms])
        self.unit_variance = float(spread @ self._correlation @ spread) * self.n
        self._limits: dict[tuple[int, float, bool], float] = {}

    def lower(self, alpha: float = 0.05) -> float:
        """One-sided (1 - alpha) lower bound."""
        return self.delta - self._width(alpha, below=True)

    def upper(self, alpha: float = 0.05) -> float:
        return self.delta + self._width(alpha, below=False)

    def p_at_least(self, delta: float) -> float:
        """One-sided p of H0: the true change >= delta: the level at which the upper bound comes down to it."""
        return 1.0 if delta <= self.delta else _level(lambda a: self.upper(a) < delta)

    def p_at_most(self, delta: float) -> float:
        return 1.0 if delta >= self.delta else _level(lambda a: self.lower(a) > delta)

    def p_value(self) -> float:
        return min(1.0, 2.0 * min(self.p_at_least(0.0), self.p_at_most(0.0)))

    def _width(self, alpha: float, *, below: bool) -> float:
        arms = [t.weight * abs(t.fit.delta - self._limit(j, alpha, below)) for j, t in enumerate(self._terms)]
        arm = np.asarray(arms)
        return math.sqrt(max(float(arm @ self._correlation @ arm), 0.0))

    def _limit(self, j: int, alpha: float, below: bool) -> float:
        key = (j, alpha, below)
        if key not in self._limits:
            self._limits[key] = _term_limit(self._terms[j].fit, alpha, below=below)
        return self._limits[key]


def _term_limit(fit: Estimator, alpha: float, *, below: bool) -> float:
    """The value nearest to the estimate that the term's own one-sided test at `alpha` rejects."""
    rejects: Callable[[float], bool] = (
        (lambda x: fit.p_at_most(x) <= alpha) if below else (lambda x: fit.p_at_least(x) <= alpha)
    )
    # Score tests live within (-1, 1); a continuous score may have a wider range, so its own bound counts as well.
    edge = min(-0.999999, fit.lower(alpha)) if below else max(0.999999, fit.upper(alpha))
    if not rejects(edge):
        return edge
    inside, outside = fit.delta, edge
    for _ in range(_STEPS):
        middle = (inside + outside) / 2.0
        inside, outside = (inside, middle) if rejects(middle) else (middle, outside)
    return outside


def _level(excludes: Callable[[float], bool]) -> float:
    """The smallest alpha at which a bound excludes a value, to three figures; 1 where none up to a half does.

    Errs upwards, as a p value should.
    """
    low, high = math.log(1e-12), math.log(0.5)
    if not excludes(0.5):
        return 1.0
    for _ in range(24):
        middle = (low + high) / 2.0
        low, high = (low, middle) if excludes(math.exp(middle)) else (middle, high)
    return math.exp(high)


def correlation(terms: Sequence[Term]) -> Floats:
    """(J, J) correlations of the terms' mean differences, from the clusters that they share.

    The influence of a cluster on a mean is the sum of its centred differences over n; clusters are independent. Terms
    without common clusters, or in which nothing varies, are uncorrelated. A negative correlation would narrow the
    interval and counts as none.
    """
    codes, index = np.unique(np.concatenate([t.clusters for t in terms]), return_inverse=True)
    influence = np.zeros((len(terms), codes.size))
    start = 0
    for j, term in enumerate(terms):
        own = index[start : start + term.d.size]
        start += term.d.size
        np.add.at(influence[j], own, (term.d - term.d.mean()) / term.d.size)
    covariance = influence @ influence.T
    spread = np.sqrt(np.diag(covariance))
    scale = np.outer(spread, spread)
    found = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 0.0)
    found = np.clip(found, 0.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found
