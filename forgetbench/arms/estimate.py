"""A mean over seeds with its two sources of doubt kept apart: other seeds, and other items.

- **Seeds**: t interval over the seeds' means (Student 1908; df = seeds - 1). What another training run would give on
  the same items.
- **Items**: bootstrap over clusters of items with the seeds held fixed (Efron and Tibshirani 1993, chapter
  13; Miller 2024, arXiv 2411.00640, for clusters as the unit). What other items would show of the same checkpoints.
- **Both**: variances added (seeds and items are drawn independently), Welch-Satterthwaite degrees of freedom
  (Satterthwaite 1946). The part of the noise that is one checkpoint on one item is in both variances, so this errs on
  the wide side.

Clusters are drawn from all of them, whichever task_types they touch: a fact that is lost is lost wherever it is asked,
and one that alone touches its set of task_types has to vary too. A score is a macro average over fixed
task_types, and those are no sample: where a draw leaves one without items, a cluster of it is put in. Of n clusters
n - 1 are drawn, so that the variance is that of a sample, n / (n - 1) times the plain one (McCarthy and Snowden 1985),
and the percentiles are those of Student's t with n - 1 degrees of freedom (Hesterberg 2015, "expanded" percentiles).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

DRAWS = 2000
LEVEL = 0.95
_CHUNK = 250
"""Draws weighed at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, a fraction of 1."""

    value: float
    seed_values: tuple[float, ...]
    seed_se: float | None
    """None, as the interval: one seed alone."""
    item_se: float
    seeds: Interval | None
    items: Interval
    both: Interval
    """With one seed alone that of the items: it says nothing of other runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The items that every checkpoint of every arm was asked, and how they make up a score. Arrays (m,)."""

    cells: Ints
    """Task_type-and-view of each item, numbered from 0; each counts the same in the mean."""
    clusters: Ints
    n_cells: int

    @property
    def weights(self) -> Floats:
        """(m,) weight of each item in the macro average; they add up to 1."""
        sizes = np.bincount(self.cells, minlength=self.n_cells)
        return np.asarray(1.0 / (self.n_cells * sizes[self.cells]), dtype=np.float64)

    @property
    def n_clusters(self) -> int:
        return int(np.unique(self.clusters).size)


def macro_draws(design: Design, values: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Bootstrap means of `values` (m, k): (draws, k). The same seed draws the same items, whatever the values are."""
    m, k = values.shape
    indicator = np.zeros((design.n_cells, m))
    indicator[design.cells, np.arange(m)] = 1.0
    counts = _cluster_counts(design, draws, seed)
    _, codes = np.unique(design.clusters, return_inverse=True)
    found = np.empty((draws, k))
    for start in range(0, draws, _CHUNK):
        weights = counts[start : start + _CHUNK][:, codes]
        total = np.zeros((len(weights), k))
        for cell in range(design.n_cells):
            at = np.flatnonzero(design.cells == cell)
            own = weights[:, at]
            total += (own @ values[at]) / own.sum(axis=1, keepdims=True)
        found[start : start + _CHUNK] = total / design.n_cells
    return found


def _cluster_counts(design: Design, draws: int, seed: int) -> Floats:
    """How often each cluster is drawn, (draws, clusters)."""
    names, codes = np.unique(design.clusters, return_inverse=True)
    n = names.size
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(max(n - 1, 1), np.full(n, 1.0 / n), size=draws).astype(np.float64)
    for cell in range(design.n_cells):
        members = np.unique(codes[design.cells == cell])
        empty = np.flatnonzero(counts[:, members].sum(axis=1) == 0)
        counts[empty, rng.choice(members, empty.size)] = 1.0
    return counts


def estimate(seed_values: Sequence[float], item_draws: Floats, n_clusters: int, level: float = LEVEL) -> Estimate:
    """From the value of each seed, and the bootstrap draws (draws,) of their mean.

    `n_clusters`: of the items; less one, the degrees of freedom of the items' variance.
    """
    value = math.fsum(seed_values) / len(seed_values)
    from scipy.special import ndtr, stdtrit

    tail = (1.0 - level) / 2.0
    wide = float(ndtr(stdtrit(max(n_clusters - 1, 1), tail)))
    low, high = (float(q) for q in np.quantile(item_draws, [wide, 1.0 - wide]))
    items = Interval(min(low, value), max(high, value), level, "item bootstrap")
    item_se = float(item_draws.std())
    n = len(seed_values)
    if n == 1:
        return Estimate(value, tuple(seed_values), None, item_se, None, items, items)
    seed_se = float(np.std(seed_values, ddof=1)) / math.sqrt(n)
    reach = float(stdtrit(n - 1, 1.0 - tail)) * seed_se
    seeds = Interval(value - reach, value + reach, level, "t over seeds")
    variance = seed_se**2 + item_se**2
    if variance == 0.0:
        both = Interval(value, value, level, "seeds and items")
    else:
        parts = (seed_se**4 / (n - 1), item_se**4 / max(n_clusters - 1, 1))
        reach = float(stdtrit(variance**2 / sum(parts), 1.0 - tail)) * math.sqrt(variance)
        both = Interval(value - reach, value + reach, level, "seeds and items")
    return Estimate(value, tuple(seed_values), seed_se, item_se, seeds, items, both)
