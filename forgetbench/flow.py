"""The street, walked from end to end for a workspace: what `run`, `compare`, `gate` and `report` share.

checkpoint + suite -> plan -> engine -> scoring -> run;   run + run -> comparison -> verdict
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from forgetbench.errors import UsageError
from forgetbench.types import GREEDY, Decode, Item, Style, View
from forgetbench.workspace import More, Workspace

if TYPE_CHECKING:
    from forgetbench.analysis.types import Comparison
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.config import SuiteTask
    from forgetbench.execute import Progress
    from forgetbench.gate.baseline import Baseline
    from forgetbench.gate.policy import TaskFacts
    from forgetbench.gate.power import PowerTable
    from forgetbench.gate.resolve import Look
    from forgetbench.gate.sequential import Order
    from forgetbench.gate.types import Against, Policy, Rule, Verdict
    from forgetbench.planning.estimate import Estimate
    from forgetbench.planning.plan import TaskJob
    from forgetbench.runs.store import Run
    from forgetbench.tasks.base import Task

Loaded = Sequence[tuple["SuiteTask", "Task"]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judgement:
    """One candidate against the base (and, where there is one before it, against that)."""

    alias: str
    against: Mapping[Against, Comparison]
    verdict: Verdict

    @property
    def comparisons(self) -> list[Comparison]:
        """Each once: against the base, then the locked release, then the one before."""
        found = [self.against[k] for k in ("base", "locked", "previous") if k in self.against]
        return [c for i, c in enumerate(found) if all(c is not d for d in found[:i])]


def checkpoint(ws: Workspace, alias: str, *, to_run: bool = False) -> Checkpoint:
    """Resolve an alias; loads neither tokenizer nor torch. `to_run`: for a command that asks what is missing, so
    that the finished run of an endpoint without a declared fingerprint is left behind."""
    from forgetbench import imported
    from forgetbench.checkpoints.endpoint_state import begin_fresh
    from forgetbench.checkpoints.resolve import resolve

    if imported.is_imported(ws, alias):
        return imported.checkpoint_of(ws, alias)
    if to_run:
        begin_fresh(ws.spec(alias), ws.cache)
    return resolve(ws.spec(alias), cache_dir=ws.cache)


def selected(ws: Workspace, entry: SuiteTask, task: Task) -> Sequence[Item]:
    """The items of a task that the suite (or --limit, which goes before both of its ways) asks for."""
    from forgetbench.tasks.select import sample, select

    size = sample_size(ws, entry)
    if size is not None:
        return sample(task.load(), size, entry.seed or 0).items
    per_stratum = entry.task in ("mmlu", "mmlu_open") or entry.bridged is not None
    return select(task.load(), limit=limit_of(ws, entry), per_stratum=per_stratum)


def sample_size(ws: Workspace, entry: SuiteTask) -> int | None:
    """Items drawn at random; None: the first ones, or all."""
    if entry.sample is None or ws.limit is not None:
        return None
    return ws.more.get(entry.key, More()).items or entry.sample


def limit_of(ws: Workspace, entry: SuiteTask) -> int | None:
    """How many of the first items, of each stratum where they are counted so; None: all."""
    limit = ws.limit or entry.limit
    return limit and (ws.more.get(entry.key, More()).items or limit)


def jobs(ws: Workspace, loaded: Loaded, point: Checkpoint) -> list[TaskJob]:
    """One job for each task and view of the suite, with its items selected."""
    from forgetbench.planning.deployment import bind
    from forgetbench.planning.plan import TaskJob
    from forgetbench.tasks.base import in_style

    made: list[TaskJob] = []
    for entry, task in loaded:
        items = selected(ws, entry, task)
        for view in entry.views or ws.suite.views:
            style = _style(view, point)
            if style == "chat" and not point.has_chat_template:
                asked = task  # the plan says that it is not asked
            else:
                asked = bind(in_style(task, style), style, point, entry.max_tokens)
            greedy = TaskJob(
                task=asked,
                items=items,
                view=view,
                style=style,
                num_fewshot=_num_fewshot(entry, style),
                decode=Decode(),
                max_tokens=entry.max_tokens,
                stop=entry.stop,
            )
            made += [greedy, *(replace(greedy, decode=decode) for decode in _sampled(ws, asked, items))]
    return made


def _sampled(ws: Workspace, task: Task, items: Sequence[Item]) -> list[Decode]:
    """How a task is asked beside greedily: at every temperature of the suite, where it generates."""
    sampling = ws.suite.sampling
    if sampling is None or not items:
        return []
    first = task.prompt(items[0], 0)
    if any(spec.form == "rank" for spec in (first, *first.also)):
        return []
    n = ws.more.get(task.name, More()).samples or sampling.n
    return [Decode(temperature, sampling.top_p, n) for temperature in sampling.temperature]


def _style(view: View, point: Checkpoint) -> Style:
    if view == "ability":
        return "raw"
    if view == "chat":
        return "chat"
    return "chat" if point.has_chat_template else "raw"


def _num_fewshot(entry: SuiteTask, style: Style) -> int:
    if entry.set is not None:
        shots = entry.raw if style == "raw" else entry.chat
        return shots.num_fewshot if shots is not None else 0
    from forgetbench.tasks.registry import default_num_fewshot

    given = entry.num_fewshot
    if style == "chat" and entry.chat_num_fewshot is not None:
        given = entry.chat_num_fewshot
    return default_num_fewshot(entry.task or "", style) if given is None else given


def run(
    ws: Workspace,
    alias: str,
    loaded: Loaded,
    progress: Progress | None = None,
    say: Say = print,
    *,
    generate: bool = True,
) -> Run:
    """The run of one checkpoint on the suite, whatever is missing of it run first.

    With `generate` False nothing is asked of any engine: a UsageError says what is missing and the cure.
    """
    from forgetbench import running

    point = checkpoint(ws, alias, to_run=generate)
    if not generate:
        return running.stored(ws, point, loaded, say)
    return running.run_all(ws, [point], loaded, say, bars=lambda: nullcontext(lambda _: progress))[alias]


def aliases(ws: Workspace, base: str, candidates: Sequence[str]) -> list[str]:
    """Every checkpoint that a comparison needs, each once: base, locked release, candidates."""
    locked = [ws.config.locked] if ws.config.locked else []
    return list(dict.fromkeys([base, *locked, *candidates]))


def facts(ws: Workspace, loaded: Loaded) -> dict[str, TaskFacts]:
    """What a policy has to know of the suite's tasks."""
    from forgetbench.gate.policy import TaskFacts

    found: dict[str, TaskFacts] = {}
    for entry, task in loaded:
        if task.metrics:  # a set without a scorer has nothing that a rule could decide on
            items = selected(ws, entry, task)
            types = frozenset(item.task_type for item in items)
            views = frozenset(entry.views or ws.suite.views)
            found[task.name] = TaskFacts(len(items), types, views, frozenset(task.metrics), _decodings(ws, task, items))
    return found


