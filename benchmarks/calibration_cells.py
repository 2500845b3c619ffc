"""Simulated comparisons for benchmarks/calibration.py: counts are drawn, never items.

A cell is n items, a discordance psi (chance that one sample of each side disagrees) and K samples an item. Per cell and
true change a pool of comparisons is drawn; a comparison is the number of items at each difference, one multinomial
draw, and goes through the same estimators as real data (`forgetbench/analysis/paired.py`).

K = 1: differences -1, 0, 1. K = 10: half of psi comes from items that really changed sides (rate 1 to 0 or 0 to 1),
half from items that changed nothing and flicker, their rate uniform in [0, 1]; the rest agree always. So half of the
variance of single flips is noise; published pairs of base and fine-tune have 26 to 52 % (tests/analysis/test_noise.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy.special import stdtr, stdtrit
from scipy.stats import binom

from forgetbench.analysis.paired import ClusterEstimator, ScoreEstimator, interval
from forgetbench.analysis.significance import normal_quantile
from forgetbench.analysis.tango import Table, score_statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

ALPHA = 0.05
MARGINS = {164: 0.05, 541: 0.05, 817: 0.04, 1319: 0.03, 14042: 0.01}
"""The default margins of the sets with so many items (HumanEval, IFEval, TruthfulQA, GSM8K, MMLU)."""
DISCORDANCE = (0.05, 0.10, 0.20, 0.30)

Guards = Mapping[float, tuple[float, float]]
"""By null: p of H0 change >= null, p of H0 change <= null."""


@dataclass(frozen=True, slots=True)
class Cell:
    n: int
    psi: float
    samples: int

    @property
    def margin(self) -> float:
        return MARGINS[self.n]


class Population(NamedTuple):
    """P(an item has this difference); values ascending in [-1, 1]."""

    values: Floats
    shares: Floats

    @property
    def square(self) -> float:
        """Mean square of an item's difference: psi for K = 1, what power.py wants in its place for K > 1."""
        return float(self.shares @ self.values**2)


def population(cell: Cell, delta: float) -> Population | None:
    """None where so large a change does not fit into psi."""
    moved = cell.psi if cell.samples == 1 else cell.psi / 2.0
    if abs(delta) > moved + 1e-12:
        return None
    lost, gained = max((moved - delta) / 2.0, 0.0), max((moved + delta) / 2.0, 0.0)
    if cell.samples == 1:
        return Population(np.array([-1.0, 0.0, 1.0]), np.array([lost, 1.0 - lost - gained, gained]))
    k = cell.samples
    flicker = 3.0 * (cell.psi - moved)  # E[2 p (1 - p)] = 1/3 for p uniform
    shares = flicker * _flicker(k)
    shares[0] += lost
    shares[-1] += gained
    shares[k] += 1.0 - lost - gained - flicker
    return Population(np.arange(-k, k + 1) / k, shares)


@lru_cache
def _flicker_law(k: int) -> tuple[float, ...]:
    rates = (np.arange(400) + 0.5) / 400
    counts = np.asarray(binom.pmf(np.arange(k + 1)[:, None], k, rates[None, :]))
    joint = counts @ counts.T / rates.size
    return tuple(float(np.trace(joint, offset)) for offset in range(-k, k + 1))


def _flicker(k: int) -> Floats:
    """P(difference of two success counts of k at one rate), the rate uniform; (2k + 1,)."""
    return np.array(_flicker_law(k))


class Comparison(Protocol):
    """One simulated comparison; what the gate and the intervals say about it, as cheaply as they allow."""

    def covers(self, true: float) -> bool:
        """Whether the two-sided 95 % interval holds the truth."""
        ...

    def passes(self, margin: float) -> bool:
        """lower(ALPHA) > -margin."""
        ...

    def rejects(self, null: float, level: float) -> bool:
        """p of H0: change >= null is at most `level`."""
        ...

    def holds(self, true: float, level: float) -> bool:
        """Whether the upper bound at `level` is not below the truth."""
        ...


class Single:
    """K = 1: a bound clears a value just when Tango's test of it rejects (tests/analysis/test_calibration.py)."""

    __slots__ = ("fit", "table")

    def __init__(self, gained: int, forgotten: int, n: int) -> None:
        self.table = Table(gained, forgotten, n)
        self.fit = ScoreEstimator(gained, forgotten, n)

    def covers(self, true: float) -> bool:
        return abs(score_statistic(self.table, true)) <= normal_quantile(0.975)

    def passes(self, margin: float) -> bool:
        return score_statistic(self.table, -margin) > normal_quantile(1.0 - ALPHA)

    def rejects(self, null: float, level: float) -> bool:
        return self.fit.p_at_least(null) <= level

    def holds(self, true: float, level: float) -> bool:
        return score_statistic(self.table, true) >= normal_quantile(level)


