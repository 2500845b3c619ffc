"""Make the demo: the evaluation sets and four checkpoints, each step cached by what went into it.

    base -> sft_v1 -> sft_v2     tuned carelessly on tickets
                   -> sft_null   tuned so gently that nothing is lost

A step's key is a hash of its recipe, its parent's key, the versions of torch and transformers and the source
files that it runs. A finished step is a folder with that key inside, put in place by one rename: a killed
build leaves no half a checkpoint, and a second build trains nothing and imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from forgetbench.demo.recipes import BASE, FINE_TUNES, FineTune, Pretraining
from forgetbench.demo.sets import REQUIRED, SETS, write_sets
from forgetbench.demo.train import Log
from forgetbench.demo.world import make_world

PARENTS: dict[str, str | None] = {"base": None, "sft_v1": "base", "sft_v2": "sft_v1", "sft_null": "sft_v1"}
KEY_FILE = "demo.json"
_DATA_SOURCES = ("world.py", "abilities.py", "text.py", "sets.py")
_BASE_SOURCES = ("world.py", "abilities.py", "text.py", "tokenizer.py", "rows.py", "model.py", "optim.py",
                 "train.py", "make.py")  # fmt: skip
_TUNE_SOURCES = ("world.py", "abilities.py", "text.py", "tokenizer.py", "rows.py", "finetune.py")
_TRAINER = ("chat.py", "collate.py", "dress.py", "fit.py", "losses.py", "objective.py", "packing.py", "recipe.py",
            "reference.py", "tokenise.py", "trainer.py")  # fmt: skip


@dataclass(frozen=True)
class DemoPaths:
    """Where everything lies. `sets[name]` has its worked examples in `shots[name]`."""

    root: Path
    base: Path
    sft_v1: Path
    sft_v2: Path
    sft_null: Path
    sets: dict[str, Path]
    shots: dict[str, Path]
    dev_sets: dict[str, Path]
    dev_shots: dict[str, Path]
    required: tuple[str, ...] = REQUIRED

    @property
    def sets_folder(self) -> Path:
        return self.root / "sets"

    @property
    def models(self) -> dict[str, Path]:
        return {name: getattr(self, name) for name in PARENTS}


def paths(out: Path) -> DemoPaths:
    def files(folder: Path, suffix: str) -> dict[str, Path]:
        return {name: folder / f"{name}{suffix}" for name in SETS}

    sets, dev = out / "sets", out / "sets" / "dev"
    models = out / "models"
    return DemoPaths(
        root=out, base=models / "base", sft_v1=models / "sft_v1", sft_v2=models / "sft_v2",
        sft_null=models / "sft_null", sets=files(sets, ".jsonl"), shots=files(sets, ".shots.jsonl"),
        dev_sets=files(dev, ".jsonl"), dev_shots=files(dev, ".shots.jsonl"),
    )  # fmt: skip


def build(out: Path, seed: int = 0, log: Log | None = None, base: Pretraining = BASE,
          fine_tunes: Mapping[str, FineTune] = FINE_TUNES, until: str | None = None) -> DemoPaths:  # fmt: skip
    """Make whatever is missing under `out`. The world is always the same one; `seed` moves the training. `until`: the
    last checkpoint to make."""
    log = log or (lambda text: print(text, file=sys.stderr, flush=True))
    found = paths(out)
    out.mkdir(parents=True, exist_ok=True)
    step(found.sets_folder, _sets_key(), log, _make_sets)
    keys: dict[str, str] = {}
    for name, parent in PARENTS.items():
        recipe = base if parent is None else fine_tunes[name]
        keys[name] = model_key(recipe, name, seed, keys[parent] if parent else "")
        step(found.models[name], keys[name], log, _maker(name, found, recipe, seed, log))
        if name == until:
            break
    return found


def _make_sets(folder: Path) -> None:
    write_sets(folder, make_world(), "test")
    write_sets(folder / "dev", make_world(), "dev")


def _maker(
    name: str, found: DemoPaths, recipe: Pretraining | FineTune, seed: int, log: Log
) -> Callable[[Path], object]:
    parent = PARENTS[name]

    def make(folder: Path) -> None:
        # torch is imported here and nowhere above: a cached build stays fast
        if isinstance(recipe, Pretraining):
            from forgetbench.demo.make import make_base

            make_base(folder, recipe, seed, log)
        elif parent is not None:
            from forgetbench.demo.finetune import make_finetune

            make_finetune(name, folder, found.models[parent], recipe, seed, log)

    return make


def step(target: Path, key: str, log: Log, make: Callable[[Path], object]) -> None:
    """Run one step unless `target` already is its result."""
    if stored_key(target) == key:
        log(f"{target.name}: cached")
        return
    start, cpu = time.monotonic(), time.process_time()
    working = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    try:
        make(working)
        seconds = round(time.monotonic() - start, 1)
        spent = round(time.process_time() - cpu, 1)
        mark = {"key": key, "seconds": seconds, "cpu_seconds": spent}
        (working / KEY_FILE).write_text(json.dumps(mark) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    log(f"{target.name}: made in {seconds} s ({spent} s of CPU)")


def stored_key(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest(parts: object) -> str:
    """A key of what a step is made from."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sources(names: tuple[str, ...], folder: Path = Path(__file__).parent) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _sets_key() -> str:
    return digest(["sets", _sources(_DATA_SOURCES)])


def model_key(recipe: Pretraining | FineTune, name: str, seed: int, parent_key: str) -> str:
    versions = {package: metadata.version(package) for package in ("torch", "transformers", "tokenizers")}
    if isinstance(recipe, Pretraining):
        sources = _sources(_BASE_SOURCES)
    else:
        sources = _sources(_TUNE_SOURCES) | _sources(_TRAINER, Path(__file__).parents[1] / "training")
    return digest([name, dataclasses.asdict(recipe), seed, parent_key, versions, sources])
