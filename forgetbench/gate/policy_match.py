"""What a rule is about: which task_types a pattern matches, which tasks of a suite hold items of a rule."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from forgetbench.gate.types import Rule
from forgetbench.types import GREEDY

EVERYTHING = "*"
_MOST_LISTED = 20
_SAMPLED = re.compile(r"T(?P<temperature>[^/]+)(/p[^/]+)?/K(?P<samples>\d+)")
"""`types.Decode.decode_id`; imported samples may lack top_p, and have `?` for an unknown temperature."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a policy has to know of a task of the suite."""

    n: int
    """Items selected."""
    task_types: frozenset[str] = field(default_factory=frozenset)
    views: frozenset[str] = frozenset({"ability"})
    metrics: frozenset[str] | None = None
    """None, as below: not known, and nothing is refused for it."""
    decodings: frozenset[str] | None = None
    """The decode_ids of its answers."""


def in_type(path: str, pattern: str) -> bool:
    """Whether a task_type is `pattern` or lies below it, level by level: `*` and `?` never reach over a slash."""
    levels, wanted = path.split("/"), pattern.split("/")
    return len(levels) >= len(wanted) and all(
        fnmatchcase(level, one) for level, one in zip(levels, wanted, strict=False)
    )


def wanted_tasks(rule: Rule) -> tuple[str, ...]:
    """Tasks that a rule names; none where it is about a task_type."""
    return (rule.task,) if rule.task else rule.tasks


def as_rules(rule: Rule) -> tuple[Rule, ...]:
    """A weighted score's terms as rules of their own, with its view, limits and name; any other rule is itself."""
    if not rule.parts:
        return (rule,)
    return tuple(
        replace(rule, task=p.task, task_type=p.task_type, metric=p.metric, parts=(), formula="") for p in rule.parts
    )


def matching_tasks(rule: Rule, suite: Mapping[str, TaskFacts]) -> list[str]:
    """The suite's tasks that hold items of a rule, under its view."""
    parts = as_rules(rule)
    return [name for name, facts in suite.items() if any(_holds(part, name, facts) for part in parts)]


def _holds(rule: Rule, name: str, facts: TaskFacts) -> bool:
    if facts.n <= 0 or rule.view not in facts.views:
        return False
    wanted = wanted_tasks(rule)
    return name in wanted if wanted else any(in_type(t, rule.task_type or "") for t in facts.task_types)


def unmatched(rule: Rule, suite: Mapping[str, TaskFacts]) -> tuple[str, str] | None:
    """(problem, cure) where a rule names what the suite does not have."""
    for part in as_rules(rule):
        found, wanted = matching_tasks(part, suite), wanted_tasks(part)
        missing = [t for t in wanted if t not in found]
        for task in missing:
            if task in suite and suite[task].n > 0:
                views = ", ".join(sorted(suite[task].views))
                return f"the suite does not run {task} in the {rule.view} view", f"it runs it in: {views}"
        if missing:
            return f"no task '{missing[0]}' in the suite", f"it has {listed(suite)}; or set required: false"
        if not found:
            types = {t for facts in suite.values() if rule.view in facts.views for t in facts.task_types}
            problem = f"no item of the suite has the task_type '{part.task_type}' in the {rule.view} view"
            return problem, f"it has {listed(types)}; or set required: false"
    return None


def unmeasured(rule: Rule, suite: Mapping[str, TaskFacts]) -> tuple[str, str] | None:
    """(problem, cure) where no task that it is about has the metric or the kind of answers that a rule wants."""
    for part in as_rules(rule):
        found = [suite[name] for name in matching_tasks(part, suite)]
        metrics = [f.metrics for f in found if f.metrics is not None]
        known = frozenset().union(*metrics)
        if part.metric is not None and found and len(metrics) == len(found) and part.metric not in known:
            return f"no task has the metric '{part.metric}'", f"use one of {listed(known)}"
        drawn = [f.decodings for f in found if f.decodings is not None]
        if found and len(drawn) == len(found) and not any(is_estimand(part, d) for one in drawn for d in one):
            have = listed(frozenset().union(*drawn))
            return f"there are no {estimand_name(part)}", f"there are: {have}; change `estimand`"
    return None


def is_estimand(rule: Rule, decode_id: str) -> bool:
    """Whether answers of this decoding are what a rule compares."""
    if rule.estimand == "auto":
        return True
    if rule.estimand == "greedy":
        return decode_id == GREEDY
    drawn = _SAMPLED.fullmatch(decode_id)
    if drawn is None:
        return False
    if rule.samples is not None and int(drawn["samples"]) < rule.samples:
        return False
    return rule.temperature is None or drawn["temperature"] == f"{rule.temperature:g}"


def estimand_name(rule: Rule) -> str:
    if rule.estimand != "sampled":
        return "greedy answers"
    at = f" at temperature {rule.temperature:g}" if rule.temperature is not None else ""
    return f"{rule.samples or 2} or more samples{at}"


def listed(names: Collection[str]) -> str:
    first = ", ".join(sorted(names)[:_MOST_LISTED])
    more = len(names) - _MOST_LISTED
    return f"{first} and {more} more" if more > 0 else first or "none"
