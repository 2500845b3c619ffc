"""Coverage of Tango's score interval without drawing: the probabilities of all tables that hold the truth, summed.

The interval holds a value exactly where the score statistic there lies within +-1.96, since the statistic falls as the
value rises (tango.py), so that no interval has to be inverted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom

from forgetbench.analysis.significance import normal_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

_REACH = 9.0
"""Standard deviations beyond which a count is left out: 1e-18 of the probability."""


def exact_coverage(n: int, lost: float, gained: float, level: float = 0.95) -> float:
    """P(the interval holds gained - lost) for n pairs, with the chances of 1 -> 0 and 0 -> 1 of a pair."""
    delta, moved = gained - lost, gained + lost
    totals = _near(n, moved)
    of_total = binom.pmf(totals, n, moved)
    z = normal_quantile(1.0 - (1.0 - level) / 2.0)
    held = 0.0
    for total, share in zip(totals.tolist(), of_total.tolist(), strict=True):
        up = np.arange(total + 1) if gained > 0.0 else np.zeros(1, dtype=np.int64)
        down = total - up
        chance = binom.pmf(up, total, gained / moved)
        held += share * float(chance[np.abs(_statistic(up, down, n, delta)) <= z].sum())
    return held


def _near(n: int, p: float) -> Integers:
    spread = _REACH * np.sqrt(n * p * (1.0 - p)) + 1.0
    return np.arange(max(0, int(n * p - spread)), min(n, int(n * p + spread)) + 1)


def _statistic(up: Integers, down: Integers, n: int, delta: float) -> Floats:
    """`tango.score_statistic` for many tables."""
    b = (2.0 * n - up + down) * delta - up - down
    c = -down * delta * (1.0 - delta)
    q = (np.sqrt(np.maximum(b * b - 8.0 * n * c, 0.0)) - b) / (4.0 * n)
    variance = n * (2.0 * q + delta * (1.0 - delta))
    difference = up - down - n * delta
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0.0, difference / np.sqrt(variance), np.copysign(np.inf, difference))
    return np.where((variance <= 0.0) & (difference == 0.0), 0.0, z)
