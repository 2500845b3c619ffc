"""What a comparison of n items can see. Pure functions; all drops and margins are fractions of 1.

Normal approximations with variances as the tests use them: psi (share of discordant items) where nothing
changed, psi - delta^2 where the true change is delta. They reproduce the table in the notes on metrics,
section 2 (Miller 2024, arXiv 2411.00640, section 5, gives the same approach). For continuous scores or
clusters give n times the variance of the mean difference in place of psi.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from forgetbench.analysis.significance import normal_cdf, normal_quantile
from forgetbench.analysis.tango import Table, null_variance

PSI = 0.2
"""Discordance to plan for: base to SFT was measured at 10 to 36 %."""


def minimum_detectable_drop(
    n: float, psi: float = PSI, *, alpha: float = 0.05, power: float = 0.8, sides: int = 1
) -> float:
    """Smallest true drop that is proven with probability `power`; 1.0 where even a total loss is not.

    Solves delta sqrt(n) = z_alpha sqrt(psi) + z_power sqrt(psi - delta^2); a drop larger than psi raises psi
    to itself, as no more can be lost than is discordant.
    """
    z_alpha = normal_quantile(1.0 - alpha / sides)
    z_power = normal_quantile(power)

    def excess(delta: float) -> float:
        discordant = max(psi, delta)
        noise = z_alpha * math.sqrt(discordant) + z_power * math.sqrt(max(discordant - delta**2, 0.0))
        return delta * math.sqrt(n) - noise

    if n <= 0 or excess(1.0) <= 0.0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if excess(middle) < 0.0 else (low, middle)
    return high


def p_pass(n: float, margin: float, psi: float = PSI, *, delta: float = 0.0, alpha: float = 0.05) -> float:
    """P(the one-sided lower bound > -margin) when the true change is `delta` (Tango's test of -margin)."""
    if n <= 0:
        return 0.0
    z = normal_quantile(1.0 - alpha)
    clearance = (delta + margin) * math.sqrt(n) - z * math.sqrt(_null_variance(psi, delta, -margin))
    return _probability(clearance, psi - delta**2)


def p_fail(n: float, margin: float, psi: float = PSI, *, delta: float = 0.0, alpha: float = 0.05) -> float:
    """P(H0: mean d >= -margin/2 is rejected at level alpha) when the true change is `delta`.

    Of this rule alone: Holm over J rules rejects no more often than this at alpha, and at least at alpha / J.
    """
    if n <= 0:
        return 0.0
    z = normal_quantile(1.0 - alpha)
    excess = (-margin / 2.0 - delta) * math.sqrt(n) - 1.0 / math.sqrt(n)  # the continuity correction of one pair
    return _probability(excess - z * math.sqrt(_null_variance(psi, delta, -margin / 2.0)), psi - delta**2)


def joint(probabilities: Sequence[float]) -> float:
    """Product over rules: the sets' items are different, so their sampling errors are taken as independent.

    That holds for the noise of items; a candidate that lost one ability has often lost others, so that given
    *some* loss the true joint probability is higher. 0.0 without rules: an empty set never passes.
    """
    return math.prod(probabilities) if probabilities else 0.0


def _null_variance(psi: float, delta: float, null: float) -> float:
    discordant = max(psi, abs(delta))
    return null_variance(Table((discordant + delta) / 2.0, (discordant - delta) / 2.0, 1.0), null)


def _probability(numerator: float, variance: float) -> float:
    if variance <= 0.0:
        return 1.0 if numerator > 0.0 else 0.0
    return normal_cdf(numerator / math.sqrt(variance))
