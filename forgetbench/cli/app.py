"""The commands and their flags. Each body imports what it needs when it runs, so that --help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="forgetbench",
    help="Tells what a fine-tune broke: pairs a base and its checkpoints item by item, and gates on the difference.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda t: t.replace("_", "-"),
    },
)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="forgetbench.yaml (default: here or above)")]
SuiteOption = Annotated[str | None, typer.Option("--suite", "-s", help="quick, standard, full, or a suite file")]
PolicyOption = Annotated[str | None, typer.Option("--policy", "-p", help="default, strict, smoke, or a policy file")]
DataOption = Annotated[Path | None, typer.Option("--data-dir", help="folder with mmlu/, gsm8k/, ... in original files")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="never look anything up on the network")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="first n items (MMLU: of each subject)")]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="transformers, vllm, openai, ray or scripted; default: as configured")
]
NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="ask also what the response cache can answer")]
DevicesOption = Annotated[
    str, typer.Option("--devices", help="GPUs to run checkpoints on side by side: 0,1; auto: all there are")
]
UnsafeOption = Annotated[
    bool, typer.Option("--unsafe-exec", help="run generated programs without a sandbox; results say so")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")]
ReportOption = Annotated[Path | None, typer.Option("--report", help="where to write the HTML report")]
EmbedOption = Annotated[str, typer.Option("--embed", help="answers in the report: flips, all or none")]
LangOption = Annotated[str, typer.Option("--lang", help="language of the report's fixed text: en or zh")]
TrainDataOption = Annotated[
    list[Path] | None,
    typer.Option("--train-data", help="the candidate's training data; repeat it: shows changes without leaked items"),
]
WaiversOption = Annotated[
    Path | None, typer.Option("--waivers", help="file of waivers; default: `waivers:` of the config")
]
BaselineOption = Annotated[
    Path | None, typer.Option("--baseline", help="baseline.lock.json that the base has to match, else exit 12")
]
VerdictJsonOption = Annotated[
    Path | None, typer.Option("--verdict-json", help="write the verdict as JSON (docs/ci.md), also where there is none")
]
JunitOption = Annotated[Path | None, typer.Option("--junit", help="write JUnit XML, a case for each rule")]
CommentOption = Annotated[Path | None, typer.Option("--comment", help="write Markdown for a pull request's comment")]
GitlabOption = Annotated[Path | None, typer.Option("--gitlab", help="write GitLab's Code Quality JSON")]
GithubOption = Annotated[
    bool | None,
    typer.Option("--github/--no-github", help="annotations and step summary; default: where GITHUB_ACTIONS=true"),
]
PairByOption = Annotated[
    str, typer.Option("--pair-by", help="content, or key: imported items of one name are one item, on trust")
]
SharedOption = Annotated[
    bool, typer.Option("--shared-only", help="compare what both runs have; leave the rest out, with a note")
]
FieldOption = Annotated[
    list[str] | None, typer.Option("--field", help="OURS=COLUMN: what a column of the file is, such as score=pass1")
]
ViewOption = Annotated[str, typer.Option("--view", help="ability, chat or as_used: how the model was asked")]
Base = Annotated[str, typer.Argument(help="alias (or folder) of the reference")]
Candidates = Annotated[list[str], typer.Argument(help="aliases (or folders) of the candidates, oldest first")]


def _version(value: bool) -> None:
    if value:
        from forgetbench import __version__

        print(f"forgetbench {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    pass


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
            )


@app.command()
def run(
    models: Annotated[list[str], typer.Argument(help="aliases or folders")],
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
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
        engine=engine,
        unsafe_exec=unsafe_exec,
    )
    given = flags(
        config=config,
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
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


@app.command("import")
def import_(
    paths: Annotated[list[Path], typer.Argument(help="files of results")],
    from_: Annotated[
        str, typer.Option("--from", help="lm-eval, inspect, evalplus, plain; auto: as the files show")
    ] = "auto",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="ALIAS, or ALIAS=NAME of the files; default: all models of the files"),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="the set; default: what the files say")] = None,
    view: ViewOption = "ability",
    field: FieldOption = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="a plain score is a share of so many samples")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="NAME: what a plain score is; or THEIRS=OURS")
    ] = None,
    pair_by: Annotated[
        str, typer.Option("--pair-by", help="content, or key: keep items that the task does not have, by name")
    ] = "content",
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Make runs of results from elsewhere: lm-eval, Inspect, EvalPlus, or plain JSONL and CSV."""
    from forgetbench.cli import imports as command
    from forgetbench.runs.importers.gather import Options
    from forgetbench.workspace import open_workspace

    ws = open_workspace(config, suite=suite, data_dir=data_dir, offline=offline, pair_by=pair_by, importing=True)
    options = Options(
        format=from_,
        task=task,
        models=command.models(model),
        view=command.view(view),
        fields=command.pairs("--field", field),
        trials=trials,
        metrics=command.metrics(metric),
        by_name=ws.pair_by == "key",
    )
    command.import_(ws, paths, options, as_json=json)


