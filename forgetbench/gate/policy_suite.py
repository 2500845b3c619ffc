"""Rules made from the suite: one for each known benchmark that it has, one for each ability of a user's own sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forgetbench.gate.policy_match import TaskFacts
from forgetbench.gate.types import Against, Rule
from forgetbench.types import View

DECIDING: tuple[View, ...] = ("ability", "chat")
_LIMITS = ("min_n", "max_infra", "max_truncated", "max_unparsed", "on_inconclusive")


def suite_rules(
    raw: Mapping[str, Any], suite: Mapping[str, TaskFacts], alpha: float, chat_against: Against | None
) -> list[Rule]:
    """`raw`: a validated `suite_rules` (config_policy.SuiteRules). Chat has no rules where it has no reference."""
    limits = {name: raw[name] for name in _LIMITS if name in raw}
    general = float(raw["margin"]) / 100.0
    rules: list[Rule] = []
    for view in DECIDING:
        against: Against | None = "base" if view == "ability" else chat_against
        if against is None:
            continue
        here = {name: facts for name, facts in suite.items() if view in facts.views and facts.n > 0}
        common = {**limits, "view": view, "against": against, "alpha": alpha}
        rules += _benchmarks(raw["benchmarks"], here, general, common)
        rules += _own_sets(raw["benchmarks"], here, general, common)
    if any(r.required for r in rules):
        return rules
    # Nothing but sets that elsewhere stand beside others: here they are what is asked about. One of a pooled pair
    # stays advisory.
    whole = {one["tasks"][0] for one in raw["benchmarks"] if len(one["tasks"]) == 1}
    told = limits.get("on_inconclusive", _QUIET)
    return [replace(r, required=True, on_inconclusive=told) if r.task in whole else r for r in rules]


def rule_name(subject: str, view: str) -> str:
    return subject if view == "ability" else f"{subject} ({view})"


def _benchmarks(
    benchmarks: Sequence[Mapping[str, Any]], suite: Mapping[str, TaskFacts], general: float, common: Mapping[str, Any]
) -> list[Rule]:
    rules = []
    for one in benchmarks:
        names = tuple(one["tasks"])
        present = tuple(t for t in names if t in suite)
        if not present:
            continue
        whole = present == names and sum(suite[t].n for t in present) >= one["full"]
        # One of a pooled pair alone is too small to certify anything: HumanEval cannot hold 8 points.
        required = bool(one["required"]) and present == names
        rules.append(
            Rule(
                **{**common, "on_inconclusive": common.get("on_inconclusive", "inconclusive") if required else _QUIET},
                name=rule_name("+".join(present), common["view"]),
                task=present[0] if len(present) == 1 else None,
                tasks=present if len(present) > 1 else (),
                margin=float(one["margin"]) / 100.0 if whole else general,
                required=required,
            )
        )
    return rules


_QUIET = "inconclusive"
"""Of advisory rules: `fail` would say nothing, as they decide nothing."""


def _own_sets(
    benchmarks: Sequence[Mapping[str, Any]], suite: Mapping[str, TaskFacts], general: float, common: Mapping[str, Any]
) -> list[Rule]:
    """A rule per top-level task_type; per set where a benchmark with its own rule has that type too."""
    known = {task for one in benchmarks for task in one["tasks"]}
    taken = {_top(t) for name in known & suite.keys() for t in suite[name].task_types}
    types: set[str] = set()
    rules = []
    for name, facts in suite.items():
        if name in known:
            continue
        tops = {_top(t) for t in facts.task_types}
        if tops and not tops & taken:
            types |= tops
        else:
            rules.append(Rule(**common, name=rule_name(name, common["view"]), task=name, margin=general))
    typed = [
        Rule(**common, name=rule_name(top, common["view"]), task_type=top, margin=general) for top in sorted(types)
    ]
    return [*typed, *rules]


def _top(path: str) -> str:
    return path.split("/")[0]
