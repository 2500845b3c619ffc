"""The one place where an interval, a one-sided bound and a p value of a paired change are made.

Which one is used (`estimator`):

- **Tango score** (`tango.py`) for one 0/1 sample per item and items that are independent. One-sided p values
  (what blocks a checkpoint) carry a continuity correction of one pair, which keeps their level; bounds carry
  none.
- **Cluster bootstrap** for items that share a fact or passage, for the mean of K samples, for continuous
  scores: bootstrap-t over clusters (`bootstrap.py`), never narrower than a score interval whose sample size
  is divided by the design effect (Rao and Scott 1992, "A simple method for the analysis of clustered binary
  data"; degrees of freedom: clusters less one). The design effect counts one more cluster that flipped
  whole. Percentile and plain bootstrap-t intervals covered 85 to 93 % (nominal 95) with 40 to 100 clusters
  and a skewed loss; this one holds 94 % or more (tests/analysis/test_calibration.py), at equal width from
  some 150 clusters on.

Where nothing changed at all a bootstrap has width zero. The score interval then gives z^2 / (G + z^2) for G
clusters, about the rule of three: identical runs pass a margin only if the number of items supports it.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from forgetbench.analysis.bootstrap import Lattice, cluster_sums, studentised_draws
from forgetbench.analysis.significance import mcnemar_midp, normal_cdf, normal_quantile
from forgetbench.analysis.tango import Table, score_bound, score_statistic
from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 10_000


class Estimator(Protocol):
    """Inference on delta = mean(candidate - base)."""

    delta: float
    n: int
    n_clusters: int
    unit_variance: float
    """n times the variance of delta: what one independent item would contribute."""
    method: str
    test: str

    def lower(self, alpha: float = 0.05) -> float:
        """One-sided (1 - alpha) lower bound of delta."""
        ...

    def upper(self, alpha: float = 0.05) -> float: ...

    def p_at_least(self, delta: float) -> float:
        """One-sided p of H0: the true change >= delta (small: it is proven to be less)."""
        ...

    def p_at_most(self, delta: float) -> float:
        """One-sided p of H0: the true change <= delta."""
        ...

    def p_value(self) -> float:
        """Two-sided p of no change."""
        ...


def interval(estimator: Estimator, level: float = 0.95) -> Interval:
    """Equal-tailed two-sided interval."""
    alpha = (1.0 - level) / 2.0
    return Interval(estimator.lower(alpha), estimator.upper(alpha), level, estimator.method)


class ScoreEstimator:
    """Tango's score test and its inversion, for independent 0/1 pairs."""

    method = "Tango score"
    test = "McNemar mid-p"

    def __init__(self, gained: int, forgotten: int, n: int) -> None:
        self._table = Table(gained, forgotten, n)
        self.n = self.n_clusters = n
        self.delta = (gained - forgotten) / n
        self.unit_variance = (gained + forgotten) / n - self.delta**2

    def lower(self, alpha: float = 0.05) -> float:
        return score_bound(self._table, normal_quantile(1.0 - alpha))

    def upper(self, alpha: float = 0.05) -> float:
        return score_bound(self._table, normal_quantile(alpha))

    def p_at_least(self, delta: float) -> float:
        return normal_cdf(score_statistic(self._table, delta, correction=1.0))

    def p_at_most(self, delta: float) -> float:
        return normal_cdf(-score_statistic(self._table, delta, correction=1.0))

    def p_value(self) -> float:
        return mcnemar_midp(int(self._table.forgotten), int(self._table.gained))


