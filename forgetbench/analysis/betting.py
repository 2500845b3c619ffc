"""Bets on a stream of items: tests and bounds of a paired change that hold at any stopping time.

Whoever looks at a fixed-n test after every block of items and stops when it likes what it sees errs far more often
than alpha. Here a gambler bets against a hypothesis about the mean change instead. If the hypothesis is true, the
game is unfair to the gambler and the wealth, which starts at 1, reaches 1/alpha with probability alpha at most,
however often one looks and whenever one stops.

SOURCE: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", JRSS B 86:1:
section 4.1 (capital processes), Theorem 1 (confidence sequences by testing each mean), section 4.4 and Appendix B
(a mean over a grid of constant bets). Ville (1939) for the level at any stopping time.

Units are clusters (an item without one is its own), in an order that was fixed before any answer was seen and has
nothing to do with the answers. Unit i has the sum s_i of its items' differences (candidate - base, each in [-1, 1])
and their number k_i <= K. Against H0: mean change <= mu the gambler bets on

    X_i = (s_i - mu k_i) / K, which lies in [-(1 + mu), 1 - mu] and has no positive mean under H0,
    wealth_t = mean over the bets L of prod_{i <= t} (1 + L X_i).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PLANNED_DISCORDANCE = (0.07, 0.12, 0.20)
"""Shares of items that change sides for which the bets are best; fixed in advance, never fitted to the answers."""
_CAP = 0.95
"""Largest share of the wealth that one unit may lose."""
_HALVINGS = 50
"""Of the interval [-1, 1], for a bound: an error of 2e-15."""


def bets(margin: float, largest: int = 1) -> tuple[float, ...]:
    """The grid of constant bets for a margin (a fraction of 1) and clusters of up to `largest` items.

    Growth is fastest near mean(X) / mean(X^2), which is about margin / discordance for both legs of the gate: a
    change of 0 is one margin away from -margin, and a loss of 3/2 margins is one margin away from -margin/2.
    """
    return tuple(largest * margin / psi for psi in PLANNED_DISCORDANCE)


def log_wealth(sums: Floats, sizes: Floats, mu: float, grid: Sequence[float], *, largest: float = 1.0) -> Floats:
    """(..., units) natural log of the wealth after each unit, in the bet against H0: mean change <= mu.

    sums, sizes: (..., units) s_i and k_i of the module's text; one stream, or several side by side. A bet is capped
    at 0.95 / (1 + mu), so that no unit can take more than 95 % of the wealth; wealth falls as mu rises, capped or not.
    """
    # From the lower end of X's range up: 1 + L X = 1 + L ((s + k) / K - (1 + mu) k / K), falling in mu for each L.
    x = (sums - mu * sizes) / largest
    paths = [np.cumsum(np.log1p(min(bet, _CAP / (1.0 + mu)) * x), axis=-1) for bet in grid]
    mixed: Floats = np.logaddexp.reduce(paths, axis=0) - math.log(len(grid))
    return mixed


class Stop(NamedTuple):
    """Where the first of the two bets was won."""

    leg: Literal["PASS", "FAIL"] | None
    """None: neither, after all units."""
    units: int
    """Units used: up to and with the one that settled it, or all."""


def first_boundary(
    sums: Floats,
    sizes: Floats,
    *,
    margin: float,
    pass_alpha: float = 0.05,
    fail_alpha: float = 0.05,
    largest: float = 1.0,
    least: int = 1,
) -> Stop:
    """Which leg of the gate is decided first (notes on metrics, 'Sequential').

    PASS is a bet against H0: mean change <= -margin, FAIL one against H0: mean change >= -margin/2. No change
    satisfies both hypotheses, so alpha is not split between them; fail_alpha is the policy's alpha over the number of
    deciding rules. least: items below which nothing is decided.
    """
    grid = bets(margin, round(largest))
    legs = (
        ("PASS", log_wealth(sums, sizes, -margin, grid, largest=largest), pass_alpha),
        ("FAIL", log_wealth(-sums, sizes, margin / 2.0, grid, largest=largest), fail_alpha),
    )
    enough = np.cumsum(sizes) >= least
    found: list[tuple[int, Literal["PASS", "FAIL"]]] = []
    for leg, path, alpha in legs:
        won = np.flatnonzero((path >= -math.log(alpha)) & enough)
        if won.size:
            found.append((int(won[0]) + 1, "PASS" if leg == "PASS" else "FAIL"))
    if not found:
        return Stop(None, sums.size)
    # Both at one unit cannot be: no difference moves the mean up and down.
    units, first = min(found)
    return Stop(first, units)


class BettingEstimator:
    """An `Estimator` (analysis/paired.py) whose bounds and p values hold at whatever unit the stream ends.

    A bound is the best one of all units so far (a confidence sequence, running intersection), a p value is one over
    the largest wealth so far. delta is where the stream stands and, after a stop, exaggerates the change (a true -5
    read -6.3): only the bounds are to be trusted.
    """

    method = "betting confidence sequence"
    test = "betting e-process"

    def __init__(
        self, sums: Floats, sizes: Floats, *, margin: float, largest: float = 1.0, total: int | None = None
    ) -> None:
        """At least one unit. total: items that there are, asked or not."""
        self._sums, self._sizes = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
        if np.any(np.abs(self._sums) > self._sizes + 1e-9) or np.any(self._sizes > largest):
            raise ValueError("a unit's differences must lie in [-1, 1], and no unit be larger than `largest`")
        self._largest, self._grid = largest, bets(margin, round(largest))
        self.n, self.n_clusters = round(float(self._sizes.sum())), self._sums.size
        self.total = self.n if total is None else total
        self.delta = float(self._sums.sum() / self._sizes.sum())
        spread = self._sums - self.delta * self._sizes
        self.unit_variance = float((spread**2).sum() / self.n)

    def _best(self, sums: Floats, mu: float) -> float:
        return float(log_wealth(sums, self._sizes, mu, self._grid, largest=self._largest).max())

    def _above(self, sums: Floats, alpha: float) -> float:
        """The largest mu such that H0: mean <= mu is rejected at some unit; -1 where none is."""
        low, high = -1.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            if self._best(sums, middle) >= -math.log(alpha):
                low = middle
            else:
                high = middle
        return low

    def lower(self, alpha: float = 0.05) -> float:
        """One-sided (1 - alpha) lower bound of the mean change."""
        return self._above(self._sums, alpha)

    def upper(self, alpha: float = 0.05) -> float:
        return -self._above(-self._sums, alpha)

    def p_at_least(self, delta: float) -> float:
        """One-sided p of H0: the true change >= delta (small: it is proven to be less)."""
        return min(1.0, math.exp(-self._best(-self._sums, -delta)))

    def p_at_most(self, delta: float) -> float:
        """One-sided p of H0: the true change <= delta."""
        return min(1.0, math.exp(-self._best(self._sums, delta)))

    def p_value(self) -> float:
        """Two-sided p of no change: twice the smaller of the two."""
        return min(1.0, 2.0 * self.p_at_least(0.0), 2.0 * self.p_at_most(0.0))
