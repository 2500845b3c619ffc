"""`forgetbench compare`, `gate` and `report`: they differ in whether anything is run and what is written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from forgetbench import flow, imported, resolving, running
from forgetbench.cli.output import console, print_json, say
from forgetbench.cli.outputs import Outputs
from forgetbench.cli.progress import bars
from forgetbench.cli.work import How, run_points
from forgetbench.errors import UsageError
from forgetbench.resolving import check_resolve
from forgetbench.rounds import Rounds, Side
from forgetbench.studying import check as check_study
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.gate.types import Against
    from forgetbench.probing.types import Example
    from forgetbench.report.embed import Embed
    from forgetbench.runs.store import Run
    from forgetbench.training.data import TrainingText


class ReportAs(NamedTuple):
    """Where the report goes and what is in it, as the flags say."""

    out: Path | None
    embed: str
    lang: str

    def check(self) -> None:
        """A misspelt flag must not surface after an hour of running. Raises UsageError."""
        from forgetbench.report.embed import EMBEDS
        from forgetbench.report.words import languages

        for flag, value, known in (("--embed", self.embed, EMBEDS), ("--lang", self.lang, languages())):
            if value not in known:
                raise UsageError(flag, f"there is no '{value}'", f"choose one of: {', '.join(known)}")


def compare(
    ws: Workspace,
    base: str,
    candidates: Sequence[str],
    *,
    how: How,
    report: ReportAs,
    outputs: Outputs,
    as_json: bool,
    train_data: Sequence[Path] = (),
    sequential: bool = False,
    resolve: int | None = None,
) -> None:
    report.check()
    if resolve is not None:
        check_resolve(candidates, sequential=sequential)
        judged = _judge_resolving(ws, base, candidates, how=how, train_data=train_data, budget=resolve)
    elif sequential:
        judged = _judge_sequentially(ws, base, candidates, how=how, train_data=train_data)
    else:
        judged = _judge(ws, base, candidates, how=how, train_data=train_data, study=True)
    path = _write_report(ws, judged, report)
    _show(judged, path, as_json)
    outputs.verdicts([j.verdict for j in judged])
    sys.exit(judged[-1].verdict.exit_code)


def gate(ws: Workspace, base: str, candidates: Sequence[str], *, outputs: Outputs, as_json: bool) -> None:
    judged = _judge(ws, base, candidates)
    _show(judged, None, as_json)
    outputs.verdicts([j.verdict for j in judged])
    sys.exit(judged[-1].verdict.exit_code)


def report(ws: Workspace, base: str, candidates: Sequence[str], *, report: ReportAs, as_json: bool) -> None:
    report.check()
    path = _write_report(ws, _judge(ws, base, candidates, study=True), report)
    if as_json:
        print_json({"report": str(path)})
    else:
        say(f"report: {path}")


def _judge(
    ws: Workspace,
    base: str,
    candidates: Sequence[str],
    *,
    how: How | None = None,
    train_data: Sequence[Path] = (),
    study: bool = False,
) -> list[flow.Judgement]:
    """With `how`, what is missing is run first; without it nothing is asked. study: the behaviour too."""
    if base in candidates and len(candidates) > 1:
        raise UsageError(f"candidate '{base}'", "is the base itself", "compare it alone, or leave it out")
    aliases = flow.aliases(ws, base, candidates)
    ws, loaded = imported.tasks(ws, aliases)
    points = {alias: flow.checkpoint(ws, alias, to_run=how is not None) for alias in aliases}
    policies = flow.policies(ws, loaded, points, base, candidates)
    texts = _training_texts(train_data)
    if study:
        check_study(ws)
    if how is not None:
        runs = run_points(ws, list(points.values()), loaded, how)
        say("comparing")
    else:
        runs = {alias: flow.run(ws, alias, loaded, say=say, generate=False) for alias in aliases}
    judged = flow.judge(ws, loaded, runs, policies, base, candidates)
    if study:
        from forgetbench.studying import studied

        asked = how is not None
        use_cache = how is None or how.use_cache
        examples = _examples(train_data) if asked else []
        judged = studied(
            ws,
            loaded,
            points,
            runs,
            judged,
            say,
            training=texts,
            examples=examples,
            use_cache=use_cache,
            generate=asked,
        )
    if train_data:
        from forgetbench.findings import with_training_data

        where = ", ".join(file.name for file in train_data)
        judged = with_training_data(ws, loaded, judged, texts, where)
    return judged


def _judge_sequentially(
    ws: Workspace, base: str, candidates: Sequence[str], *, how: How, train_data: Sequence[Path]
) -> list[flow.Judgement]:
    """References whole, the candidate only as far as its rules need it."""
    from forgetbench import sequential

    if len(candidates) > 1:
        problem = f"is for one candidate, and {len(candidates)} are named"
        raise UsageError("--sequential", problem, "compare them one by one")
    (candidate,) = candidates
    if train_data:
        problem = "cannot go with --train-data: without the leaked items other rules would have been decided"
        raise UsageError("--sequential", problem, "leave out one of the two")
    aliases = flow.aliases(ws, base, candidates)
    ws, loaded = imported.tasks(ws, aliases)
    if imported.is_imported(ws, candidate):
        problem = f"has nothing to ask: {candidate} is an imported run"
        raise UsageError("--sequential", problem, "leave it out")
    points = {alias: flow.checkpoint(ws, alias, to_run=True) for alias in aliases}
    policies = flow.policies(ws, loaded, points, base, candidates)
    references = [alias for alias in aliases if alias != candidate or alias == base]
    runs = run_points(ws, [points[alias] for alias in references], loaded, how)
    against: dict[Against, Run] = {"base": runs[base]}
    if ws.config.locked and ws.config.locked != candidate:
        against["locked"] = runs[ws.config.locked]
    policy = policies[candidate]
    found = sequential.run(ws, points[candidate], against, loaded, policy, say, use_cache=how.use_cache)
    say("comparing")
    judged = flow.judge(ws, loaded, found.runs, {candidate: found.policy}, base, candidates, order=found.order)
    return [replace(j, verdict=replace(j.verdict, notes=(*found.notes, *j.verdict.notes))) for j in judged]


def _judge_resolving(
    ws: Workspace, base: str, candidates: Sequence[str], *, how: How, train_data: Sequence[Path], budget: int
) -> list[flow.Judgement]:
    """Looks at undecided rules, paid for out of alpha and a budget of tokens."""
    if base in candidates:
        raise UsageError("--resolve", f"{base} is compared with itself", "leave it out")
    if train_data:
        problem = "cannot go with --train-data: without the leaked items other rules would have been looked at again"
        raise UsageError("--resolve", problem, "leave out one of the two")
    aliases = flow.aliases(ws, base, candidates)
    ws, loaded = imported.tasks(ws, aliases)
    points = {alias: flow.checkpoint(ws, alias, to_run=True) for alias in aliases}
    policies = flow.policies(ws, loaded, points, base, candidates)
    runs = run_points(ws, list(points.values()), loaded, how)
    say("comparing")
    elsewhere = any(imported.is_imported(ws, alias) for alias in aliases)
    planned = resolving.schedule(ws, loaded, policies[candidates[0]], list(runs.values()), budget, imported=elsewhere)

    def asker(here: Workspace) -> Rounds:
        sides = [Side(point, runs[alias], ()) for alias, point in points.items()]
        return Rounds(here, loaded, sides, say, use_cache=how.use_cache)

    found = resolving.resolve(
        ws,
        loaded,
        list(points.values()),
        runs,
        planned,
        judge=lambda here, now, look: flow.judge(here, loaded, now, policies, base, candidates, look=look)[0],
        ask=lambda here, these: running.run_all(here, these, loaded, say, bars=bars, use_cache=how.use_cache),
        asker=asker,
        say=say,
    )
    return [found]


def _training_texts(files: Sequence[Path]) -> list[TrainingText]:
    """Read before anything runs: a broken file must not surface after an hour."""
    from forgetbench.training.data import read_training

    return read_training(files) if files else []


def _examples(files: Sequence[Path]) -> list[Example]:
    """Those of the training data that ask and answer; plain text has none."""
    from forgetbench.probing.training_lines import read_examples

    try:
        return read_examples(files) if files else []
    except UsageError as e:
        say(f"no fit to the training set: {e}")
        return []


def _write_report(ws: Workspace, judged: Sequence[flow.Judgement], report: ReportAs) -> Path:
    from forgetbench.report.html import build_report

    base = judged[-1].verdict.base
    name = "-".join([base, *(j.alias for j in judged)]).replace("/", "_").strip("._") or "report"
    path = report.out or ws.reports / f"{name[:120]}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return build_report(
            [c for j in judged for c in j.comparisons],
            [j.verdict for j in judged],
            path,
            title=f"{base} → {judged[-1].alias}",
            banner=ws.suite.banner,
            embed=cast("Embed", report.embed),
            lang=report.lang,
        )
    except OSError as e:
        raise UsageError(str(path), f"cannot be written ({e.strerror})", "choose another path with --report") from None


def _show(judged: Sequence[flow.Judgement], path: Path | None, as_json: bool) -> None:
    for line in dict.fromkeys(u.line for j in judged for u in j.verdict.waivers if u.state == "expired"):
        say(f"forgetbench: error: {line}")
    if as_json:
        print_json(_as_json(judged, path))
        return
    from forgetbench.report.terminal import print_verdict

    print_verdict(console(), [c for j in judged for c in j.comparisons], [j.verdict for j in judged])
    if path is not None:
        print(f"report: {path}")


def _as_json(judged: Sequence[flow.Judgement], path: Path | None) -> dict[str, Any]:
    from forgetbench.gate.serialise import verdict_to_dict
    from forgetbench.report.behaviour import to_dict as behaviours
    from forgetbench.report.speed import answers_to_dict

    return {
        "exit_code": int(judged[-1].verdict.exit_code),
        "report": str(path) if path is not None else None,
        "verdicts": [verdict_to_dict(j.verdict) for j in judged],
        "answers": answers_to_dict([c for j in judged for c in j.comparisons]),
        "behaviour": behaviours([c for j in judged for c in j.comparisons]),
    }


def plan(ws: Workspace, base: str, candidates: Sequence[str], *, as_json: bool) -> None:
    """Run nothing: what would be asked, what it would cost, and what it could see."""
    aliases = flow.aliases(ws, base, candidates)
    ws, loaded = imported.tasks(ws, aliases)
    points = {alias: flow.checkpoint(ws, alias) for alias in aliases}
    policy = flow.policies(ws, loaded, points, base, candidates)[candidates[-1]]
    own = [alias for alias in aliases if not imported.is_imported(ws, alias)]
    costs = [(alias, flow.cost(ws, points[alias], loaded)) for alias in own]
    power = flow.power(ws, loaded, policy)
    from forgetbench.gate.alarms import chances
    from forgetbench.report.plan import plan_to_dict, print_plan

    alarms = chances(policy, flow.sizes(ws, loaded, policy.alarms))
    if as_json:
        print_json(plan_to_dict(costs, power, alarms))
    else:
        print_plan(console(), costs, power, alarms)
