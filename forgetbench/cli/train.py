"""`forgetbench train`: one supervised fine-tune, and with --check a look at whether it would go well."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from forgetbench.cli.output import console, print_json
from forgetbench.cli.train_live import telling
from forgetbench.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from forgetbench.training.recipe import Recipe
    from forgetbench.training.stopping import Trained


class Base(NamedTuple):
    """The weights that a recipe begins from."""

    name: str
    """What `forgetbench compare` calls it: its alias, or its folder."""
    folder: Path
    alias: str | None = None
    """In forgetbench.yaml; None: it is a folder or a hub id."""
    config: Path | None = None
    """The forgetbench.yaml that holds for the recipe, where there is one."""


def train(
    recipe: Path,
    *,
    out: Path | None,
    config: Path | None,
    check: bool,
    as_json: bool,
    data_dir: Path | None = None,
    offline: bool = False,
) -> None:
    """Train into `out` (default: a folder beside the recipe, with its name), or go on where that was stopped.

    Leaves with 0; with 10 where no checkpoint is acceptable (11: none could be judged for sure); with 2 where --check
    finds what fails. Raises UsageError, ManyUsageErrors, NotWritten, Exploded, Interrupted.
    """
    from forgetbench.training.recipe import load_recipe

    read = load_recipe(recipe)
    if offline:
        from forgetbench.checkpoints.hub import go_offline

        go_offline()
    base = find_base(read, recipe.resolve().parent, config)
    if check:
        _check(recipe, base, data_dir, offline=offline, as_json=as_json)
        return
    output = recipe.with_suffix("") if out is None else out
    if output.is_file() or output.resolve() == recipe.resolve():
        raise UsageError(str(output), "is a file", "name a folder with --out")
    trained = _run(read, recipe, output, base, data_dir, offline=offline)
    if os.environ.get("RANK", "0") != "0":  # of several processes one tells
        pass
    elif as_json:
        print_json(_as_json(trained, output, base))
    else:
        _show(trained, output, base)
    if trained.exit_code:
        sys.exit(int(trained.exit_code))


def _check(recipe: Path, base: Base, data_dir: Path | None, *, offline: bool, as_json: bool) -> None:
    from forgetbench.training.preflight.run import preflight
    from forgetbench.training.preflight.show import print_preflight, to_dict

    _quiet()
    found = preflight(recipe, str(base.folder), base.config, data_dir=data_dir, offline=offline)
    if as_json:
        print_json(to_dict(found))
    else:
        print_preflight(console(), found)
    if found.exit_code:
        sys.exit(int(found.exit_code))


def _run(read: Recipe, recipe: Path, output: Path, base: Base, data_dir: Path | None, *, offline: bool) -> Trained:
    import torch

    from forgetbench.runs.signals import sigterm_is_ctrl_c
    from forgetbench.training import fit
    from forgetbench.training.prepare import Where

    _quiet()
    root = recipe.resolve().parent
    try:
        with telling() as tell, sigterm_is_ctrl_c():
            where = Where(base.alias, base.config, data_dir, offline)
            return fit.train(read, root, str(base.folder), output, tell, where)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {_kept(output)}") from None
    except torch.OutOfMemoryError:
        cure = "lower `batch` and raise `accumulation`, or set `gradient_checkpointing: true`"
        raise UsageError(f"{recipe}: batch", "the device has too little memory for it", cure) from None


def _quiet() -> None:
    """Bars over files that load break up the lines of the command."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _kept(output: Path) -> str:
    """How a stopped run goes on."""
    from forgetbench.training.manifest import newest_complete

    newest = newest_complete(output)[0]
    if newest is None:
        return "no checkpoint was written yet; the same command begins again (`save_every` sets how often one is)"
    return f"the same command goes on from {newest}"


def find_base(recipe: Recipe, root: Path, config: Path | None) -> Base:
    """The checkpoint that `base` of a recipe names: an alias of forgetbench.yaml, a folder (from `root`), or a hub id.

    Raises UsageError for what is none of these, or has no weights of its own here.
    """
    from forgetbench.checkpoints.hub import locate
    from forgetbench.config import load_config
    from forgetbench.training.base import weights_of
    from forgetbench.workspace import open_workspace

    file = _config_file(root, config)
    known = {} if file is None else load_config(file).models
    if recipe.base in known:
        ws = open_workspace(file, models=[recipe.base])
        return Base(recipe.base, weights_of(ws, recipe.base), recipe.base, file)
    folder = root / Path(recipe.base).expanduser()
    if "\0" not in recipe.base and folder.is_dir():
        folder = folder.resolve()
        return Base(str(folder), _whole(folder), None, file)
    if "/" not in recipe.base:
        aliases = f" of {file} ({', '.join(known)})" if known else " of forgetbench.yaml"
        cure = f"name a folder (from {root}), a hub id (name/model), or an alias{aliases}"
        raise UsageError("base", f"'{recipe.base}' is neither a folder nor an alias", cure)
    found = locate(recipe.base, None, "base")
    return Base(str(found), _whole(found), None, file)


def _whole(folder: Path) -> Path:
    """The folder of a checkpoint that can be trained. Raises UsageError where something of it is missing or broken."""
    from forgetbench.checkpoints.fingerprint import default_cache_dir
    from forgetbench.checkpoints.resolve import resolve
    from forgetbench.checkpoints.spec import ModelSpec

    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        cure = "merge it into its base first (forgetbench merge), or name the base"
        raise UsageError(f"base: {folder}", "is a LoRA adapter", cure)
    try:
        return resolve(ModelSpec("base", str(folder)), default_cache_dir()).folder
    except UsageError as error:
        raise UsageError(error.where.removeprefix("models."), error.problem, error.cure) from None


def _config_file(root: Path, config: Path | None) -> Path | None:
    """The config named, that of the working directory, or that of the recipe's folder."""
    from forgetbench.config import find_config

    if config is not None:
        return config
    for start in (None, root):
        try:
            return find_config(None, start)
        except UsageError:
            continue
    return None


def _show(trained: Trained, output: Path, base: Base) -> None:
    from forgetbench.training.manifest import TRAINING

    if trained.final is None:
        print(f"{output}: {trained.why}")
        return
    print(f"checkpoint: {trained.final} ({trained.why})")
    print(f"manifest: {output / TRAINING}")
    print(shlex.join(["forgetbench", "compare", base.name, str(trained.final)]))


def _as_json(trained: Trained, output: Path, base: Base) -> dict[str, Any]:
    from forgetbench.training.manifest import METRICS, TRAINING

    return {
        "final": None if trained.final is None else str(trained.final),
        "step": trained.step,
        "steps": trained.steps,
        "why": trained.why,
        "exit_code": int(trained.exit_code),
        "base": base.name,
        "manifest": str(output / TRAINING),
        "metrics": str(output / METRICS),
    }
