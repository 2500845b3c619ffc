"""`compare --resolve TOKENS`: undecided rules are worked on within a budget, and every look pays for itself.

What could be raised, up to where, and the levels of all looks are fixed before the first look, from the budget, the
suite and the token counts of the first answers alone; what the looks show decides only when to stop. A rule about K
samples gets more samples of *every* item; a greedy one the items that `limit` or `sample` left out. Looks spend alpha
as gate/resolve.py says, so that a rule that could be raised passes its first look only at a stricter level than
without the flag.

Samples that were drawn before are kept: 16 samples begin with the same 8, only the rest is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forgetbench import flow
from forgetbench.errors import UsageError
from forgetbench.gate.policy_match import is_estimand, matching_tasks
from forgetbench.gate.resolve import Look, Undecided, Work, levels, plan_work
from forgetbench.gate.sentences import decides
from forgetbench.types import GREEDY
from forgetbench.workspace import More, Workspace

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.config import SuiteTask
    from forgetbench.gate.policy import TaskFacts
    from forgetbench.gate.types import Policy, Rule, RuleResult
    from forgetbench.rounds import Asker, Rounds
    from forgetbench.runs.store import Run
    from forgetbench.tasks.base import Task

PREDICTION_SHARE = 0.4
"""Share of a single answer's variance that more samples take away, where it cannot be measured yet: the middle of what
was seen from base to fine-tune (.26 to .52, notes on metrics, section 2). It moves levels between looks, never their
sum."""
_TWO_STEPS = 4
"""Times more than now, from which on there is a look half way."""


@dataclass(frozen=True)
class Stage:
    """One look: what is asked of each task by then, and the levels of the rules."""

    more: Mapping[str, More]
    levels: Mapping[str, float]
    fail_levels: Mapping[str, float]


@dataclass(frozen=True)
class Schedule:
    """All looks, fixed before the first."""

    stages: tuple[Stage, ...]
    """The first is what the suite asks."""
    raised: frozenset[str]
    """Names of the rules that later looks know more about."""
    work: Work


def schedule(
    ws: Workspace, loaded: flow.Loaded, policy: Policy, runs: Sequence[Run], budget: int, imported: bool
) -> Schedule:
    """The looks that a budget of tokens pays for. runs: of both sides, and the locked release where there is one."""
    suite = flow.facts(ws, loaded)
    entries = {task.name: (entry, task) for entry, task in loaded}
    rules = [rule for rule in policy.rules if decides(rule) and not rule.parts]
    of = {rule.name: matching_tasks(rule, suite) for rule in rules}
    wanted = [name for name in suite if any(name in tasks for tasks in of.values())]
    if imported:
        return Schedule((Stage({}, {}, {}),), frozenset(), Work((), budget, ("imported answers: nothing to ask",)))
    costs = _Costs(runs)
    chances = [
        _chance(ws, entries[name], [r for r in rules if name in of[r.name]], suite[name], costs) for name in wanted
    ]
    work = plan_work(chances, budget)
    last = {r.task: r.to for r in work.raises}
    kinds = {r.task: r.what for r in work.raises}
    now = {r.task: r.now for r in work.raises}
    # A look half way where there is much to ask: it may save the rest.
    steps = [0.0, *([0.5] if any(last[t] >= _TWO_STEPS * now[t] for t in last) else []), 1.0] if last else [0.0]
    reached = [{t: math.floor(now[t] + step * (last[t] - now[t]) + 1e-9) for t in last} for step in steps]
    made: list[tuple[dict[str, float], dict[str, float]]] = [({}, {}) for _ in steps]
    raised = set()
    for rule in rules:
        information = [
            _information(rule, {t: at[t] for t in of[rule.name] if t in at}, of[rule.name], kinds, suite, ws)
            for at in reached
        ]
        fractions = [i / information[-1] for i in information]
        if fractions[0] >= 1.0 - 1e-9:
            continue  # nothing new of it: one look, at its own level
        raised.add(rule.name)
        for (passing, failing), p, f in zip(
            made, levels(fractions, rule.alpha), levels(fractions, policy.alpha), strict=True
        ):
            passing[rule.name], failing[rule.name] = p, f
    stages = tuple(
        Stage({t: _more(ws, entries[t], kinds[t], n) for t, n in at.items()} if i else {}, *made[i])
        for i, at in enumerate(reached)
    )
    return Schedule(stages, frozenset(raised), work)


class _Costs:
    """Tokens of one answer, prompt and text, both checkpoints together, as measured."""

    def __init__(self, runs: Sequence[Run]) -> None:
        import pandas as pd

        columns = ["task", "view", "decode_id", "sample", "n_prompt_tokens", "n_output_tokens"]
        frames = [run.records(columns=columns).assign(run=i) for i, run in enumerate(runs)]
        frame = pd.concat(frames, ignore_index=True)
        frame["tokens"] = frame["n_prompt_tokens"].fillna(0) + frame["n_output_tokens"].fillna(0)
        frame["sampled"] = frame["decode_id"] != GREEDY
        self._means = frame.groupby(["task", "sampled", "run", "view", "decode_id"])["tokens"].agg(["mean", "count"])
        self._items = frame.groupby(["task", "run", "view"]).size()

    def sample(self, task: str) -> float:
        """One more sample of an item, under every view and temperature that is sampled."""
        return self._sum(task, sampled=True)

    def item(self, task: str, samples: int) -> float:
        """One more item: greedily, and so many samples of it."""
        return self._sum(task, sampled=False) + samples * self._sum(task, sampled=True)

    def _sum(self, task: str, *, sampled: bool) -> float:
        names = self._means.index
        mine = (names.get_level_values("task") == task) & (names.get_level_values("sampled") == sampled)
        return float(self._means["mean"][mine].sum())


def _chance(
    ws: Workspace,
    of: tuple[SuiteTask, Task],
    rules: Sequence[Rule],
    facts: TaskFacts,
    costs: _Costs,
) -> Undecided:
    """What a task could get."""
    task = of[1]
    sampled = any(_is_sampled(rule, facts) for rule in rules)
    sampling = ws.suite.sampling
    samples = sampling.n if sampling is not None and any(d != GREEDY for d in facts.decodings or ()) else 0
    left_out = len(task.load()) - facts.n
    per_item = costs.item(task.name, samples)
    if sampled:
        return Undecided(task.name, facts.n, left_out, samples, greedy=False, tokens_per_sample=costs.sample(task.name))
    return Undecided(task.name, facts.n, left_out, 1, greedy=True, tokens_per_sample=per_item)


def _is_sampled(rule: Rule, facts: TaskFacts) -> bool:
    """Whether the rule decides on samples of this task; `auto` takes greedy answers where there are any."""
    drawn = [d for d in facts.decodings or () if d != GREEDY and is_estimand(rule, d)]
    return bool(drawn) and (rule.estimand == "sampled" or GREEDY not in (facts.decodings or ()))


def _information(
    rule: Rule,
    at: Mapping[str, int],
    tasks: Sequence[str],
    kinds: Mapping[str, str],
    suite: Mapping[str, TaskFacts],
    ws: Workspace,
) -> float:
    """1 / variance of the rule's mean change, in units of one item's single-answer variance."""
    variance, total = 0.0, 0
    for name in tasks:
        n = suite[name].n
        if name in at and kinds[name] == "items":
            n = at[name]
        samples = 1
        if _is_sampled(rule, suite[name]) and ws.suite.sampling is not None:
            samples = at[name] if name in at and kinds[name] == "samples" else ws.suite.sampling.n
        noise = 1.0 - PREDICTION_SHARE + PREDICTION_SHARE / samples
        variance += n * noise
        total += n
    return total**2 / variance if variance else 0.0


def _more(ws: Workspace, of: tuple[SuiteTask, Task], kind: str, n: int) -> More:
    """The suite's own unit: samples, or items, which a limit may count by stratum."""
    if kind == "samples":
        return More(samples=n)
    entry, task = of
    if flow.sample_size(ws, entry) is not None:
        return More(items=n)
    limit = flow.limit_of(ws, entry) or n
    # The largest limit of which no more than n items come: strata end at different places.
    high = len(task.load())
    while limit < high:
        middle = (limit + high + 1) // 2
        raised = replace(ws, more={entry.key: More(items=middle)})
        limit, high = (middle, high) if len(flow.selected(raised, entry, task)) <= n else (limit, middle - 1)
    return More(items=limit)


