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
PolicyOption = Annotated[str | None, typer.Option("--policy", "-p", help="default, or a policy file")]
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
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    devices: DevicesOption = "auto",
    no_cache: NoCacheOption = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="run nothing: show requests, cost, and what could be seen")
    ] = False,
    report: ReportOption = None,
    embed: EmbedOption = "flips",
    lang: LangOption = "en",
    train_data: TrainDataOption = None,
    json: JsonOption = False,
) -> None:
    """Run what is missing, compare, judge, and write the report. Ends in 0, 10, 11 or 12."""
    from forgetbench.cli import compare as command
    from forgetbench.cli.work import How, flags
    from forgetbench.workspace import open_workspace

    typed = (base, *candidates)
    ws = open_workspace(
        config,
        models=[base, *candidates],
        suite=suite,
        policy=policy,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        unsafe_exec=unsafe_exec,
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
            as_json=json,
            train_data=train_data or (),
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
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
    json: JsonOption = False,
) -> None:
    """Judge from runs on disk; generates nothing. Ends in 0, 10, 11 or 12."""
    from forgetbench.cli import compare as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=[base, *candidates],
        suite=suite,
        policy=policy,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        unsafe_exec=unsafe_exec,
        engine=engine,
    )
    command.gate(ws, ws.chosen[0], ws.chosen[1:], as_json=json)


@app.command()
def report(
    base: Base,
    candidates: Candidates,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    policy: PolicyOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    limit: LimitOption = None,
    unsafe_exec: UnsafeOption = False,
    engine: EngineOption = None,
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
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        unsafe_exec=unsafe_exec,
        engine=engine,
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
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Check config, suite, policy, sets and model folders; every mistake is listed, nothing is run."""
    from forgetbench.cli import validate as command

    command.validate(config, suite=suite, policy=policy, data_dir=data_dir, offline=offline, as_json=json)


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