@app.command()
def score(
    outputs: Annotated[list[Path], typer.Argument(help="files with texts, one or several for each item")],
    task: Annotated[str, typer.Option("--task", "-t", help="whose scorer reads them")],
    model: Annotated[str, typer.Option("--model", "-m", help="alias of the run")],
    view: ViewOption = "ability",
    field: FieldOption = None,
    by_position: Annotated[
        bool, typer.Option("--by-position", help="the n-th row is the task's n-th item, on trust")
    ] = False,
    cut: Annotated[bool, typer.Option("--cut", help="cut texts at the task's stop strings, as an engine does")] = False,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="of the samples")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="items without an output are left out of the run")
    ] = False,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    unsafe_exec: UnsafeOption = False,
    json: JsonOption = False,
) -> None:
    """Score texts made elsewhere with this project's scorers, into a run like any other."""
    from forgetbench.cli import imports as command
    from forgetbench.runs.importers.outputs import Options
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config, suite=suite, data_dir=data_dir, offline=offline, unsafe_exec=unsafe_exec, importing=True
    )
    options = Options(
        view=command.view(view),
        fields=command.pairs("--field", field),
        by_position=by_position,
        cut=cut,
        temperature=temperature,
        allow_missing=allow_missing,
    )
    command.score(ws, outputs, model, task, options, as_json=json)


@app.command()
def ls(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the runs on disk."""
    from forgetbench.cli import ls as command

    command.ls(config, as_json=json)


@app.command()
def validate(
    config: ConfigOption = None,
    suite: SuiteOption = None,
    policy: PolicyOption = None,
    waivers: WaiversOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Check config, suite, policy, sets and model folders; every mistake is listed, nothing is run."""
    from forgetbench.cli import validate as command

    command.validate(
        config, suite=suite, policy=policy, waivers=waivers, data_dir=data_dir, offline=offline, as_json=json
    )


@app.command()
def floor(
    model: Annotated[str, typer.Argument(help="alias or folder, usually the base")],
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    no_cache: NoCacheOption = False,
    json: JsonOption = False,
) -> None:
    """Run a checkpoint a second time and show how much it differs from itself: the noise floor of `compare`."""
    from forgetbench.cli import floor as command
    from forgetbench.cli.work import How
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=[model],
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        engine=engine,
        unsafe_exec=unsafe_exec,
    )
    command.floor(ws, How((model,), use_cache=not no_cache), as_json=json)


baseline_app = typer.Typer(help="The run that a gate holds checkpoints against, as a file.", no_args_is_help=True)
app.add_typer(baseline_app, name="baseline")


@baseline_app.command("set")
def baseline_set(
    model: Annotated[str, typer.Argument(help="alias (or folder) of the reference")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to commit")] = Path("baseline.lock.json"),
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    unsafe_exec: UnsafeOption = False,
    json: JsonOption = False,
) -> None:
    """Write the lock of a run on disk; `gate --baseline FILE` then refuses any other run. Generates nothing."""
    from forgetbench.cli import baseline as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=[model],
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        unsafe_exec=unsafe_exec,
    )
    command.set_baseline(ws, out=out, as_json=json)


cache_app = typer.Typer(help="What the response cache holds, and how to make it smaller.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")


@cache_app.command("ls")
def cache_ls(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List who answered what is cached: model, checkpoint, engine."""
    from forgetbench.cli import cache as command

    command.ls(config, as_json=json)


@cache_app.command("prune")
def cache_prune(
    config: ConfigOption = None,
    older_than: Annotated[str | None, typer.Option("--older-than", help="not used for so long: 30d, 4w")] = None,
    max_size: Annotated[
        str | None, typer.Option("--max-size", help="the longest unused, until the file is no larger: 5GB")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="an alias, or the start of a checkpoint digest")] = None,
    everything: Annotated[bool, typer.Option("--all", help="everything; also a file that is damaged")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="remove nothing: say what would go")] = False,
    json: JsonOption = False,
) -> None:
    """Remove cached answers and give their space back. What goes is asked again when it is next needed."""
    from forgetbench.cli import cache as command

    command.prune(
        config,
        older_than=older_than,
        max_size=max_size,
        model=model,
        everything=everything,
        dry_run=dry_run,
        as_json=json,
    )


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="where to write forgetbench.yaml")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Write a commented forgetbench.yaml."""
    from forgetbench.cli import init as command

    command.init(folder, force=force)


@app.command()
def doctor(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check this machine: Python, libraries, GPU, folders, data; with cures."""
    from forgetbench.cli import doctor as command

    command.doctor(config, as_json=json)
