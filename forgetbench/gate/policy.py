"""From what a user wrote (or did not write) to the frozen rules that a verdict is made with.

Default margins, in points: MMLU 1, GSM8K 3, IFEval 5, TruthfulQA 4, HumanEval and MBPP pooled 5 (notes on
metrics, 'The gate'). They are meant for the full sets: a subset could never certify them, so it gets the
general margin of 5, as does every top-level task_type of a user's own sets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from forgetbench.errors import UsageError
from forgetbench.gate.types import Against, Policy, Rule
from forgetbench.types import View

GENERAL_MARGIN = 0.05
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a policy has to know of a task of the suite."""

    n: int
    """Items selected."""
    task_types: frozenset[str] = field(default_factory=frozenset)
    views: frozenset[str] = frozenset({"ability"})


@dataclass(frozen=True, slots=True)
class _Default:
    tasks: tuple[str, ...]
    margin: float
    full: int
    """Items of the full set."""
    required: bool = True


_DEFAULTS = (
    _Default(("mmlu",), 0.01, 14_042),
    _Default(("gsm8k",), 0.03, 1_319),
    _Default(("ifeval",), 0.05, 541),
    _Default(("truthfulqa",), 0.04, 817),
    _Default(("humaneval", "mbpp"), 0.05, 542),
    # Shown beside the above and never decisive: the same questions scored another way, the same programs on more tests.
    _Default(("truthfulqa_gen",), 0.05, 817, required=False),
    _Default(("humaneval_plus",), 0.05, 164, required=False),
    _Default(("mbpp_plus",), 0.05, 378, required=False),
)
_DECIDING: tuple[View, ...] = ("ability", "chat")


def chat_reference(*, base: bool, locked: bool, previous: bool) -> Against | None:
    """What the chat view is decided against: the first of base, locked release and previous checkpoint that
    has a chat template. None: nothing to decide it against.
    """
    return "base" if base else "locked" if locked else "previous" if previous else None


def resolve_policy(
    policy: Mapping[str, Any] | None,
    suite: Mapping[str, TaskFacts],
    *,
    chat_against: Against | None = "base",
) -> Policy:
    """The frozen policy for one candidate.

    policy: the validated mapping of a policy file (margins in points); None: the default, made from the
    suite. suite: its tasks by name. chat_against: see `chat_reference`; with None the rules on chat that leave
    their reference open are not in force, which the policy says. Raises UsageError for a required rule that
    matches nothing in the suite: it must never look like a pass.
    """
    if policy is None:
        return Policy("default", tuple(_default_rules(suite, chat_against)), ALPHA)
    name = str(policy.get("name", "policy"))
    alpha = float(policy.get("alpha", ALPHA))
    raws: Sequence[Mapping[str, Any]] = policy.get("rules", ())
    # The first instruction-tuned checkpoint of a base without a template: there is no chat to hold it against.
    # Rules that name what they are against stay, and stay undecided where it does not exist.
    idle = [r for r in raws if chat_against is None and r.get("view") == "chat" and r.get("against") in (None, "auto")]
    rules = [_rule(raw, alpha, chat_against) for raw in raws if raw not in idle]
    doubled = sorted({r.name for r in rules if [x.name for x in rules].count(r.name) > 1})
    if doubled:
        raise UsageError(f"policy '{name}'", f"two rules are called '{doubled[0]}'", "give each a `name` of its own")
    for rule in rules:
        problem = _unmatched(rule, suite)
        if problem and rule.required:
            raise UsageError(f"policy '{name}', rule '{rule.name}'", *problem)
    if not any(r.required for r in rules) and not idle:
        raise UsageError(f"policy '{name}'", "no rule is required, so nothing could ever block", "require one")
    return Policy(name, tuple(rules), alpha, _not_in_force(len(idle)))


def _not_in_force(n: int) -> tuple[str, ...]:
    if not n:
        return ()
    rules = "1 chat rule is" if n == 1 else f"{n} chat rules are"
    return (f"{rules} not in force: neither the base nor a locked or previous checkpoint has a chat template",)


