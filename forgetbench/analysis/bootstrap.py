"""Studentised cluster bootstrap of a mean over items, vectorised over the draws.

Sources: Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapters 12 (bootstrap-t) and 8;
Miller (2024), "Adding Error Bars to Evals" (arXiv 2411.00640), for clusters as the unit.

A draw takes G clusters with replacement. The mean depends on a draw only through how often each *distinct*
(sum, size) of a cluster was taken, so the draws are multinomial counts over that lattice: 14,042 items with
0/1 scores have 3 distinct values, not 14,042. Continuous scores have no such lattice and are drawn by index.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_CHUNK = 250_000
"""Numbers held at once while drawing: 2 MB, which a core's own cache holds."""
_THREADS = 2
_WORTH_THREADS = 10_000_000
"""Numbers to draw from which threads pay."""


class Lattice(NamedTuple):
    """Clusters by the distinct (sum, size) they have, in ascending order; arrays of shape (kinds,).

    All that inference on a mean needs of the data, so that counts can be simulated in place of items.
    """

    sums: Floats
    sizes: Floats
    counts: NDArray[np.int64]

    @property
    def groups(self) -> int:
        return int(self.counts.sum())

    @property
    def items(self) -> float:
        return float(self.counts @ self.sizes)

    @property
    def mean(self) -> float:
        """Mean over items (not over clusters)."""
        return math.fsum((self.counts * self.sums).tolist()) / self.items

    @property
    def residual_squares(self) -> float:
        """Sum over clusters of (sum - mean * size)^2: the core of the cluster-robust variance."""
        return float(self.counts @ (self.sums - self.mean * self.sizes) ** 2)

    @property
    def typical_square(self) -> float:
        """Mean square of the cluster sums that are not zero: what one more such cluster adds to the variance."""
        changed = int(self.counts[self.sums != 0.0].sum())
        return float(self.counts @ self.sums**2) / changed if changed else 0.0

    @property
    def robust_se(self) -> float:
        """Cluster-robust standard error of the mean, with the factor G/(G-1) of a sample; nan for one cluster."""
        return self._se(self.residual_squares) if self.groups > 1 else math.nan

    @property
    def regularised_se(self) -> float:
        """The same with one typical cluster more: never zero where anything changed."""
        return self._se(self.residual_squares + self.typical_square)

    def _se(self, squares: float) -> float:
        return math.sqrt(squares * self.groups / max(self.groups - 1, 1)) / self.items


class Clusters(NamedTuple):
    """Sums and sizes of the clusters, each of shape (G,)."""

    sums: Floats
    sizes: Floats

    def lattice(self) -> Lattice:
        order = np.lexsort((self.sizes, self.sums))
        sums, sizes = self.sums[order], self.sizes[order]
        first = np.flatnonzero(np.r_[True, (np.diff(sums) != 0.0) | (np.diff(sizes) != 0.0)])
        return Lattice(sums[first], sizes[first], np.diff(np.r_[first, sums.size]).astype(np.int64))


def cluster_sums(values: Floats, clusters: NDArray[np.int64]) -> Clusters:
    """Sum and size of each cluster of `values` (n,), `clusters` (n,) being labels of any numbering."""
    _, codes = np.unique(clusters, return_inverse=True)
    # Rounded, since the order of a sum's terms shows in its last digit and would split one value into two.
    sums: Floats = np.bincount(codes, weights=values).astype(np.float64).round(12)
    return Clusters(sums, np.bincount(codes).astype(np.float64))


def studentised_draws(lattice: Lattice, draws: int, seed: int) -> Floats:
    """`draws` values of t* = (mean* - mean) / se*, sorted; read only.

    se* counts one more typical cluster (`Lattice.typical_square`) than was drawn, as the se it is used with must
    (`Lattice.regularised_se`): with few discordant items a draw may hold none of them, and dividing by its se* of
    zero would make the interval infinite. The order of the items changes nothing.

    Remembered: a task, its task_type and the gate's rule about it often hold the same items.
    """
    return _remembered(lattice.sums.tobytes(), lattice.sizes.tobytes(), lattice.counts.tobytes(), draws, seed)