def open_rules(results: Sequence[RuleResult], raised: frozenset[str]) -> list[RuleResult]:
    """Undecided ones that a later look knows more about; what is unfit is no matter of numbers."""
    return [r for r in results if r.rule.name in raised and r.state == "INCONCLUSIVE" and r.fit and r.waived is None]


Judge = Callable[[Workspace, Mapping[str, "Run"], Look], flow.Judgement]
Ask = Callable[[Workspace, Sequence["Checkpoint"]], Mapping[str, "Run"]]


def resolve(
    ws: Workspace,
    loaded: flow.Loaded,
    points: Sequence[Checkpoint],
    runs: Mapping[str, Run],
    planned: Schedule,
    judge: Judge,
    ask: Ask,
    asker: Callable[[Workspace], Rounds],
    say: flow.Say,
) -> flow.Judgement:
    """Look, and where a rule is open that can be raised, ask more and look again."""
    settled: dict[str, RuleResult] = {}
    more: dict[str, More] = {}
    here, looks = ws, 0
    for stage in planned.stages:
        if more:
            here = replace(ws, more=more)
            say(f"resolve: look {looks + 1} of {len(planned.stages)}: {_said(more)}")
            with asker(here) as rounds:
                extend_samples(here, loaded, points, rounds)
            runs = ask(here, points)
        found = judge(here, runs, Look(stage.levels, stage.fail_levels, settled))
        looks += 1
        settled |= {r.rule.name: r for r in found.verdict.rules if r.rule.name in planned.raised and r.state == "PASS"}
        needed = _needed(ws, loaded, open_rules(found.verdict.rules, planned.raised))
        if found.verdict.state != "INCONCLUSIVE" or not needed or looks == len(planned.stages):
            break
        more |= {task: m for task, m in planned.stages[looks].more.items() if task in needed}
    told = [f"resolve: {line}" for line in planned.work.notes]
    if planned.raised:
        told.append(
            f"resolve: {looks} of {len(planned.stages)} looks at {', '.join(sorted(planned.raised))}, each at a level "
            f"of its own, together {100 * found.verdict.policy.alpha:g} %; planned {planned.work.tokens:,} of "
            f"{planned.work.budget:,} tokens; asked beyond the suite: {_said(more) if more else 'nothing'}"
        )
    return replace(found, verdict=replace(found.verdict, notes=(*told, *found.verdict.notes)))