def _decodings(ws: Workspace, task: Task, items: Sequence[Item]) -> frozenset[str]:
    """Of an imported task those of its records."""
    known = getattr(task, "decodings", None)
    if known is not None:
        return frozenset(known)
    return frozenset({GREEDY, *(decode.decode_id for decode in _sampled(ws, task, items))})


def check_policy(ws: Workspace, loaded: Loaded) -> None:
    """Every rule of the policy has something to decide on and every waiver its rule, or a UsageError."""
    from forgetbench.gate.policy import resolve_policy
    from forgetbench.gate.waivers import check_waivers

    policy = resolve_policy(_policy_mapping(ws), facts(ws, loaded))
    for rule in (*policy.rules, *policy.alarms):
        if rule.against == "locked" and ws.config.locked is None:
            raise UsageError(
                f"policy '{policy.name}', rule '{rule.name}'",
                "is against the locked release, and none is named",
                "set `locked:` in forgetbench.yaml to an alias",
            )
    check_waivers(ws.waivers, [policy])


def _policy_mapping(ws: Workspace) -> dict[str, Any]:
    return ws.policy.model_dump()


def policies(
    ws: Workspace, loaded: Loaded, points: Mapping[str, Checkpoint], base: str, candidates: Sequence[str]
) -> dict[str, Policy]:
    """The frozen policy of each candidate: what chat is decided against depends on who has a template."""
    from forgetbench.findings import scored_metrics
    from forgetbench.gate.policy import chat_reference, resolve_policy

    scored_metrics(ws, loaded)  # nothing to compare: said before anything runs
    check_policy(ws, loaded)
    if ws.baseline is not None:
        from forgetbench.gate.baseline import check_checkpoint

        check_checkpoint(ws.baseline, points[_locked_alias(ws, ws.baseline, base)], ws.suite.name)
    suite = facts(ws, loaded)
    made: dict[str, Policy] = {}
    for i, alias in enumerate(candidates):
        locked = ws.config.locked if ws.config.locked != alias else None
        reference = chat_reference(
            base=points[base].has_chat_template,
            locked=locked is not None and points[locked].has_chat_template,
            previous=i > 0 and points[candidates[i - 1]].has_chat_template,
        )
        made[alias] = resolve_policy(_policy_mapping(ws), suite, chat_against=reference)
    return made


