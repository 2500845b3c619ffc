"""One behaviour measure of a base and a candidate: both values, the change with its interval, and a sentence.

Intervals are paired: items (or their clusters) are what varies, both sides of an item together. They are those of
`paired.ClusterEstimator` on one value per cluster. For a mean that value is the item's own difference. For a
statistic of all items at once (a ratio, a count of distinct things) it is the jackknife's influence value,

    u_g = theta + (G - 1) (mean of theta without one - theta without g)

(Efron and Tibshirani 1993, chapters 11.5 and 22.3; Efron and Stein 1981: the jackknife's variance of a symmetric
statistic is on average too large, never too small). Resampling whole texts would not do: a text drawn twice is a
repetition that no model made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.bootstrap import cluster_sums, studentised_draws
from forgetbench.analysis.paired import ClusterEstimator, ScoreEstimator, interval
from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.types import ItemKey

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

DRAWS = 2_000
"""Bootstrap draws. Read by eye and decides nothing: fewer than a gate's change has."""
SLIGHT, SLIGHT_PART = 0.01, 0.05
"""A change is slight up to a point of a share; in another unit up to .01, or a twentieth of the base's value."""
_TINY = 1e-12
"""Differences below this are rounding."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of both sides. All differences are candidate minus base, in `unit`."""

    name: str
    """Stable key, such as `opening_concentration_4`."""
    base: float | None
    """None where the measure has no value for the base alone: `delta` is then of the candidate's value itself."""
    candidate: float
    delta: Interval | None
    """95 % paired interval of candidate minus base. None: one cluster alone, or no way to make one (see `note`)."""
    unit: str
    """nats, bits/byte, share, tokens, ..."""
    reading: str
    """One sentence for people."""
    note: str = ""
    """What a reader must know before believing it."""
    examples: tuple[str, ...] = ()
    n: int = 0
    """Items it was computed from."""
    higher_is: str = ""
    """What a higher value means, such as `more varied`."""

    @property
    def difference(self) -> float:
        """Candidate minus base; the candidate's value where the base has none."""
        return self.candidate - (self.base or 0.0)

    @property
    def proven(self) -> bool:
        """Whether the 95 % interval leaves 0 out: wrong in about 1 of 20 measures where nothing changed."""
        return self.delta is not None and (self.delta.low > 0.0 or self.delta.high < 0.0)

    @property
    def slight(self) -> bool:
        """Whether the change is too small to be told before others, proven or not: any fine-tune moves every weight,
        and thousands of tokens prove a change of a hundredth of a nat. A convention of ours, no theory."""
        part = 0.0 if self.unit == "share" else SLIGHT_PART * abs(self.base or 0.0)
        return abs(self.difference) <= max(SLIGHT, part)


def cluster_of(key: ItemKey, cluster: str | None) -> str:
    """What counts as one where items are not paired by a comparison: an item's cluster, else its content.

    `pairing` keeps copies apart where a task has few of them. Here they are one everywhere: that is never too sure,
    and an item's cluster does not hang on which others are looked at.
    """
    return f"cluster/{cluster}" if cluster is not None else f"{key.task}/{key.content_hash}"


def labels_of(clusters: Sequence[Hashable | None] | None, n: int) -> Integers:
    """(n,) codes, equal where the clusters are; None (the whole or an entry): an item is a cluster of its own.

    Raises ValueError where there is not one entry an item.
    """
    if clusters is None:
        return np.arange(n, dtype=np.int64)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters of {n} items")
    codes: dict[Hashable, int] = {}
    found = [codes.setdefault((i,) if c is None else (c, ""), len(codes)) for i, c in enumerate(clusters)]
    return np.asarray(found, dtype=np.int64)


def mean_change(base: Floats, candidate: Floats, labels: Integers, *, seed: int = 0) -> Interval | None:
    """95 % interval of mean(candidate - base) over items; arrays (n,) of any range, in the order of one another.

    Width zero where no item differs at all: an unbounded measure has no scale on which an unseen item could weigh.
    """
    d = candidate - base
    largest = float(np.abs(d).max(initial=0.0))
    if largest <= _TINY:
        return _nothing() if np.unique(labels).size > 1 else None
    return _interval(d, labels, largest, seed)


def share_change(base: Floats, candidate: Floats, labels: Integers, *, seed: int = 0) -> Interval | None:
    """The same for values in [0, 1], such as an item's share of samples that stopped.

    Never of width zero: n items without a change bound the change by about 3 / n (see `paired`). Single 0/1 answers
    of items that are independent have Tango's score interval.
    """
    d = candidate - base
    if np.unique(labels).size == d.size > 1 and np.isin(base, (0, 1)).all() and np.isin(candidate, (0, 1)).all():
        return interval(ScoreEstimator(int((d > 0).sum()), int((d < 0).sum()), d.size))
    return _interval(d, labels, 1.0, seed)


