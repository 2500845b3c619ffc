"""What several rules together can decide, and what more samples of an item buy. Pure functions.

Normal approximations like those of `power.py`. Items of different rules are different, so that their sampling errors
are taken as independent. Sources: Berger (1982), "Multiparameter hypothesis testing and acceptance sampling" (the
intersection-union test that a PASS is); Holm (1979), whose first step decides whether anything is rejected at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from forgetbench.analysis.noise import Noise
from forgetbench.analysis.power import PSI, minimum_detectable_drop, p_fail, p_pass
from forgetbench.analysis.significance import normal_cdf, normal_quantile


class Planned(NamedTuple):
    """One required rule, as planned: fractions of 1."""

    n: int
    margin: float
    delta: float = 0.0
    """The true change to be reckoned with; below 0: a loss."""
    psi: float = PSI
    """Share of discordant items, or n times the variance of the mean difference for K samples."""


class Chances(NamedTuple):
    """Probabilities of the three verdicts; they add up to 1."""

    p_pass: float
    p_fail: float
    p_inconclusive: float


def verdict_chances(rules: Sequence[Planned], *, alpha: float = 0.05) -> Chances:
    """How likely each verdict is, given the true change under every rule.

    PASS: every rule's lower bound clears its margin. FAIL: Holm rejects something (its smallest p is at most
    alpha / J) and not all pass; a large set can do both at once, where a loss between half and the whole margin is
    proven: that is a PASS. No rules: INCONCLUSIVE, an empty set never passes.
    """
    if not rules:
        return Chances(0.0, 0.0, 1.0)
    level = alpha / len(rules)
    passes = quiet = both_quiet = 1.0
    for n, margin, delta, psi in rules:
        passing = p_pass(n, margin, psi, delta=delta, alpha=alpha)
        failing = p_fail(n, margin, psi, delta=delta, alpha=level)
        passes *= passing
        quiet *= 1.0 - failing
        # Passes where z > -a, is rejected where z < b, z being the standardised estimate.
        both_quiet *= 1.0 - normal_cdf(max(-_z(passing), _z(failing)))
    blocked = max(0.0, (1.0 - quiet) - (passes - both_quiet))
    return Chances(passes, blocked, max(0.0, 1.0 - passes - blocked))


def _z(probability: float) -> float:
    return normal_quantile(probability) if 0.0 < probability < 1.0 else math.copysign(math.inf, probability - 0.5)


def blockable_drop(rules: Sequence[Planned], index: int, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Smallest true loss of rule `index` that the verdict blocks with probability `power`, the other rules being as
    planned; None where even a total loss is not. It lies beyond half the margin: smaller losses may pass.
    """

    def blocked(loss: float) -> float:
        n, margin, _, psi = rules[index]
        changed = [*rules]
        changed[index] = Planned(n, margin, -loss, max(psi, loss))
        return verdict_chances(changed, alpha=alpha).p_fail

    if blocked(1.0) < power:
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if blocked(middle) < power else (low, middle)
    return high


def minimum_detectable_change(
    noise: Noise, samples: int, n: int, *, alpha: float = 0.05, power: float = 0.8, sides: int = 2
) -> float:
    """Smallest change of the mean that n items with so many samples each show with probability `power`.

    `noise` from a pilot of K >= 2 samples (`noise.py`): more samples shrink its prediction part only, so that
    beyond some K only more items help.
    """
    return minimum_detectable_drop(n, noise.unit_variance(samples), alpha=alpha, power=power, sides=sides)
