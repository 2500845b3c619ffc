"""Commands that look closer at one candidate: its weights, and single items under many forms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetbench.cli.options import (
    Base,
    ConfigOption,
    DataOption,
    EngineOption,
    JsonOption,
    LimitOption,
    NoCacheOption,
    OfflineOption,
    SuiteOption,
    TrainDataOption,
    UnsafeOption,
)
from forgetbench.cli.root import app

Candidate = Annotated[str, typer.Argument(help="alias (or folder) of the candidate")]


@app.command()
def drift(
    base: Base,
    candidate: Candidate,
    config: ConfigOption = None,
    offline: OfflineOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the page with the heat map")] = None,
    directions: Annotated[
        bool,
        typer.Option("--directions/--no-directions", help="look for directions that the base lacks (half of the time)"),
    ] = True,
    json: JsonOption = False,
) -> None:
    """What the fine-tune did to the weights, tensor by tensor. Runs no model and gates nothing."""
    from forgetbench.cli import drift as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(config, models=[base, candidate], offline=offline)
    command.drift(ws, out=out, directions=directions, as_json=json)


@app.command()
def probe(
    base: Base,
    candidate: Candidate,
    item: Annotated[
        list[str] | None, typer.Option("--item", help="TASK:HASH, or a link out of a report; repeat it")
    ] = None,
    set_: Annotated[Path | None, typer.Option("--set", help="YAML of items and templates of your own")] = None,
    templates: Annotated[Path | None, typer.Option("--templates", help="YAML of templates for --item")] = None,
    train_data: TrainDataOption = None,
    frequency: Annotated[
        Path | None, typer.Option("--frequency", help="CSV key,count: how often the base met a fact")
    ] = None,
    view: Annotated[
        str | None, typer.Option("--view", help="ability, chat or as_used; default: chat where both have a template")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=0, help="of each variant, beside the greedy answer")] = 4,
    most: Annotated[int, typer.Option("--most", min=1, help="items of --set at most")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of typos and of other questions")] = 0,
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
    """Find the word or pattern that a candidate is over-fitted to, and how it fits its training set."""
    from forgetbench.cli import probe as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(
        config,
        models=[base, candidate],
        suite=suite,
        data_dir=data_dir,
        offline=offline,
        limit=limit,
        engine=engine,
        unsafe_exec=unsafe_exec,
    )
    wanted = command.Wanted(
        tuple(item or ()), set_, templates, tuple(train_data or ()), frequency, view, samples, most, seed, not no_cache
    )
    base, candidate = ws.chosen
    command.probe(ws, base, candidate, wanted, as_json=json)
