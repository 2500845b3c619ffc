"""Waivers: losses that somebody answers for, until a day, up to a bound.

A waiver covers a rule that does not pass, and for it takes the place of the margin: the rule is let through as long
as a loss beyond `max_drop` is excluded at the rule's alpha, exactly as a pass excludes one beyond the margin. Unfit
evidence (nothing paired, truncated answers) is never waived, since nobody can answer for what was not measured.

An expired waiver is an error line in every output and its rules count as unwaived. A waiver for a rule that the policy
does not have is a mistake, and raised as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from forgetbench.config_policy import WaiverConfig, WaiversConfig
from forgetbench.errors import UsageError, combined
from forgetbench.gate.policy_match import as_rules, in_type, listed, wanted_tasks
from forgetbench.gate.sentences import points
from forgetbench.gate.types import Policy, Rule, RuleResult, Waiver, WaiverState, WaiverUse
from forgetbench.yamlio import load_yaml, validate


def load_waivers(file: Path) -> tuple[Waiver, ...]:
    """Read a file of waivers. Raises UsageError naming file, line, key and cure."""
    data, lines = load_yaml(file, "file of waivers")
    found = validate(WaiversConfig, data, file, lines)
    return tuple(_waiver(raw, f"{file}:{lines.nearest(('waivers', i))}") for i, raw in enumerate(found.waivers))


def _waiver(raw: WaiverConfig, source: str) -> Waiver:
    return Waiver(
        reason=raw.reason,
        owner=raw.owner,
        until=raw.until.isoformat(),
        max_drop=raw.max_drop / 100.0,
        rule=raw.rule,
        task=raw.task,
        task_type=raw.task_type,
        metric=raw.metric,
        source=source,
    )


def check_waivers(waivers: Sequence[Waiver], policies: Sequence[Policy]) -> None:
    """Raises UsageError for waivers that are about no rule of any of the policies, and for rules with two waivers."""
    rules = [r for policy in policies for r in policy.rules]
    errors = []
    for waiver in waivers:
        mine = [r for r in rules if covers(waiver, r)]
        if not mine:
            metric = f" with the metric '{waiver.metric}'" if waiver.metric else ""
            problem = f"waives '{waiver.subject}'{metric}, which no rule of the policy is about"
            errors.append(UsageError(waiver.source, problem, f"its rules are {listed({r.name for r in rules})}"))
        elif all(waiver.max_drop <= r.margin for r in mine):
            problem = (
                f"max_drop {points(waiver.max_drop)} lies within the margin of '{mine[0].name}', and waives nothing"
            )
            errors.append(UsageError(waiver.source, problem, f"use more than {points(mine[0].margin)}, or remove it"))
    for rule in {r.name: r for r in rules}.values():
        own = [w for w in waivers if covers(w, rule)]
        if len(own) > 1:
            problem = f"waives rule '{rule.name}', as {own[0].source} does"
            errors.append(UsageError(own[1].source, problem, "keep one of the two"))
    if errors:
        raise combined(errors)


def covers(waiver: Waiver, rule: Rule) -> bool:
    """Whether a waiver is about a rule: by name; or about all that the rule is about, none of it left out."""
    if waiver.rule is not None:
        return waiver.rule == rule.name
    if waiver.metric is not None and any(part.metric != waiver.metric for part in as_rules(rule)):
        return False
    if waiver.task is not None:
        return all(wanted_tasks(part) == (waiver.task,) for part in as_rules(rule))
    return all(
        part.task_type is not None and in_type(part.task_type, waiver.task_type or "") for part in as_rules(rule)
    )


def apply_waivers(
    results: Sequence[RuleResult], waivers: Sequence[Waiver], today: str | None = None
) -> tuple[list[RuleResult], tuple[WaiverUse, ...]]:
    """The results with `waived` set where a waiver lets them through, and what became of every waiver."""
    day = today or datetime.now(UTC).date().isoformat()
    made = list(results)
    uses = []
    for waiver in waivers:
        mine = [i for i, r in enumerate(results) if covers(waiver, r.rule)]
        states = []
        for i in mine:
            state = _became(waiver, results[i], day)
            states.append(state)
            if state == "active":
                made[i] = replace(made[i], waived=waiver)
        uses.append(_use(waiver, _worst(states, waiver, day), [results[i] for i in mine]))
    return made, tuple(uses)


_ORDER: tuple[WaiverState, ...] = ("expired", "unfit", "exceeded", "active", "unused")


def _worst(states: Sequence[WaiverState], waiver: Waiver, day: str) -> WaiverState:
    if waiver.until < day:
        return "expired"
    return min(states, key=_ORDER.index, default="unused")


def _became(waiver: Waiver, result: RuleResult, day: str) -> WaiverState:
    if waiver.until < day:
        return "expired"
    if result.state == "PASS":
        return "unused"
    if not result.fit or result.lower is None:
        return "unfit"
    return "active" if result.lower > -waiver.max_drop else "exceeded"


def _use(waiver: Waiver, state: WaiverState, results: Sequence[RuleResult]) -> WaiverUse:
    names = tuple(r.rule.name for r in results)
    until = f"until {waiver.until}, up to {points(waiver.max_drop)} points"
    head = f"waiver of {waiver.subject} (owner {waiver.owner}, {until}: {waiver.reason})"
    lowers = [r.lower for r in results if r.state != "PASS" and r.lower is not None]
    bound = f"{100.0 * min(lowers):+.1f}" if lowers else "unknown"
    told: dict[WaiverState, str] = {
        "active": f"holds: a loss beyond it is excluded (lower bound {bound})",
        "expired": "EXPIRED and counts for nothing: renew it or remove it",
        "exceeded": f"does not hold: a loss beyond it is not excluded (lower bound {bound})",
        "unfit": "does not hold: the evidence is unfit, which no waiver replaces",
        "unused": "is not needed: what it is about passes",
    }
    return WaiverUse(waiver, state, names, f"{head} {told[state]}")
