"""Score inference for the difference of two paired proportions.

Source: T. Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17:891-908. Wald intervals collapse to zero width when no pair
is discordant and claim certainty from ten identical answers; the score interval does not.

Nothing here needs whole numbers: clustered data enter with an effective sample size (`paired.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

_STEPS = 64


class Table(NamedTuple):
    """A paired 2x2 table, as far as the difference needs it."""

    gained: float
    """Pairs 0 -> 1."""
    forgotten: float
    """Pairs 1 -> 0."""
    n: float
    """All pairs."""


def null_variance(table: Table, delta: float) -> float:
    """Variance of one pair's difference under H0: P(0->1) - P(1->0) = delta."""
    gained, forgotten, n = table
    a = 2.0 * n
    b = (2.0 * n - gained + forgotten) * delta - gained - forgotten
    c = -forgotten * delta * (1.0 - delta)
    q = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    return 2.0 * q + delta * (1.0 - delta)


def score_statistic(table: Table, delta: float, correction: float = 0.0) -> float:
    """Tango's z of H0: P(0->1) - P(1->0) = delta, -1 < delta < 1; asymptotically standard normal under H0.

    The variance uses the maximum-likelihood estimate of P(1->0) under H0 (his equation 26). Infinite where H0
    is impossible given the table (no variance left, yet a difference).

    `correction` (pairs) moves the difference towards H0: 1 makes the test keep its level where nearly all
    discordant pairs point one way (exact size at most .042 at a nominal .05; the plain test has up to .088).
    """
    variance = null_variance(table, delta) * table.n
    difference = table.gained - table.forgotten - table.n * delta
    difference = math.copysign(max(abs(difference) - correction, 0.0), difference)
    if variance <= 0.0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / math.sqrt(variance)


def score_bound(table: Table, z: float) -> float:
    """The delta at which the statistic equals z; +1.645: the one-sided 95 % lower bound, -1.645: the upper.

    By bisection: the statistic falls as delta rises.
    """
    low, high = -1.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if score_statistic(table, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