def _needed(ws: Workspace, loaded: flow.Loaded, left: Sequence[RuleResult]) -> set[str]:
    """Tasks of the rules that are open."""
    suite = flow.facts(ws, loaded)
    return {task for r in left for task in matching_tasks(r.rule, suite)}


def _said(more: Mapping[str, More]) -> str:
    def one(m: More) -> str:
        return f"{m.samples} samples" if m.samples is not None else f"items up to {m.items:,}"

    return ", ".join(f"{task}: {one(m)}" for task, m in more.items())


def extend_samples(
    here: Workspace,
    loaded: flow.Loaded,
    points: Sequence[Checkpoint],
    ask: Asker,
) -> None:
    """Ask only the samples that are new, and store them with the old ones as the answer to the larger question."""
    from forgetbench import running
    from forgetbench.runs.extend import missing_rests, store_joined

    targets = [running.target(here, point, loaded, ask=False) for point in points]
    rests = [missing_rests(target) for target in targets]
    answers = ask("more-samples", [rest.request for found in rests for rest in found])
    for target, found in zip(targets, rests, strict=True):
        store_joined(target, found, answers)


def check_resolve(candidates: Sequence[str], *, sequential: bool) -> None:
    """Raises UsageError for what does not go together."""
    if sequential:
        problem = "cannot go with --sequential, whose looks are paid for in another way"
        raise UsageError("--resolve", problem, "leave out one of the two")
    if len(candidates) > 1:
        problem = f"is for one candidate, and {len(candidates)} are named"
        raise UsageError("--resolve", problem, "compare them one by one")
