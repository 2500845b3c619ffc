"""Tests of change for paired data, and corrections for many of them. Pure functions.

Sources: Fagerland, Lydersen and Laake (2013), "The McNemar test for binary matched-pairs data: mid-p and
asymptotic are better than exact conditional"; Miller (2024), "Adding Error Bars to Evals" (arXiv 2411.00640);
Holm (1979), "A simple sequentially rejective multiple test procedure"; Benjamini and Hochberg (1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.bootstrap import cluster_sums
from forgetbench.analysis.tango import Table, score_statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def normal_quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def mcnemar_exact(forgotten: int, gained: int) -> float:
    """Two-sided exact conditional p of no change: binomial(forgotten + gained, 1/2)."""
    from scipy.special import bdtr

    n, k = forgotten + gained, min(forgotten, gained)
    return 1.0 if n == 0 else min(1.0, 2.0 * float(bdtr(k, n, 0.5)))


def mcnemar_midp(forgotten: int, gained: int) -> float:
    """Two-sided mid-p: the exact p less the probability of what was seen (Fagerland et al., equation 4)."""
    from scipy.special import bdtr

    n, k = forgotten + gained, min(forgotten, gained)
    if n == 0 or forgotten == gained:
        # Both tails hold the whole distribution; 2 P(X <= k) - P(X = k) is 1 there by symmetry.
        return 1.0
    below = float(bdtr(k - 1, n, 0.5)) if k else 0.0
    return min(1.0, below + float(bdtr(k, n, 0.5)))


class PairedT(NamedTuple):
    """Mean difference and its standard error. `se` is nan with fewer than two clusters."""

    delta: float
    se: float
    t: float
    df: int
    p_value: float


def paired_t(d: Floats, clusters: NDArray[np.int64] | None = None) -> PairedT:
    """Paired t test of mean(d) = 0, d (n,) being candidate - base; cluster-robust SE of Miller (2024).

    Without clusters this is the usual paired t test: sd(d) / sqrt(n). Degrees of freedom: clusters less one.
    """
    from scipy.special import stdtr

    labels = np.arange(len(d)) if clusters is None else clusters
    groups = cluster_sums(np.asarray(d, dtype=np.float64), labels).lattice()
    count = groups.groups
    if count < 2:
        return PairedT(groups.mean, math.nan, math.nan, 0, math.nan)
    se = groups.robust_se
    if se == 0.0:
        if groups.mean == 0.0:
            return PairedT(0.0, 0.0, 0.0, count - 1, 1.0)
        return PairedT(groups.mean, 0.0, math.copysign(math.inf, groups.mean), count - 1, 0.0)
    t = groups.mean / se
    return PairedT(groups.mean, se, t, count - 1, 2.0 * float(stdtr(count - 1, -abs(t))))


def non_inferiority(forgotten: int, gained: int, n: int, margin: float) -> float:
    """One-sided p of H0: mean(s - b) <= -margin, Tango's score test; small: a larger loss is excluded."""
    return normal_cdf(-score_statistic(Table(gained, forgotten, n), -margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: reject where <= alpha (family-wise error alpha)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p values, in the order given (false discovery rate)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    adjusted = [0.0] * len(p_values)
    running = 1.0
    for place, i in enumerate(order):
        running = min(running, p_values[i] * len(order) / (len(order) - place))
        adjusted[i] = running
    return adjusted
