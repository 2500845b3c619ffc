"""The gate's sentences: each with the figures that it rests on, so that no reader has to trust a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forgetbench.analysis.types import Comparison
from forgetbench.gate.types import Against, Rule, RuleResult

_NAMED = 3
"""Rules named in the verdict's sentence; the rest are counted."""


def decides(rule: Rule) -> bool:
    return rule.required and rule.view != "as_used"


def rule_reason(result: RuleResult, unfit: str) -> str:
    if unfit:
        return f"{result.rule.name}: {unfit}"
    margin, lower = points(result.rule.margin), 100.0 * (result.lower or 0.0)
    if result.state == "FAIL":
        return lost(result)
    if result.state == "PASS":
        return f"{_moved(result)}: a loss of {margin} points is excluded (lower bound {lower:+.1f})"
    if result.total is not None:
        return (
            f"{_moved(result)}: neither is a loss of {margin} points excluded (lower bound {lower:+.1f}) "
            f"nor one beyond half of it proven"
        )
    seen = points(result.minimum_detectable_drop or 0.0)
    return (
        f"{_moved(result)}: a loss of {margin} points is not excluded (lower bound {lower:+.1f}), "
        f"nor is one beyond half of it proven; {result.n} items can prove a drop of {seen}"
    )


def _moved(result: RuleResult) -> str:
    change = 100.0 * (result.delta or 0.0)
    return f"{result.rule.name} changed by {change:+.1f} points ({_figures(result)})"


def lost(result: RuleResult) -> str:
    loss = -100.0 * (result.delta or 0.0)
    return f"{result.rule.name} lost {loss:.1f} points ({_figures(result)}, margin {points(result.rule.margin)})"


def _figures(result: RuleResult) -> str:
    base, candidate = 100.0 * (result.base or 0.0), 100.0 * (result.candidate or 0.0)
    formula = f", = {result.rule.formula}" if result.rule.formula else ""
    against = "" if result.rule.against == "base" else f", against {against_name(result.rule.against)}"
    asked = "" if result.total is None else f" of {result.total}, decided in sequence"
    return f"{base:.1f} to {candidate:.1f}, n={result.n}{asked}{formula}{against}"


def passed(required: Sequence[RuleResult]) -> str:
    """required: those of a passing verdict, some of which may be waived."""
    free = [r for r in required if r.waived is None]
    waived = [r.rule.name for r in required if r.waived is not None]
    told = f"; waived: {', '.join(waived)}" if waived else ""
    if not free:
        return f"passed: every required rule is waived ({', '.join(waived)})"
    closest = min(free, key=lambda r: (r.lower or 0.0) + r.rule.margin)
    which = "other " if waived else ""
    rules = f"the {which}required rule excludes" if len(free) == 1 else f"all {len(free)} {which}required rules exclude"
    room = f"{100.0 * (closest.lower or 0.0):+.1f} points, margin {points(closest.rule.margin)}"
    return f"passed: {rules} a loss beyond the margin; closest: {closest.rule.name} (lower bound {room}){told}"


def some(sentences: Sequence[str]) -> str:
    shown = "; ".join(sentences[:_NAMED])
    return shown if len(sentences) <= _NAMED else f"{shown}; and {len(sentences) - _NAMED} more"


def notes(results: Sequence[RuleResult], comparisons: Mapping[Against, Comparison]) -> list[str]:
    told = [f"{r.rule.name}: {r.notice}" for r in results if r.notice]
    told += [f"advisory, not decisive: {r.reason}" for r in results if not decides(r.rule) and r.state == "FAIL"]
    for against, comparison in comparisons.items():
        prefix = "" if against == "base" else f"against {against_name(against)}: "
        told += [f"{prefix}{line}" for line in comparison.notes]
    return told


def against_name(against: Against) -> str:
    names: dict[Against, str] = {
        "base": "the base",
        "locked": "the locked release",
        "previous": "the previous checkpoint",
    }
    return names[against]


def points(fraction: float) -> str:
    """A share in points, without a needless '.0'."""
    return f"{round(100.0 * fraction, 1):g}"


def percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
