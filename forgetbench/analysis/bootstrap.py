"""Studentised cluster bootstrap of a mean over items, vectorised over the draws.

Sources: Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapters 12 (bootstrap-t) and 8;
Miller (2024), "Adding Error Bars to Evals" (arXiv 2411.00640), for clusters as the unit.

A draw takes G clusters with replacement. The mean depends on a draw only through how often each *distinct*
(sum, size) of a cluster was taken, so the draws are multinomial counts over that lattice: 14,042 items with
0/1 scores have 3 distinct values, not 14,042. Continuous scores have no such lattice and are drawn by index.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_CHUNK = 2_000_000
"""Numbers held at once while drawing: 16 MB."""


class Clusters(NamedTuple):
    """Sums and sizes of the clusters, each of shape (G,)."""

    sums: Floats
    sizes: Floats

    @property
    def mean(self) -> float:
        """Mean over items (not over clusters)."""
        return math.fsum(self.sums.tolist()) / float(self.sizes.sum())

    @property
    def residual_squares(self) -> float:
        """Sum over clusters of (sum - mean * size)^2: the core of the cluster-robust variance."""
        return float(((self.sums - self.mean * self.sizes) ** 2).sum())


def cluster_sums(values: Floats, clusters: NDArray[np.int64]) -> Clusters:
    """Sum and size of each cluster of `values` (n,), `clusters` (n,) being labels of any numbering."""
    _, codes = np.unique(clusters, return_inverse=True)
    # Rounded, since the order of a sum's terms shows in its last digit and would split one value into two.
    sums: Floats = np.bincount(codes, weights=values).astype(np.float64).round(12)
    return Clusters(sums, np.bincount(codes).astype(np.float64))


def typical_square(sums: Floats) -> float:
    """Mean square of the cluster sums that are not zero: what one more such cluster adds to the variance."""
    nonzero = sums[sums != 0.0]
    return float((nonzero**2).mean()) if nonzero.size else 0.0


def studentised_draws(clusters: Clusters, draws: int, seed: int) -> Floats:
    """`draws` values of t* = (mean* - mean) / se*, sorted.

    se* counts one more typical cluster (`typical_square`) than was drawn, as the se it is used with must
    (`regularised_se`): with few discordant items a draw may hold none of them, and dividing by its se* of
    zero would make the interval infinite. The order of the items changes nothing.
    """
    lattice, counts = np.unique(np.column_stack(clusters), axis=0, return_counts=True)
    mean, extra = clusters.mean, typical_square(clusters.sums)
    if extra == 0.0:
        return np.zeros(draws)
    sums, sizes = lattice[:, 0], lattice[:, 1]
    residuals = sums - mean * sizes
    # Of a draw with shift h = mean* - mean: sum (s - mean* m)^2 = sum r^2 - 2 h sum r m + h^2 sum m^2.
    moments = np.column_stack([residuals, sizes, residuals**2, residuals * sizes, sizes**2])
    totals = _draw_totals(moments, counts, draws, np.random.default_rng(seed))
    r, m, rr, rm, mm = totals.T
    shift = r / m
    squares = np.maximum(rr - 2.0 * shift * rm + shift**2 * mm, 0.0)
    return np.sort(shift * m / np.sqrt(squares + extra))


def regularised_se(clusters: Clusters) -> float:
    """Cluster-robust standard error with one typical cluster added; with the factor G/(G-1) of a sample."""
    groups = clusters.sums.size
    squares = clusters.residual_squares + typical_square(clusters.sums)
    return float(np.sqrt(squares * groups / max(groups - 1, 1)) / clusters.sizes.sum())


def _draw_totals(moments: Floats, counts: NDArray[np.int64], draws: int, rng: np.random.Generator) -> Floats:
    """Totals (draws, moments) over G clusters drawn with replacement; `counts`: how many have each row."""
    groups = int(counts.sum())
    kinds = counts.size
    totals = np.empty((draws, moments.shape[1]))
    by_index = kinds * 8 > groups  # a binomial draw costs about eight index draws
    step = max(1, _CHUNK // (groups if by_index else kinds))
    shares = counts / groups
    members = np.repeat(np.arange(kinds, dtype=np.int32), counts)
    columns = [np.ascontiguousarray(moments[:, k]) for k in range(moments.shape[1])]
    same_size = np.ptp(moments[:, 1]) == 0.0
    for start in range(0, draws, step):
        stop = min(start + step, draws)
        if not by_index:
            totals[start:stop] = rng.multinomial(groups, shares, size=stop - start) @ moments
            continue
        taken = rng.integers(0, groups, size=(stop - start, groups), dtype=np.int32)
        if kinds < groups:
            taken = members[taken]
        for k, column in enumerate(columns):
            if same_size and k in (1, 4):  # every cluster has one size: no need to look it up
                totals[start:stop, k] = column[0] * groups
            elif same_size and k == 3:
                totals[start:stop, k] = totals[start:stop, 0] * columns[1][0]
            else:
                totals[start:stop, k] = column[taken].sum(axis=1)
    return totals
