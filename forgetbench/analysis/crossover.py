"""pass@k of both sides for k = 1..N, and the k at which the curves cross.

A fine-tune may answer better once and reach less in many tries (arXiv 2504.10478): pass@1 rises while pass@k falls.
Two curves that are equal cross by chance alone, so that a crossing is called proven only where both ends of the
curves differ for certain and in opposite directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.measured import Measured, cluster_totals, percent
from forgetbench.analysis.passk import PassAtK, PassChange, mean_pass_at_k, pass_at_k, pass_at_k_change

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Counts = tuple[Integers, Integers]

DRAWS = 2_000
_TINY = 1e-12
"""Changes below this are rounding."""
_CHUNK = 4_000_000
"""Weights held at once while drawing: 32 MB."""


class Crossover(NamedTuple):
    """Where the curves change sides."""

    k: int | None
    """k*: smallest k at which the side that is ahead first (where the two are first unequal) is behind; None: it never
    is."""
    low: int | None
    """95 % interval of k* among the draws that cross at all; None where none does."""
    high: int | None
    probability: float
    """Share of the item-bootstrap draws whose curves cross in the direction that the data show (either, where they
    show none). Some 0.3 to 0.5 where the curves are equal: no proof by itself."""
    proven: bool
    """Both 95 % intervals, of the first and of the last change, leave 0 out, on opposite sides. False alarms: at most
    1 in 20, since both must err at once (an intersection of tests)."""


class PassCurves(NamedTuple):
    """One entry for each k."""

    ks: tuple[int, ...]
    base: tuple[PassAtK, ...]
    candidate: tuple[PassAtK, ...]
    change: tuple[PassChange, ...]
    crossover: Crossover


def pass_curves(
    base: Counts,
    candidate: Counts,
    *,
    ks: Sequence[int] | None = None,
    clusters: Integers | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> PassCurves:
    """Curves of both sides with intervals over items, their paired change, and the crossover.

    Each side is (trials, successes), (items,). `ks`: ascending; all of 1..N where left out, N the least number of
    samples of an item. Raises ValueError where an item has fewer samples than the last k.
    """
    least = int(min(np.min(base[0]), np.min(candidate[0])))
    wanted = tuple(range(1, least + 1)) if ks is None else tuple(ks)
    if not wanted or list(wanted) != sorted(set(wanted)):
        raise ValueError("the k of a curve must ascend")
    labels = np.arange(len(base[0])) if clusters is None else np.asarray(clusters)
    sides = [tuple(mean_pass_at_k(*side, k, clusters=labels, seed=seed) for k in wanted) for side in (base, candidate)]
    change = tuple(pass_at_k_change(base, candidate, k, clusters=labels, seed=seed) for k in wanted)
    differences = np.column_stack([pass_at_k(*candidate, k) - pass_at_k(*base, k) for k in wanted])
    crossing = _crossover(wanted, change, differences, labels, draws, seed)
    return PassCurves(wanted, sides[0], sides[1], change, crossing)


def crossing_of(deltas: Floats) -> Integers:
    """(rows,) index of the first k at which a change has the opposite sign of the first one that is not 0; -1: none.

    deltas: (rows, ks), the change of pass@k at each k.
    """
    signs = np.sign(np.where(np.abs(deltas) < _TINY, 0.0, deltas))
    rows = np.arange(len(signs))
    ahead = signs[rows, (signs != 0).argmax(axis=1)]
    opposite = (signs == -ahead[:, None]) & (ahead != 0)[:, None]
    return np.where(opposite.any(axis=1), opposite.argmax(axis=1), -1)


def _crossover(
    ks: Sequence[int], change: Sequence[PassChange], differences: Floats, labels: Integers, draws: int, seed: int
) -> Crossover:
    means = _drawn_means(differences, labels, draws, seed)
    observed = np.asarray([[c.delta for c in change]])
    index, drawn = int(crossing_of(observed)[0]), crossing_of(means)
    crosses = drawn >= 0
    if index >= 0:
        side = np.sign(observed[0, index])
        crosses &= np.sign(means[np.arange(len(means)), np.maximum(drawn, 0)]) == side
    found = np.asarray(ks)[drawn[crosses]]
    low, high = np.quantile(found, [0.025, 0.975], method="nearest") if found.size else (None, None)
    first, last = change[0].interval, change[-1].interval
    proven = (first.low > 0.0 and last.high < 0.0) or (first.high < 0.0 and last.low > 0.0)
    return Crossover(
        k=int(ks[index]) if index >= 0 else None,
        low=None if low is None else int(low),
        high=None if high is None else int(high),
        probability=float(crosses.mean()),
        proven=proven,
    )


def _drawn_means(differences: Floats, labels: Integers, draws: int, seed: int) -> Floats:
    """(draws, ks) means over resampled clusters, the same clusters for every k."""
    totals = cluster_totals(np.column_stack([differences, np.ones(len(labels))]), labels)
    groups = len(totals)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // groups)
    made = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        sums = rng.multinomial(groups, np.full(groups, 1.0 / groups), size=size) @ totals
        made.append(sums[:, :-1] / sums[:, -1:])
    return np.concatenate(made)


def pass_measures(curves: PassCurves, n: int) -> tuple[Measured, ...]:
    """The ends of the curves as measures, the second with the sentence about k*. `n`: items."""
    made = []
    for i in dict.fromkeys((0, len(curves.ks) - 1)):
        c = curves.change[i]
        made.append(
            Measured(
                name=f"pass_at_{c.k}",
                base=c.base,
                candidate=c.candidate,
                delta=c.interval,
                unit="share",
                reading=f"pass@{c.k} is {percent(c.candidate)}, base {percent(c.base)}",
                note=crossover_reading(curves) if i else "",
                n=n,
                higher_is="more items solved",
            )
        )
    return tuple(made)


def crossover_reading(curves: PassCurves) -> str:
    """One sentence on where the curves cross and how sure that is."""
    found = curves.crossover
    if found.k is None:
        return f"the curves do not cross up to k = {curves.ks[-1]}"
    # Curves may begin with a tie, which puts nobody ahead.
    first = next(c for c in curves.change if abs(c.delta) >= _TINY)
    better = "candidate" if first.delta > 0.0 else "base"
    between = f" (95 % of the crossings between {found.low} and {found.high})" if found.low is not None else ""
    sure = "proven" if found.proven else f"not proven: {percent(found.probability)} of the resampled sets cross"
    return f"the {better} is ahead at k = {first.k} and behind from k = {found.k} on{between}; {sure}"
