"""Commands of training: data looked at and made, fine-tunes, experiments with them, merges."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetbench.cli.options import (
    ConfigOption,
    DataOption,
    EngineOption,
    JsonOption,
    NoCacheOption,
    OfflineOption,
    SuiteOption,
)
from forgetbench.cli.root import app

data = typer.Typer(
    help="Training data: checked, mixed, and given canaries.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data, name="data")

Seed = Annotated[int, typer.Option("--seed", min=0, help="of everything that is drawn")]
Out = Annotated[Path, typer.Option("--out", "-o", help="the file that is written")]
OutFolder = Annotated[Path | None, typer.Option("--out", "-o", help="folder of the results; default: beside the file")]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="recipe.yaml (docs/train.md)")],
    out: OutFolder = None,
    check: Annotated[bool, typer.Option("--check", help="train nothing: look whether it would go well")] = False,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """One supervised fine-tune. The same command goes on where a run was stopped."""
    from forgetbench.cli import train as command

    command.train(recipe, out=out, config=config, check=check, as_json=json, data_dir=data_dir, offline=offline)


@app.command()
def ab(
    experiment: Annotated[Path, typer.Argument(help="experiment.yaml (docs/ab.md)")],
    out: OutFolder = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="arms trained side by side")] = 1,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Several ways to train, each over several seeds, at a matched target score. Ends in 10 if none is acceptable."""
    from forgetbench.cli import ab as command

    command.ab(experiment, config=config, out=out, workers=workers, as_json=json, data_dir=data_dir, offline=offline)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="sweep.yaml (docs/sweep.md)")],
    out: OutFolder = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """The largest learning rate (or other number of a recipe) whose loss stays within a margin."""
    from forgetbench.cli import sweep as command

    command.sweep(file, config=config, out=out, as_json=json, data_dir=data_dir, offline=offline)


@app.command()
def merge(
    models: Annotated[list[str], typer.Argument(help="aliases or folders, the base first where the method has one")],
    method: Annotated[str, typer.Option("--method", "-m", help="linear, slerp, ties, dare, dare-ties, wise-ft")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the merged checkpoint; of several alphas: above")],
    adapters: Annotated[bool, typer.Option("--adapters", help="merge the models' LoRA adapters, not weights")] = False,
    weights: Annotated[str | None, typer.Option("--weights", help="one for each model: .5,.5")] = None,
    alphas: Annotated[str | None, typer.Option("--alphas", help="steps from base to candidate: 0.25,0.5,0.75")] = None,
    density: Annotated[float | None, typer.Option("--density", help="share of the changes kept (ties, dare)")] = None,
    lam: Annotated[float | None, typer.Option("--lambda", help="scale of the merged changes (ties, dare)")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="of what dare drops")] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="of a merged adapter")] = None,
    like: Annotated[str | None, typer.Option("--like", help="whose tokenizer and settings; default: the last")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16, float16; default: --like's")] = None,
    config: ConfigOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
) -> None:
    """Several checkpoints (or adapters of one base) made into one, read as streams."""
    from forgetbench.cli import merge as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(config, models=models, offline=offline)
    command.merge(
        ws,
        method=method,
        out=out,
        adapters=adapters,
        weights=weights,
        alphas=alphas,
        density=density,
        lam=lam,
        seed=seed,
        rank=rank,
        like=like,
        dtype=dtype,
        as_json=json,
    )


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="alias (or folder) of who answers")],
    out: Out,
    best_of: Annotated[int, typer.Option("--best-of", "-n", min=1, help="answers to each item, the best one kept")],
    set_: Annotated[Path | None, typer.Option("--set", help="custom set whose items are asked")] = None,
    train_data: Annotated[
        list[Path] | None, typer.Option("--train-data", help="training files whose prompts are asked; repeat it")
    ] = None,
    scorer: Annotated[str | None, typer.Option("--scorer", help="for items that name none (default exact)")] = None,
    fewshot: Annotated[Path | None, typer.Option("--fewshot", help="worked examples of raw prompts")] = None,
    num_fewshot: Annotated[int, typer.Option("--num-fewshot", min=0, help="how many of them")] = 0,
    temperature: Annotated[float, typer.Option("--temperature", help="of the answers")] = 0.8,
    top_p: Annotated[float, typer.Option("--top-p", help="of the answers")] = 0.95,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="of an answer")] = 256,
    seed: Seed = 0,
    suite_items: Annotated[bool, typer.Option("--suite-items", help="ask also what the suite tests")] = False,
    config: ConfigOption = None,
    suite: SuiteOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    engine: EngineOption = None,
    no_cache: NoCacheOption = False,
    json: JsonOption = False,
) -> None:
    """Rejection sampling: a model's best answers as training data, with where they come from."""
    from forgetbench.cli import sample as command
    from forgetbench.workspace import open_workspace

    ws = open_workspace(config, models=[model], suite=suite, data_dir=data_dir, offline=offline, engine=engine)
    command.sample(
        ws,
        ws.chosen[0],
        out=out,
        best_of=best_of,
        set_file=set_,
        train_data=tuple(train_data or ()),
        scorer=scorer,
        fewshot=fewshot,
        num_fewshot=num_fewshot,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        suite_items=suite_items,
        use_cache=not no_cache,
        as_json=json,
    )


@data.command("check")
def data_check(
    files: Annotated[list[Path], typer.Argument(help="training files")],
    base: Annotated[str | None, typer.Option("--base", help="alias (or folder): perplexity under it")] = None,
    longest: Annotated[int | None, typer.Option("--longest", min=1, help="tokens that a sample may have")] = None,
    per_type: Annotated[int, typer.Option("--per-type", min=1, help="samples whose perplexity is measured")] = 50,
    seed: Seed = 0,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="folder or hub id of a model: duplicates by meaning")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", help="look for its items in the data: a preset or a suite file")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    offline: OfflineOption = False,
    no_cache: NoCacheOption = False,
    json: JsonOption = False,
) -> None:
    """Duplicates, monotony, lengths, shares by task_type, perplexity, leaks. Ends in 10 where a check fails."""
    from forgetbench.cli import data as command
    from forgetbench.workspace import open_workspace

    ws = None
    if base is not None or suite is not None:
        models = [] if base is None else [base]
        ws = open_workspace(config, models=models, suite=suite, data_dir=data_dir, offline=offline)
        base = ws.chosen[0] if models else None
    command.check(
        files,
        ws,
        base=base,
        with_suite=suite is not None,
        longest=longest,
        per_type=per_type,
        seed=seed,
        embedder=embedder,
        use_cache=not no_cache,
        as_json=json,
    )


@data.command("mix")
def data_mix(
    config: Annotated[Path, typer.Argument(help="mix.yaml (docs/training-data.md)")],
    out: Out,
    json: JsonOption = False,
) -> None:
    """Files put together by shares of their task_types, with replay."""
    from forgetbench.cli import data as command

    command.mix(config, out, as_json=json)


@data.command("canary")
def data_canary(
    file: Annotated[Path, typer.Argument(help="training data that canaries are planted in")],
    out: Out,
    n: Annotated[int, typer.Option("--n", min=1, help="invented facts")] = 20,
    set_: Annotated[Path | None, typer.Option("--set", help="the set that asks them; default: beside OUT")] = None,
    seed: Seed = 0,
    json: JsonOption = False,
) -> None:
    """Invented facts and a special token, from which `compare` reads how far a run memorises."""
    from forgetbench.cli import data as command

    command.canary(file, out, n=n, set_file=set_, seed=seed, as_json=json)