class ClusterEstimator:
    """Bootstrap-t over clusters, never narrower than the score interval at the effective sample size.

    `d` (n,) may have any range; `scale` is the largest difference a single item can show (1 for scores in
    [0, 1]) and sets how much an unseen flip may weigh.
    """

    method = "cluster bootstrap-t with score guard"
    test = "cluster bootstrap"

    def __init__(
        self, d: Floats, clusters: NDArray[np.int64], *, scale: float = 1.0, draws: int = DRAWS, seed: int = 0
    ) -> None:
        unit = np.asarray(d, dtype=np.float64) / scale
        lattice = cluster_sums(unit, clusters).lattice()
        self._set(lattice, float((unit**2).mean()), scale=scale, draws=draws, seed=seed)

    @classmethod
    def of_counts(
        cls, values: Floats, counts: NDArray[np.int64], *, scale: float = 1.0, draws: int = DRAWS, seed: int = 0
    ) -> Self:
        """The same estimator from how many independent items have each difference; values (kinds,), ascending.

        With many items on few values (K samples) that is far cheaper than building the items.
        """
        seen = counts > 0
        unit = (np.asarray(values, dtype=np.float64)[seen] / scale).round(12)
        lattice = Lattice(unit, np.ones(unit.size), counts[seen].astype(np.int64))
        made = cls.__new__(cls)
        made._set(lattice, float(lattice.counts @ unit**2) / lattice.groups, scale=scale, draws=draws, seed=seed)
        return made

    def _set(self, lattice: Lattice, square: float, *, scale: float, draws: int, seed: int) -> None:
        """`square`: mean over items of the squared difference."""
        self.n = round(lattice.items)
        self.n_clusters = lattice.groups
        self._scale = scale
        self._lattice = lattice
        self._resampling = draws, seed
        self._mean = lattice.mean
        self.delta = self._mean * scale
        self._degenerate = self.n_clusters < 2
        self._se = lattice.regularised_se
        robust = lattice.robust_se
        self.unit_variance = (robust**2 if math.isfinite(robust) else 1.0) * self.n * scale**2
        self._table = self._effective_table(square, robust)

    @cached_property
    def _draws(self) -> Floats:
        """Drawn when first asked for: a test that the score alone settles never is."""
        return studentised_draws(self._lattice, *self._resampling)

    def _effective_table(self, square: float, se: float) -> Table:
        """A 2x2 table with this mean and, by its size, this variance (size: n over the design effect)."""
        if self._degenerate:
            return Table(0.0, 0.0, 1.0)
        mean, lattice = self._mean, self._lattice
        discordance = max(square, abs(mean))
        independent = max(discordance - mean**2, 0.0) / self.n
        # One more cluster that flipped whole: n of its items, and its square, at an average size.
        robust = se**2 + float(lattice.counts @ lattice.sizes**2) / lattice.groups / self.n**2
        independent += lattice.items / lattice.groups / self.n**2
        n = self.n * independent / robust
        return Table((discordance + mean) / 2.0 * n, (discordance - mean) / 2.0 * n, n)

    def _t_to_z(self, alpha: float) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(self.n_clusters - 1, 1.0 - alpha))

    def _z_to_p(self, z: float) -> float:
        from scipy.special import stdtr

        return float(stdtr(self.n_clusters - 1, z))

    def lower(self, alpha: float = 0.05) -> float:
        if self._degenerate:
            return -self._scale
        bootstrap = self._mean - float(np.quantile(self._draws, 1.0 - alpha, method="higher")) * self._se
        score = score_bound(self._table, self._t_to_z(alpha))
        return max(min(bootstrap, score), -1.0) * self._scale

    def upper(self, alpha: float = 0.05) -> float:
        if self._degenerate:
            return self._scale
        bootstrap = self._mean - float(np.quantile(self._draws, alpha, method="lower")) * self._se
        score = score_bound(self._table, -self._t_to_z(alpha))
        return min(max(bootstrap, score), 1.0) * self._scale

    def guard_p_at_least(self, delta: float) -> float:
        """The score test alone, without a draw: p_at_least is never smaller."""
        return 1.0 if self._degenerate else self._z_to_p(score_statistic(self._table, delta / self._scale))

    def guard_p_at_most(self, delta: float) -> float:
        return 1.0 if self._degenerate else self._z_to_p(-score_statistic(self._table, delta / self._scale))

    def p_at_least(self, delta: float) -> float:
        return 1.0 if self._degenerate else max(self.guard_p_at_least(delta), self._tail(delta, "left"))

    def p_at_most(self, delta: float) -> float:
        return 1.0 if self._degenerate else max(self.guard_p_at_most(delta), self._tail(delta, "right"))

    def _tail(self, delta: float, side: str) -> float:
        """Share of the draws at or beyond the observed t; (k + 1) / (B + 1), so that it is never 0."""
        if self._se == 0.0:
            return 0.0  # nothing changed: the score test alone decides
        t = (self._mean - delta / self._scale) / self._se
        if side == "left":
            beyond = int(np.searchsorted(self._draws, t, side="right"))
        else:
            beyond = self._draws.size - int(np.searchsorted(self._draws, t, side="left"))
        return (beyond + 1) / (self._draws.size + 1)

    def p_value(self) -> float:
        return min(1.0, 2.0 * min(self.p_at_least(0.0), self.p_at_most(0.0)))


def estimator(
    base: Floats,
    candidate: Floats,
    clusters: NDArray[np.int64],
    *,
    single: bool,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimator:
    """The estimator for scores of shape (n,), n >= 1, in the order of one another.

    `single`: each score is one 0/1 sample. Clusters: equal labels belong together; MMLU's subjects are strata
    and must not be passed (they inflate the standard error 1.4 to 5.6 times, notes on metrics, section 2).
    """
    n = len(base)
    if n == 0:
        raise ValueError("no paired items")
    d = candidate - base
    independent = np.unique(clusters).size == n
    if single and independent:
        return ScoreEstimator(int((d > 0).sum()), int((d < 0).sum()), n)
    spread = float(max(base.max(), candidate.max()) - min(base.min(), candidate.min()))
    return ClusterEstimator(d, clusters, scale=max(1.0, spread), draws=draws, seed=seed)
