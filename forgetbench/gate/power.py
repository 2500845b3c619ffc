"""What a policy can decide with the items at hand, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from forgetbench.analysis.power import PSI, joint, minimum_detectable_drop, p_fail, p_pass
from forgetbench.gate.types import Policy, Rule

WANTED = 0.8
"""Joint probability of a pass, when nothing changed, below which larger margins are suggested."""
_MAX_FACTOR = 20.0
_K_GAIN = 0.27
"""K=10 samples of each item cut the standard error by 13 to 27 % (notes on metrics, section 2)."""

ASSUMPTION = (
    "normal approximation; rules are taken as independent (their items differ) and a share psi of the items "
    "changes sides in either direction although nothing was lost"
)


@dataclass(frozen=True, slots=True)
class RulePower:
    rule: Rule
    n: int
    psi: float
    minimum_detectable_drop: float
    """Fraction of 1, one-sided at the rule's alpha, power .80."""
    p_pass: float
    """P(PASS | no change)."""
    p_fail: float
    """P(FAIL | no change), alone at the policy's alpha; with `on_inconclusive: fail` all that is no pass."""
    p_inconclusive: float


@dataclass(frozen=True, slots=True)
class PowerTable:
    """Of the required rules; advisory ones decide nothing."""

    rules: tuple[RulePower, ...]
    p_pass: float
    """Jointly: every required rule passes though nothing changed."""
    p_fail: float
    p_inconclusive: float
    margin_factor: float | None
    """By how much all margins have to grow for a joint P(PASS | no change) of .80; 1.0: enough as they are;
    None: no sensible margin does it.
    """
    suggestion: str
    assumption: str = ASSUMPTION


def plan_power(policy: Policy, n_by_rule: Mapping[str, int], psi: float | Mapping[str, float] = PSI) -> PowerTable:
    """Power per required rule and jointly.

    n_by_rule: items by rule name (with clusters: their number is the honest figure); a rule without items
    cannot pass. psi: share of discordant items when nothing changed, for all rules or by rule name.
    """
    required = [r for r in policy.rules if r.required and r.view != "as_used"]
    rows = tuple(_row(rule, n_by_rule.get(rule.name, 0), _psi(psi, rule), policy.alpha) for rule in required)
    passing = joint([row.p_pass for row in rows])
    # Holm rejects something exactly when its smallest p is at most alpha / J.
    level = policy.alpha / max(len(rows), 1)
    # Where being undecided fails, a rule is quiet only if it passes.
    quiet = [
        row.p_pass if _fails_undecided(row.rule) else 1.0 - p_fail(row.n, row.rule.margin, row.psi, alpha=level)
        for row in rows
    ]
    failing = min(1.0 - math.prod(quiet), 1.0 - passing)
    factor = _margin_factor(rows)
    return PowerTable(
        rules=rows,
        p_pass=passing,
        p_fail=failing,
        p_inconclusive=max(0.0, 1.0 - passing - failing),
        margin_factor=factor,
        suggestion=_suggestion(rows, passing, factor),
    )


def _psi(psi: float | Mapping[str, float], rule: Rule) -> float:
    return psi.get(rule.name, PSI) if isinstance(psi, Mapping) else psi


def _row(rule: Rule, n: int, psi: float, alpha: float) -> RulePower:
    passing = p_pass(n, rule.margin, psi, alpha=rule.alpha) if n >= rule.min_n else 0.0
    failing = min(p_fail(n, rule.margin, psi, alpha=alpha), 1.0 - passing) if n >= rule.min_n else 0.0
    if _fails_undecided(rule):
        failing = 1.0 - passing
    return RulePower(
        rule=rule,
        n=n,
        psi=psi,
        minimum_detectable_drop=minimum_detectable_drop(n, psi, alpha=rule.alpha),
        p_pass=passing,
        p_fail=failing,
        p_inconclusive=max(0.0, 1.0 - passing - failing),
    )


def _fails_undecided(rule: Rule) -> bool:
    return rule.on_inconclusive == "fail"


def _margin_factor(rows: tuple[RulePower, ...]) -> float | None:
    def passing(factor: float) -> float:
        return joint([p_pass(r.n, min(factor * r.rule.margin, 0.999), r.psi, alpha=r.rule.alpha) for r in rows])

    if not rows or any(r.n < r.rule.min_n for r in rows) or passing(_MAX_FACTOR) < WANTED:
        return None
    if passing(1.0) >= WANTED:
        return 1.0
    low, high = 1.0, _MAX_FACTOR
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if passing(middle) < WANTED else (low, middle)
    return high


def _suggestion(rows: tuple[RulePower, ...], passing: float, factor: float | None) -> str:
    if not rows:
        return "no rule is required: nothing can be decided"
    empty = [r.rule.name for r in rows if r.n < max(r.rule.min_n, 1)]
    if empty:
        return f"too few items for {', '.join(empty)}: it cannot pass"
    if factor == 1.0:
        return "enough items: an unchanged checkpoint passes at least 4 times in 5"
    chance = f"an unchanged checkpoint passes {100 * passing:.0f} times in 100"
    if factor is None:
        return f"{chance}: use more items"
    margins = ", ".join(f"{r.rule.name} {100 * factor * r.rule.margin:.1f}" for r in rows)
    several = ", or draw K=10 samples of each item" if 1.0 / factor >= 1.0 - _K_GAIN else ""
    return f"{chance}: use {factor**2:.1f} times the items, or margins of {margins}{several}"