def _rule(raw: Mapping[str, Any], alpha: float, chat_against: Against | None) -> Rule:
    view: View = raw.get("view") or "ability"
    auto: Against = (chat_against or "previous") if view == "chat" else "base"
    wanted: Against | Literal["auto"] = raw.get("against") or "auto"
    against: Against = auto if wanted == "auto" else wanted
    tasks = tuple(raw.get("tasks") or ())
    subject = raw.get("task") or raw.get("task_type") or "+".join(tasks)
    return Rule(
        name=raw.get("name") or _name(str(subject), view),
        view=view,
        task=raw.get("task"),
        task_type=raw.get("task_type"),
        tasks=tasks,
        metric=raw.get("metric"),
        margin=float(raw.get("margin", 100 * GENERAL_MARGIN)) / 100.0,
        alpha=float(raw.get("alpha") or alpha),
        min_n=int(raw.get("min_n") or 1),
        required=bool(raw.get("required", True)) and view != "as_used",
        against=against,
        max_truncated=float(raw.get("max_truncated", 0.05)),
        max_infra=float(raw.get("max_infra", 0.01)),
    )


def _name(subject: str, view: str) -> str:
    return subject if view == "ability" else f"{subject} ({view})"


def matching_tasks(rule: Rule, suite: Mapping[str, TaskFacts]) -> list[str]:
    """The suite's tasks that hold items of a rule, under its view."""
    wanted = (rule.task,) if rule.task else rule.tasks
    return [
        name
        for name, facts in suite.items()
        if facts.n > 0
        and rule.view in facts.views
        and (name in wanted if wanted else any(_below(t, rule.task_type or "") for t in facts.task_types))
    ]


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


def _unmatched(rule: Rule, suite: Mapping[str, TaskFacts]) -> tuple[str, str] | None:
    """(problem, cure) where a rule names what the suite does not have."""
    found = matching_tasks(rule, suite)
    wanted = (rule.task,) if rule.task else rule.tasks
    missing = [t for t in wanted if t not in found]
    if found and not missing:
        return None
    for task in missing:
        if task in suite and suite[task].n > 0:
            views = ", ".join(sorted(suite[task].views))
            return f"the suite does not run {task} in the {rule.view} view", f"it runs it in: {views}"
    if wanted:
        return f"no task '{missing[0]}' in the suite", f"it has {_listed(suite)}; or set required: false"
    types = {t for facts in suite.values() if rule.view in facts.views for t in facts.task_types}
    problem = f"no item of the suite has the task_type '{rule.task_type}' in the {rule.view} view"
    return problem, f"it has {_listed(types)}; or set required: false"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _default_rules(suite: Mapping[str, TaskFacts], chat_against: Against | None) -> Sequence[Rule]:
    rules: list[Rule] = []
    for view in _DECIDING:
        against: Against | None = "base" if view == "ability" else chat_against
        if against is None:
            continue
        here = {name: facts for name, facts in suite.items() if view in facts.views and facts.n > 0}
        rules += _built_in(here, view, against)
        rules += _own_sets(here, view, against)
    return rules


def _built_in(suite: Mapping[str, TaskFacts], view: View, against: Against) -> list[Rule]:
    rules = []
    for default in _DEFAULTS:
        present = tuple(t for t in default.tasks if t in suite)
        if not present:
            continue
        whole = present == default.tasks and sum(suite[t].n for t in present) >= default.full
        rules.append(
            Rule(
                name=_name("+".join(present), view),
                view=view,
                task=present[0] if len(present) == 1 else None,
                tasks=present if len(present) > 1 else (),
                margin=default.margin if whole else GENERAL_MARGIN,
                # One of a pooled pair alone is too small to certify anything: HumanEval cannot hold 8 points.
                required=default.required and present == default.tasks,
                against=against,
            )
        )
    return rules


def _own_sets(suite: Mapping[str, TaskFacts], view: View, against: Against) -> list[Rule]:
    """A rule per top-level task_type; per set where a benchmark with its own rule has that type too."""
    known = {t for default in _DEFAULTS for t in default.tasks}
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
            rules.append(Rule(_name(name, view), view=view, task=name, margin=GENERAL_MARGIN, against=against))
    typed = [
        Rule(_name(top, view), view=view, task_type=top, margin=GENERAL_MARGIN, against=against)
        for top in sorted(types)
    ]
    return [*typed, *rules]


def _top(path: str) -> str:
    return path.split("/")[0]