@lru_cache(maxsize=32)
def _remembered(sums_: bytes, sizes_: bytes, counts_: bytes, draws: int, seed: int) -> Floats:
    lattice = Lattice(np.frombuffer(sums_), np.frombuffer(sizes_), np.frombuffer(counts_, dtype=np.int64))
    sums, sizes, counts = lattice
    mean, extra = lattice.mean, lattice.typical_square
    if extra == 0.0:
        nothing = np.zeros(draws)
        nothing.setflags(write=False)
        return nothing
    residuals = sums - mean * sizes
    # Of a draw with shift h = mean* - mean: sum (s - mean* m)^2 = sum r^2 - 2 h sum r m + h^2 sum m^2.
    r, m, rr, rm, mm = _draw_totals(residuals, sizes, counts, draws, seed).T
    shift = r / m
    squares = np.maximum(rr - 2.0 * shift * rm + shift**2 * mm, 0.0)
    found = np.sort(shift * m / np.sqrt(squares + extra))
    found.setflags(write=False)
    return found


def forget_draws() -> None:
    """Empty the memory of `studentised_draws`, so that a benchmark times the first time."""
    _remembered.cache_clear()


def mean_draws(lattice: Lattice, draws: int, seed: int) -> Floats:
    """`draws` means over items of resampled clusters, sorted: the plain bootstrap, without a standard error."""
    totals = _draw_totals(lattice.sums, lattice.sizes, lattice.counts, draws, seed)
    return np.sort(totals[:, 0] / totals[:, 1])


def _draw_totals(values: Floats, sizes: Floats, counts: NDArray[np.int64], draws: int, seed: int) -> Floats:
    """Totals over G clusters drawn with replacement, (draws, 5): of v, m, v^2, v m and m^2.

    values (kinds,), sizes (kinds,); `counts`: how many clusters have each pair of them.
    """
    groups = int(counts.sum())
    kinds = counts.size
    totals = np.empty((draws, 5))
    if kinds * 8 <= groups:  # a binomial draw costs about eight index draws
        moments = np.column_stack([values, sizes, values**2, values * sizes, sizes**2])
        rng = np.random.default_rng(seed)
        step = max(1, _CHUNK // kinds)
        for start in range(0, draws, step):
            size = min(step, draws - start)
            totals[start : start + size] = rng.multinomial(groups, counts / groups, size=size) @ moments
        return totals
    every, weights = np.repeat(values, counts), np.repeat(sizes, counts)
    same_size = np.ptp(sizes) == 0.0
    step = max(1, _CHUNK // groups)
    starts = range(0, draws, step)

    def fill(start: int, own: np.random.SeedSequence) -> None:
        rows = totals[start : start + step]
        taken = np.random.default_rng(own).integers(0, groups, size=(len(rows), groups))
        v = every.take(taken, mode="clip")  # clip: no check of bounds, which costs as much as the rest
        rows[:, 0], rows[:, 2] = v.sum(axis=1), np.einsum("ij,ij->i", v, v)
        if same_size:  # no need to look it up
            size = float(sizes[0])
            rows[:, 1], rows[:, 3], rows[:, 4] = size * groups, rows[:, 0] * size, size**2 * groups
        else:
            m = weights.take(taken, mode="clip")
            rows[:, 1], rows[:, 3] = m.sum(axis=1), np.einsum("ij,ij->i", v, m)
            rows[:, 4] = np.einsum("ij,ij->i", m, m)

    # Every chunk has a seed of its own, so that the threads (numpy lets go of the lock) change nothing.
    seeds = np.random.SeedSequence(seed).spawn(len(starts))
    if groups * draws < _WORTH_THREADS:
        for start, own in zip(starts, seeds, strict=True):
            fill(start, own)
    else:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(fill, starts, seeds))
    return totals
