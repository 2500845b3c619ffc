"""The commands around the street: what comes from elsewhere, what lies on disk, whether it all fits together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetbench.cli.options import (
    ConfigOption,
    DataOption,
    EngineOption,
    FieldOption,
    JsonOption,
    LimitOption,
    NoCacheOption,
    OfflineOption,
    PolicyOption,
    SamplesOption,
    SuiteOption,
    TemperatureOption,
    UnsafeOption,
    ViewOption,
    WaiversOption,
)
from forgetbench.cli.root import app


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
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
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
        samples=samples,
        temperatures=temperature or (),
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
    samples: SamplesOption = None,
    temperature: TemperatureOption = None,
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
        samples=samples,
        temperatures=temperature or (),
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
