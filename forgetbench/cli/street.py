"""The commands from a model to a verdict. Each body imports what it needs when it runs, so that --help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetbench.cli.options import (
    Base,
    BaselineOption,
    Candidates,
    CommentOption,
    ConfigOption,
    DataOption,
    DevicesOption,
    EmbedOption,
    EngineOption,
    GithubOption,
    GitlabOption,
    JsonOption,
    JunitOption,
    LangOption,
    LimitOption,
    NoCacheOption,
    OfflineOption,
    PairByOption,
    PolicyOption,
    ReportOption,
    ResolveOption,
    SamplesOption,
    SharedOption,
    StudyOption,
    SuiteOption,
    TemperatureOption,
    TrainDataOption,
    UnsafeOption,
    VerdictJsonOption,
    WaiversOption,
)
from forgetbench.cli.root import app


@app.command()
def compare(
    base: Base,
    candidates: Candidates,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    policy: PolicyOption = None,
    waivers: WaiversOption = None,
    baseline: BaselineOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
    study: StudyOption = None,
    unsafe_exec: UnsafeOption = False,
    pair_by: PairByOption = "content",
    shared_only: SharedOption = False,
    engine: EngineOption = None,
    devices: DevicesOption = "auto",
    no_cache: NoCacheOption = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="run nothing: show requests, cost, and what could be seen")
    ] = False,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="ask the candidate only as far as the rules need it")
    ] = False,
    resolve: ResolveOption = None,
    report: ReportOption = None,
    embed: EmbedOption = "flips",
    lang: LangOption = "en",
    train_data: TrainDataOption = None,
    verdict_json: VerdictJsonOption = None,
    junit: JunitOption = None,
    comment: CommentOption = None,
    gitlab: GitlabOption = None,
    github: GithubOption = None,
    json: JsonOption = False,
) -> None:
    """Run what is missing, compare, judge, and write the report. Ends in 0, 10, 11 or 12."""
    from forgetbench.cli import compare as command
    from forgetbench.cli.outputs import Outputs, Where, pinned
    from forgetbench.cli.work import How, flags
    from forgetbench.workspace import open_workspace

    typed = (base, *candidates)
    where = Where(verdict_json, junit, comment, gitlab, github, pinned(config, policy))
    with Outputs(where, as_json=json) as outputs:
        ws = open_workspace(
            config,
            models=[base, *candidates],
            suite=suite,
            policy=policy,
            waivers=waivers,
            baseline=baseline,
            data_dir=data_dir,
            offline=offline,
            limit=limit,
            samples=samples,
            temperatures=temperature or (),
            study=study,
            unsafe_exec=unsafe_exec,
            pair_by=pair_by,
            shared_only=shared_only,
            engine=engine,
        )
        base, *candidates = ws.chosen
        if plan:
            command.plan(ws, base, candidates, as_json=json)
        else:
            given = flags(
                config=config,
                suite=suite,
                data_dir=data_dir,
                offline=offline,
                limit=limit,
                samples=samples,
                temperatures=temperature or (),
                unsafe_exec=unsafe_exec,
                engine=engine,
            )
            command.compare(
                ws,
                base,
                candidates,
                how=How(typed, given, devices, not no_cache),
                report=command.ReportAs(report, embed, lang),
                outputs=outputs,
                as_json=json,
                train_data=train_data or (),
                sequential=sequential,
                resolve=resolve,
            )


@app.command()
def run(
    models: Annotated[list[str], typer.Argument(help="aliases or folders")],
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    devices: DevicesOption = "auto",
    no_cache: NoCacheOption = False,
    only: Annotated[list[str] | None, typer.Option("--only", hidden=True)] = None,
    json: JsonOption = False,
) -> None:
    """Run checkpoints on a suite; what is on disk already is not run again."""
    from forgetbench.cli import run as command
    from forgetbench.cli.work import How, flags
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=models,
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        samples=samples,
        temperatures=temperature or (),
        engine=engine,
        unsafe_exec=unsafe_exec,
    )
    given = flags(
        config=config,
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        samples=samples,
        temperatures=temperature or (),
        unsafe_exec=unsafe_exec,
        engine=engine,
    )
    command.run(ws, How(tuple(models), given, devices, not no_cache), only=only or (), as_json=json)


@app.command()
def gate(
    base: Base,
    candidates: Candidates,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    policy: PolicyOption = None,
    waivers: WaiversOption = None,
    baseline: BaselineOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    pair_by: PairByOption = "content",
    shared_only: SharedOption = False,
    verdict_json: VerdictJsonOption = None,
    junit: JunitOption = None,
    comment: CommentOption = None,
    gitlab: GitlabOption = None,
    github: GithubOption = None,
    json: JsonOption = False,
) -> None:
    """Judge from runs on disk; generates nothing. Ends in 0, 10, 11 or 12."""
    from forgetbench.cli import compare as command
    from forgetbench.cli.outputs import Outputs, Where, pinned
    from forgetbench.workspace import open_workspace

    where = Where(verdict_json, junit, comment, gitlab, github, pinned(config, policy))
    with Outputs(where, as_json=json) as outputs:
        ws = open_workspace(
            config,
            models=[base, *candidates],
            suite=suite,
            policy=policy,
            waivers=waivers,
            baseline=baseline,
            data_dir=data_dir,
            offline=offline,
            limit=limit,
            samples=samples,
            temperatures=temperature or (),
            unsafe_exec=unsafe_exec,
            engine=engine,
            pair_by=pair_by,
            shared_only=shared_only,
        )
        command.gate(ws, ws.chosen[0], ws.chosen[1:], outputs=outputs, as_json=json)


@app.command()
def report(
    base: Base,
    candidates: Candidates,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    policy: PolicyOption = None,
    waivers: WaiversOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
    study: StudyOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    pair_by: PairByOption = "content",
    shared_only: SharedOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the HTML file")] = None,
    embed: EmbedOption = "flips",
    lang: LangOption = "en",
    json: JsonOption = False,
) -> None:
    """Write the HTML report from runs on disk; generates nothing."""
    from forgetbench.cli import compare as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=[base, *candidates],
        suite=suite,
        policy=policy,
        waivers=waivers,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        samples=samples,
        temperatures=temperature or (),
        study=study,
        unsafe_exec=unsafe_exec,
        engine=engine,
        pair_by=pair_by,
        shared_only=shared_only,
    )
    command.report(ws, ws.chosen[0], ws.chosen[1:], report=command.ReportAs(out, embed, lang), as_json=json)


@app.command()
def export(
    base: Base,
    candidate: Annotated[str, typer.Argument(help="alias (or folder) of the candidate")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the JSONL file")],
    flips: Annotated[
        bool, typer.Option("--flips", help="flipped, unparsed or diverged items, with both answers")
    ] = False,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    pair_by: PairByOption = "content",
    shared_only: SharedOption = False,
    json: JsonOption = False,
) -> None:
    """Write items of two runs on disk as JSONL, seeds for new data; generates nothing."""
    from forgetbench.cli import export as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=[base, candidate],
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        samples=samples,
        temperatures=temperature or (),
        unsafe_exec=unsafe_exec,
        engine=engine,
        pair_by=pair_by,
        shared_only=shared_only,
    )
    command.export(ws, *ws.chosen, out=out, flips=flips, as_json=json)


@app.command()
def show(
    item: Annotated[str, typer.Argument(help="TASK:HASH, as much of a hash as is unique, or a link out of a report")],
    base: Annotated[str | None, typer.Argument(help="alias of the reference; default: the first with a run")] = None,
    candidate: Annotated[str | None, typer.Argument(help="alias beside it; default: the last with a run")] = None,
    config: ConfigOption = None,
    base_option: Annotated[str | None, typer.Option("--base", help="the same as the argument")] = None,
    candidate_option: Annotated[str | None, typer.Option("--candidate", help="the same as the argument")] = None,
    view: Annotated[str | None, typer.Option("--view", help="ability, chat or as_used; default: all there are")] = None,
    full: Annotated[bool, typer.Option("--full", help="whole prompts and answers, however long")] = False,
    json: JsonOption = False,
) -> None:
    """Print one item with both answers side by side, from runs on disk."""
    from forgetbench.cli import show as command

    sides = base_option or base, candidate_option or candidate
    command.show(config, item, *sides, view=view, full=full, as_json=json)
