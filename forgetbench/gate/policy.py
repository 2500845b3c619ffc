"""From what a user wrote (or did not write) to the frozen rules that a verdict is made with.

Default margins, in points: MMLU 1, GSM8K 3, IFEval 5, TruthfulQA 4, HumanEval and MBPP pooled 5 (notes on metrics, 'The
gate'); they stand in `configs/policies/default.yaml`. They are meant for the full sets: a subset could never certify
them, so it gets the general margin of 5, as does every top-level task_type of a user's own sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from forgetbench.errors import UsageError
from forgetbench.gate.policy_formula import Term, parse
from forgetbench.gate.policy_match import EVERYTHING, TaskFacts, in_type, matching_tasks, unmatched, unmeasured
from forgetbench.gate.policy_suite import rule_name, suite_rules
from forgetbench.gate.types import Against, Part, Policy, Rule
from forgetbench.types import View

__all__ = ["TaskFacts", "chat_reference", "matching_tasks", "resolve_policy"]

GENERAL_MARGIN = 0.05
"""Of a rule that names none."""
ALPHA = 0.05


def chat_reference(*, base: bool, locked: bool, previous: bool) -> Against | None:
    """What the chat view is decided against: the first of base, locked release and previous checkpoint that
    has a chat template. None: nothing to decide it against.
    """
    return "base" if base else "locked" if locked else "previous" if previous else None


@lru_cache(maxsize=1)
def _default() -> Mapping[str, Any]:
    from forgetbench.config import load_policy

    return load_policy("default", Path()).model_dump()


def resolve_policy(
    policy: Mapping[str, Any] | None,
    suite: Mapping[str, TaskFacts],
    *,
    chat_against: Against | None = "base",
) -> Policy:
    """The frozen policy for one candidate.

    policy: the validated mapping of a policy file (margins in points); None: the default. suite: its tasks by name.
    chat_against: see `chat_reference`; with None the rules on chat that leave their reference open are not in force,
    which the policy says. Raises UsageError for a required rule or an alarm that matches nothing in the suite, or that
    wants a metric or samples which what it matches does not have: it must never look like a pass.
    """
    policy = _default() if policy is None else policy
    name = str(policy.get("name", "policy"))
    alpha = float(policy.get("alpha", ALPHA))
    raws: Sequence[Mapping[str, Any]] = policy.get("rules") or ()
    # The first instruction-tuned checkpoint of a base without a template: there is no chat to hold it against.
    # Rules that name what they are against stay, and stay undecided where it does not exist.
    idle = [r for r in raws if chat_against is None and r.get("view") == "chat" and r.get("against") in (None, "auto")]
    written = [r for raw in raws if raw not in idle for r in _rules(raw, name, alpha, suite, chat_against)]
    made: list[Rule] = []
    if policy.get("suite_rules") is not None:
        names = {r.name for r in written}
        made = [r for r in suite_rules(policy["suite_rules"], suite, alpha, chat_against) if r.name not in names]
    rules = [*made, *written]
    alarms = [_alarm(raw, chat_against) for raw in policy.get("alarms") or () if not _is_idle(raw, chat_against)]
    _check(name, rules, alarms, suite)
    if not made and not any(r.required for r in rules) and not idle and policy.get("suite_rules") is None:
        raise UsageError(f"policy '{name}'", "no rule is required, so nothing could ever block", "require one")
    return Policy(name, tuple(rules), alpha, _not_in_force(len(idle)), tuple(alarms))


def _is_idle(raw: Mapping[str, Any], chat_against: Against | None) -> bool:
    return chat_against is None and raw.get("view") == "chat" and raw.get("against") in (None, "auto")


def _check(name: str, rules: Sequence[Rule], alarms: Sequence[Rule], suite: Mapping[str, TaskFacts]) -> None:
    for kind, group in (("rule", rules), ("alarm", alarms)):
        names = [r.name for r in group]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            problem = f"two {kind}s are called '{doubled[0]}'"
            raise UsageError(f"policy '{name}'", problem, "give each a `name` of its own")
        for rule in group:
            problems = [unmatched(rule, suite) if rule.required or kind == "alarm" else None, unmeasured(rule, suite)]
            for found in problems:
                if found is not None:
                    raise UsageError(f"policy '{name}', {kind} '{rule.name}'", *found)


def _not_in_force(n: int) -> tuple[str, ...]:
    if not n:
        return ()
    rules = "1 chat rule is" if n == 1 else f"{n} chat rules are"
    return (f"{rules} not in force: neither the base nor a locked or previous checkpoint has a chat template",)


def _rules(
    raw: Mapping[str, Any],
    policy: str,
    alpha: float,
    suite: Mapping[str, TaskFacts],
    chat_against: Against | None,
) -> list[Rule]:
    """The rule, or with `each` one for everything that it matches."""
    if not raw.get("each"):
        return [_rule(raw, alpha, suite, chat_against)]
    view: View = raw.get("view") or "ability"
    pattern = EVERYTHING if raw.get("all") else str(raw["task_type"])
    here = {name: facts for name, facts in suite.items() if facts.n > 0 and view in facts.views}
    types = {t for facts in here.values() for t in facts.task_types if in_type(t, pattern)}
    if raw["each"] == "task":
        found = sorted(name for name, facts in here.items() if any(t in types for t in facts.task_types))
        key = "task"
    else:
        # As deep as the pattern: `*` gives top levels, `knowledge/*` second levels.
        found = sorted({"/".join(t.split("/")[: pattern.count("/") + 1]) for t in types})
        key = "task_type"
    given = raw.get("name")
    if not found and raw.get("required", True):
        cure = f"it has {', '.join(sorted({t for f in here.values() for t in f.task_types})) or 'none'}"
        problem = f"no item of the suite has a task_type like '{pattern}' in the {view} view"
        raise UsageError(f"policy '{policy}', rule '{given or pattern}'", problem, f"{cure}; or set required: false")
    open_raw = {**raw, "all": False, "task_type": None, "each": None, "name": None}
    made = []
    for subject in found:
        name = rule_name(f"{given}: {subject}" if given else subject, view)
        made.append(_rule({**open_raw, key: subject, "name": name}, alpha, suite, chat_against))
    return made


def _rule(raw: Mapping[str, Any], alpha: float, suite: Mapping[str, TaskFacts], chat_against: Against | None) -> Rule:
    view: View = raw.get("view") or "ability"
    tasks = tuple(raw.get("tasks") or ())
    formula = str(raw.get("formula") or "")
    return Rule(
        name=raw.get("name") or rule_name(_subject(raw), view),
        view=view,
        task=raw.get("task"),
        task_type=EVERYTHING if raw.get("all") else raw.get("task_type"),
        tasks=tasks,
        metric=raw.get("metric"),
        margin=float(raw.get("margin", 100 * GENERAL_MARGIN)) / 100.0,
        alpha=float(raw.get("alpha") or alpha),
        min_n=int(raw.get("min_n") or 1),
        required=bool(raw.get("required", True)) and view != "as_used",
        against=_against(raw, view, chat_against),
        max_truncated=float(raw.get("max_truncated", 0.05)),
        max_infra=float(raw.get("max_infra", 0.01)),
        max_unparsed=None if raw.get("max_unparsed") is None else float(raw["max_unparsed"]),
        estimand=raw.get("estimand") or "auto",
        temperature=raw.get("temperature"),
        samples=raw.get("samples"),
        test=raw.get("test") or "auto",
        on_inconclusive=raw.get("on_inconclusive") or "inconclusive",
        parts=tuple(_part(term, suite) for term in parse(formula)) if formula else (),
        formula=formula,
    )


def _subject(raw: Mapping[str, Any]) -> str:
    if raw.get("all"):
        return "all"
    return str(raw.get("task") or raw.get("task_type") or "+".join(raw.get("tasks") or ()) or "score")


def _against(raw: Mapping[str, Any], view: View, chat_against: Against | None) -> Against:
    auto: Against = (chat_against or "previous") if view == "chat" else "base"
    wanted: Against | Literal["auto"] = raw.get("against") or "auto"
    return auto if wanted == "auto" else wanted


def _part(term: Term, suite: Mapping[str, TaskFacts]) -> Part:
    """A name of a task is that task; any other is a task_type."""
    is_task = term.subject in suite
    return Part(
        weight=term.weight,
        task=term.subject if is_task else None,
        task_type=None if is_task else term.subject,
        metric=term.metric,
    )


def _alarm(raw: Mapping[str, Any], chat_against: Against | None) -> Rule:
    view: View = raw.get("view") or "ability"
    return Rule(
        name=raw.get("name") or rule_name(_subject(raw), view),
        view=view,
        task=raw.get("task"),
        task_type=EVERYTHING if raw.get("all") else raw.get("task_type"),
        tasks=tuple(raw.get("tasks") or ()),
        metric=raw.get("metric"),
        margin=float(raw["points"]) / 100.0,
        required=False,
        against=_against(raw, view, chat_against),
    )