def _locked_alias(ws: Workspace, baseline: Baseline, base: str) -> str:
    """Whom a baseline lock is about: the locked release if it bears its name, else the base."""
    return ws.config.locked if ws.config.locked and ws.config.locked == baseline.lock.alias else base


def judge(
    ws: Workspace,
    loaded: Loaded,
    runs: Mapping[str, Run],
    policies: Mapping[str, Policy],
    base: str,
    candidates: Sequence[str],
    *,
    order: Order | None = None,
    look: Look | None = None,
) -> list[Judgement]:
    """Each candidate against the base, the locked release and the one before it. Raises IncomparableError.

    order: of runs that ended when the rules were decided (sequential.py): all that is shown then holds at any
    stopping time. look: one of several (resolving.py).
    """
    from forgetbench.analysis.compare import compare_runs
    from forgetbench.analysis.pairing import Selection
    from forgetbench.findings import about_the_suite, scored_metrics
    from forgetbench.floor import beside_floor
    from forgetbench.gate.sequential import estimates, table_estimate
    from forgetbench.gate.verdict import decide

    if ws.baseline is not None:
        from forgetbench.gate.baseline import check_run

        check_run(ws.baseline, runs[_locked_alias(ws, ws.baseline, base)], ws.suite.name)
    metrics = scored_metrics(ws, loaded)
    scored = Selection(frozenset(metrics), by=ws.pair_by, shared_only=ws.shared_only)
    known: dict[tuple[str, str], Comparison] = {}

    def comparison(of: str, to: str) -> Comparison:
        if (of, to) not in known:
            found = compare_runs(
                runs[of],
                runs[to],
                suite=ws.suite.name,
                selection=scored,
                metrics=metrics,
                banner=ws.suite.banner,
                fit=None if order is None else table_estimate(order),
            )
            if order is not None:
                # Lengths and times have intervals at a fixed number of answers alone.
                found = replace(found, answers=None)
            found = replace(found, notes=(*ws.told, *found.notes)) if ws.told else found
            known[of, to] = beside_floor(runs[of], about_the_suite(ws, loaded, found, whole=order is None))
        return known[of, to]

    made: list[Judgement] = []
    for i, alias in enumerate(candidates):
        against: dict[Against, Comparison] = {"base": comparison(base, alias)}
        if ws.config.locked and ws.config.locked != alias:
            against["locked"] = comparison(ws.config.locked, alias)
        if i > 0:
            against["previous"] = comparison(candidates[i - 1], alias)
        # By identity: one comparison may stand in several places (the base is the locked release), and stays one.
        told = {id(c): replace(c, against=tuple(k for k in against if against[k] is c)) for c in against.values()}
        against = {k: told[id(c)] for k, c in against.items()}
        estimate = None if order is None else estimates(policies[alias], order)
        verdict = decide(against, policies[alias], waivers=ws.waivers, estimate=estimate, look=look)
        made.append(Judgement(alias, against, verdict))
    return made


def power(ws: Workspace, loaded: Loaded, policy: Policy) -> PowerTable:
    """What the policy can decide with the suite's items; clusters count, not the items that share them."""
    from forgetbench.gate.power import plan_power

    return plan_power(policy, sizes(ws, loaded, policy.rules))


def sizes(ws: Workspace, loaded: Loaded, rules: Sequence[Rule]) -> dict[str, int]:
    """Independent items by rule name; of a weighted score as many as would leave the same noise."""
    from forgetbench.gate.policy_match import as_rules, in_type, matching_tasks

    suite = facts(ws, loaded)

    def clusters(rule: Rule) -> int:
        found: set[object] = set()
        for entry, task in loaded:
            if task.name in matching_tasks(rule, suite):
                for item in selected(ws, entry, task):
                    if not rule.task_type or in_type(item.task_type, rule.task_type):
                        found.add(item.cluster if item.cluster is not None else item.key)
        return len(found)

    made: dict[str, int] = {}
    for rule in rules:
        counts = [clusters(part) for part in as_rules(rule)]
        weights = [part.weight for part in rule.parts] or [1.0]
        noise = sum(w**2 / n for w, n in zip(weights, counts, strict=True) if n)
        made[rule.name] = int(1.0 / noise + 1e-9) if noise and all(counts) else 0
    return made


def cost(ws: Workspace, point: Checkpoint, loaded: Loaded) -> Estimate:
    """What running a checkpoint on the suite would take, from nothing."""
    from forgetbench.planning.estimate import estimate
    from forgetbench.planning.plan import build_plan

    return estimate(build_plan(jobs(ws, loaded, point), point), point)