def mean_share(
    values: Floats, labels: Integers, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Interval | None:
    """Interval of the mean of one side's values (n,) in [0, 1]; None: one cluster alone.

    Bootstrap-t over clusters, never narrower than Clopper and Pearson's exact interval (1934) of mean * m successes in
    m trials. m is the effective size: items over the design effect, which counts one more cluster that differs whole.
    Alone the bootstrap covers 84 % (nominal 95) of 30 items that are right nine times in ten: where none or one of
    them differs from the rest resampling shows too little.
    """
    from scipy.special import betaincinv

    lattice = cluster_sums(values, labels).lattice()
    groups, n, mean = lattice.groups, lattice.items, min(max(lattice.mean, 0.0), 1.0)
    if groups < 2:
        return None
    tail = (1.0 - level) / 2.0
    robust = lattice.robust_se**2 + float(lattice.counts @ lattice.sizes**2) / groups / n**2
    size = (mean * (1.0 - mean) + 1.0 / groups) / robust
    right, wrong = mean * size, (1.0 - mean) * size
    low = float(betaincinv(right, wrong + 1.0, tail)) if mean > 0.0 else 0.0
    high = float(betaincinv(right + 1.0, wrong, 1.0 - tail)) if mean < 1.0 else 1.0
    upper, lower = np.quantile(studentised_draws(lattice, draws, seed), [1.0 - tail, tail])
    se = lattice.regularised_se
    low, high = min(low, mean - float(upper) * se), max(high, mean - float(lower) * se)
    return clipped(Interval(low, high, level, "cluster bootstrap-t with Clopper-Pearson guard"), 0.0, 1.0)


def totals_change(
    totals: Floats, labels: Integers, statistic: Callable[[Floats], Floats], *, share: bool = False, seed: int = 0
) -> Interval | None:
    """95 % interval of a smooth statistic of totals over items: a ratio of sums, exp of a mean, ...

    totals: (n, p), what each item adds. `statistic` takes sums (rows, p) and gives the change (rows,). `share`: see
    `influence_change`.
    """
    sums = cluster_totals(totals, labels)
    if len(sums) < 2:
        return None
    whole = sums.sum(axis=0)
    return influence_change(float(statistic(whole[None, :])[0]), statistic(whole - sums), share=share, seed=seed)


def influence_change(change: float, without: Floats, *, share: bool = False, seed: int = 0) -> Interval | None:
    """95 % interval of `change` from its values without each cluster, `without` (G,).

    share: it is the change of a share, in [-1, 1]. Its interval is, and as in `share_change` it is never of width
    zero: that no cluster moves it bounds what an unseen one could do by their number alone.
    """
    groups = without.size
    if groups < 2:
        return None
    values = change + (groups - 1) * (without.mean() - without)
    if share:
        found = _interval(values, np.arange(groups), max(1.0, float(np.abs(values).max())), seed)
        return clipped(found, -1.0, 1.0)
    return mean_change(np.zeros(groups), values, np.arange(groups), seed=seed)


def cluster_totals(totals: Floats, labels: Integers) -> Floats:
    """(G, p) sums of (n, p) by label."""
    _, codes = np.unique(labels, return_inverse=True)
    made = np.zeros((int(codes.max()) + 1, totals.shape[1]))
    np.add.at(made, codes, totals)
    return made


def at_least_zero(found: Interval | None) -> Interval | None:
    """The interval of what cannot be negative, such as a divergence."""
    return clipped(found, 0.0, math.inf)


def clipped(found: Interval | None, low: float, high: float) -> Interval | None:
    """The interval of what lies in [low, high]."""
    return found and replace(found, low=min(max(found.low, low), high), high=min(max(found.high, low), high))


def _interval(d: Floats, labels: Integers, scale: float, seed: int) -> Interval | None:
    fit = ClusterEstimator(d, labels, scale=scale, draws=DRAWS, seed=seed)
    return interval(fit) if fit.n_clusters > 1 else None


def _nothing() -> Interval:
    return Interval(0.0, 0.0, method="no item differs")


def doubt(found: Interval | None) -> str:
    """What a reading ends with: how sure the difference is."""
    if found is None:
        return ""
    if found.low == found.high == 0.0:
        return "; no item differs"
    return "" if found.low > 0.0 or found.high < 0.0 else "; not proven to differ"


def percent(share: float) -> str:
    """`61.0 %`."""
    return f"{100.0 * share:.1f} %"