class Sampled:
    """K > 1: the bootstrap runs only where the score guard, which is never narrower, does not settle the question."""

    def __init__(self, values: Floats, counts: Integers, guards: Guards, *, draws: int, seed: int) -> None:
        self._made = values, counts, draws, seed
        self._guards = guards

    @cached_property
    def fit(self) -> ClusterEstimator:
        values, counts, draws, seed = self._made
        return ClusterEstimator.of_counts(values, counts, draws=draws, seed=seed)

    def _guard(self, null: float) -> tuple[float, float]:
        """The guard's p of (change >= null, change <= null)."""
        known = self._guards.get(null)
        return known if known else (self.fit.guard_p_at_least(null), self.fit.guard_p_at_most(null))

    def covers(self, true: float) -> bool:
        if min(self._guard(true)) >= 0.025:
            return True
        found = interval(self.fit)
        return found.low <= true <= found.high

    def passes(self, margin: float) -> bool:
        return self._guard(-margin)[1] < ALPHA and self.fit.lower(ALPHA) > -margin

    def rejects(self, null: float, level: float) -> bool:
        return self._guard(null)[0] <= level and self.fit.p_at_least(null) <= level

    def holds(self, true: float, level: float) -> bool:
        return self._guard(true)[0] >= level or self.fit.upper(level) >= true


def guards(cell: Cell, drawn: Integers, values: Floats, nulls: Sequence[float]) -> list[Guards]:
    """What `ClusterEstimator`'s score guard says of every row of `drawn`, all rows at once."""
    n = cell.n
    mean, square = drawn @ values / n, drawn @ values**2 / n
    discordance = np.maximum(square, np.abs(mean))
    effective = n * ((discordance - mean**2) / n + n**-2) / ((square - mean**2) / (n - 1) + n**-2)
    gained, forgotten = (discordance + mean) / 2.0 * effective, (discordance - mean) / 2.0 * effective
    found = []
    for null in nulls:
        linear = (2.0 * effective - gained + forgotten) * null - gained - forgotten
        root = np.sqrt(np.maximum(linear**2 + 8.0 * effective * forgotten * null * (1.0 - null), 0.0))
        variance = 2.0 * (root - linear) / (4.0 * effective) + null * (1.0 - null)
        difference = gained - forgotten - effective * null
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.where(difference == 0.0, 0.0, difference / np.sqrt(np.maximum(variance, 0.0) * effective))
        found.append(np.column_stack([stdtr(n - 1, z), stdtr(n - 1, -z)]).tolist())
    return [dict(zip(nulls, map(tuple, row), strict=True)) for row in zip(*found, strict=True)]


def pool(
    cell: Cell, drawn: Integers, values: Floats, *, draws: int, nulls: Sequence[float] = ()
) -> Iterator[Comparison]:
    """A Comparison per row of `drawn` (comparisons, kinds): items at each of `values`. nulls: changes that will be
    tested, whose guards are then worked out together.
    """
    if cell.samples == 1:
        made: dict[tuple[int, int], Single] = {}
        for forgotten, _, gained in drawn.tolist():
            key = gained, forgotten
            if key not in made:
                made[key] = Single(gained, forgotten, cell.n)
            yield made[key]
        return
    known = guards(cell, drawn, values, nulls) if nulls else [{}] * len(drawn)
    for seed, (counts, guard) in enumerate(zip(drawn, known, strict=True)):
        yield Sampled(values, counts, guard, draws=draws, seed=seed)


def blocked(family: Sequence[Comparison], null: float, margin: float) -> bool:
    """Whether the gate says FAIL: Holm rejects something (so its first step does) and not every set passes."""
    level = ALPHA / len(family)
    return any(c.rejects(null, level) for c in family) and not all(c.passes(margin) for c in family)


def t_coverage(cell: Cell, drawn: Integers, law: Population, true: float) -> float:
    """Coverage of mean +- t * se over the rows of `drawn` (comparisons, kinds)."""
    n, values = cell.n, law.values
    means, squares = drawn @ values / n, drawn @ values**2 / n
    se = np.sqrt(np.maximum(squares - means**2, 0.0) / (n - 1))
    return float((np.abs(means - true) <= float(stdtrit(n - 1, 0.975)) * se).mean())


def percentile_coverage(cell: Cell, drawn: Integers, law: Population, true: float, *, draws: int) -> float:
    """Coverage of the percentile bootstrap (`forgetbench/analysis/robust.py`) over the rows of `drawn`."""
    rng = np.random.default_rng([cell.n, round(1000 * cell.psi), cell.samples, 7])
    hits = 0
    for counts in drawn:
        seen = counts > 0
        again = rng.multinomial(cell.n, counts[seen] / cell.n, size=draws) @ law.values[seen] / cell.n
        low, high = np.quantile(again, [0.025, 0.975])
        hits += bool(low <= true <= high)
    return hits / len(drawn)
