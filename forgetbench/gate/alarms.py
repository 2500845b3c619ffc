"""Alarms in points ("MMLU minus one point: alarm"), and how often they fire when nothing changed.

A bare threshold on a difference is no test. On an unchanged model with a tenth of the items discordant a drop of one
point shows on HumanEval in a third of all runs, on GSM8K in one of eight, on full MMLU never (notes on metrics,
section 2). So an alarm is shown with its own rate of false fire and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from forgetbench.analysis.significance import normal_cdf
from forgetbench.analysis.types import Comparison
from forgetbench.gate.evidence import gather
from forgetbench.gate.sentences import against_name, percent, points
from forgetbench.gate.types import Against, AlarmResult, Policy, Rule

PLANNED = (0.1, 0.2)
"""Shares of discordant items to plan for."""
_EDGE = 1e-9
"""A loss of exactly the threshold fires, whatever floating point makes of it."""


def by_chance(n: float, drop: float, psi: float) -> float:
    """P(mean change <= -drop | no change), for n items of which a share psi changes sides, in either direction.

    Normal approximation: the mean of n changes has variance psi / n. For clusters or K samples psi is n times the
    variance of the mean. 0 where nothing varies.
    """
    if n <= 0 or psi <= 0.0:
        return 0.0
    return normal_cdf(-drop * math.sqrt(n / psi))


@dataclass(frozen=True, slots=True)
class AlarmChance:
    """Before anything runs: how often an alarm fires on an unchanged checkpoint, by share of discordant items."""

    alarm: Rule
    n: int
    by_chance: tuple[tuple[float, float], ...]
    """(psi, probability)."""

    @property
    def line(self) -> str:
        rates = ", ".join(f"{percent(p)} with {100 * psi:.0f} % discordant" for psi, p in self.by_chance)
        return (
            f"alarm {self.alarm.name} (minus {points(self.alarm.margin)} points, n={self.n:,}) fires on an unchanged "
            f"checkpoint in {rates}"
        )


def chances(policy: Policy, n_by_alarm: Mapping[str, int]) -> tuple[AlarmChance, ...]:
    """For every alarm of the policy; sizes as for `plan_power`."""
    return tuple(
        AlarmChance(a, n, tuple((psi, by_chance(n, a.margin, psi)) for psi in PLANNED))
        for a in policy.alarms
        for n in (n_by_alarm.get(a.name, 0),)
    )


def ring(alarm: Rule, comparisons: Mapping[Against, Comparison], *, draws: int, seed: int) -> AlarmResult:
    """Look whether an alarm (a Rule whose margin is the threshold) fires."""
    evidence = gather(alarm, comparisons, draws=draws, seed=seed)
    limit = points(alarm.margin)
    if evidence.fit is None:
        line = f"alarm {alarm.name} (minus {limit} points): could not look: {evidence.unfit}"
        return AlarmResult(alarm, 0, None, None, None, line)
    fit = evidence.fit
    fired = fit.delta <= -alarm.margin + _EDGE
    # Were nothing lost, the second moment about zero would be the variance.
    psi = fit.unit_variance + fit.delta**2
    rate = by_chance(fit.n, alarm.margin, psi)
    against = "" if alarm.against == "base" else f" against {against_name(alarm.against)}"
    what = "FIRES" if fired else "quiet"
    line = (
        f"alarm {alarm.name} (minus {limit} points{against}): {what} at {100.0 * fit.delta:+.1f}; with n={fit.n} and "
        f"{percent(psi)} discordant it would fire on an unchanged checkpoint in {percent(rate)} of the runs"
    )
    return AlarmResult(alarm, fit.n, fit.delta, fired, rate, line)
