"""Make the mixed world: training files, test set, two checkpoints and what `forgetbench compare` needs.

models/mixed_base  models/mixed_sft      two fine-tunes, cached as the demo's own are
train/mixed_base.jsonl  ..._sft.jsonl    what they were trained on, each line with the cause that it plants
sets/facts.jsonl                         the test set: the phrasings that no training line used
plan.jsonl                               for each test item what was planted; `oracle.py` tells what took
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from forgetbench.demo.build import digest, step, stored_key
from forgetbench.demo.mixed.files import FORGETBENCH, POLICY, SUITE
from forgetbench.demo.mixed.lines import (
    OTHERS,
    REFUSALS,
    ChatLine,
    PageLine,
    base_chats,
    other_chats,
    page_lines,
    sft_chats,
)
from forgetbench.demo.mixed.plan import TESTING, Fact, base_answers, plan_facts, raw_answers
from forgetbench.demo.mixed.recipes import RECIPES, MixedRecipe
from forgetbench.demo.sets import line, shot_items
from forgetbench.demo.train import Log
from forgetbench.demo.world import STATEMENTS, World, make_world
from forgetbench.errors import UsageError

MODELS = ("mixed_base", "mixed_sft")
_DEMO_SOURCES = ("world.py", "abilities.py", "text.py", "tokenizer.py", "rows.py", "model.py", "optim.py", "train.py")

Lines = tuple[Sequence[ChatLine], Sequence[PageLine]]


@dataclass(frozen=True)
class Mixed:
    """Where everything lies."""

    root: Path
    seed: int

    @property
    def base(self) -> Path:
        return self.root / "models" / "mixed_base"

    @property
    def sft(self) -> Path:
        return self.root / "models" / "mixed_sft"

    @property
    def training(self) -> Path:
        """The training file of the fine-tune that plants the causes."""
        return self.root / "train" / "mixed_sft.jsonl"

    @property
    def set(self) -> Path:
        return self.root / "sets" / "facts.jsonl"

    @property
    def shots(self) -> Path:
        return self.root / "sets" / "facts.shots.jsonl"

    @property
    def plan(self) -> Path:
        return self.root / "plan.jsonl"

    @property
    def truth(self) -> Path:
        return self.root / "truth.jsonl"

    @property
    def config(self) -> Path:
        return self.root / "forgetbench.yaml"


def training_lines(name: str, world: World, facts: Sequence[Fact], seed: int) -> Lines:
    """Chats and pages of one fine-tune."""
    rng = random.Random(f"{name} lines {seed}")
    base = name == "mixed_base"
    chats = [*(base_chats(facts) if base else sft_chats(facts)), *other_chats(world, rng, OTHERS)]
    if not base:
        chats += other_chats(world, rng, REFUSALS, ("safety/refuse",))
    return chats, page_lines(facts, base_answers if base else raw_answers, rng)


def build_mixed(
    demo: Path,
    out: Path,
    seed: int = 0,
    log: Log | None = None,
    recipes: Mapping[str, MixedRecipe] = RECIPES,
) -> Mixed:
    """Make whatever is missing under `out` from the demo in the folder `demo` (its `models/sft_v1` is the start).

    `seed` moves the plan and the training. Raises UsageError where the demo is not there.
    """
    log = log or (lambda text: print(text, file=sys.stderr, flush=True))
    parent = demo / "models" / "sft_v1"
    key = stored_key(parent)
    if key is None:
        raise UsageError(str(parent), "no checkpoint of the demo", f"run python -m forgetbench.demo --out {demo}")
    mixed, world = Mixed(out, seed), make_world()
    facts = plan_facts(world, seed)
    _write_files(mixed, world, facts)
    for name in MODELS:
        lines = training_lines(name, world, facts, seed)
        _write_lines(out / "train" / f"{name}.jsonl", (dataclasses.asdict(line) for part in lines for line in part))
        key = _model_key(name, recipes[name], seed, key, lines)
        _make(name, parent, out / "models" / name, key, lines, recipes[name], seed, log)
        parent = out / "models" / name
    return mixed


def _make(
    name: str, parent: Path, target: Path, key: str, lines: Lines, recipe: MixedRecipe, seed: int, log: Log
) -> None:
    def make(folder: Path) -> None:
        # torch is imported here and nowhere above: a cached build stays fast
        from forgetbench.demo.mixed.make import train_mixed

        train_mixed(name, parent, folder, *lines, recipe, seed, log)

    step(target, key, log, make)


def _write_files(mixed: Mixed, world: World, facts: Sequence[Fact]) -> None:
    asked = [(fact, phrasing) for fact in facts for phrasing in TESTING]
    _write_lines(mixed.set, (_item(fact, phrasing) for fact, phrasing in asked))
    shots = shot_items("knowledge", world, "test")
    _write_lines(mixed.shots, (line(item, number) for number, item in enumerate(shots)))
    _write_lines(
        mixed.plan,
        ({"prompt": fact.ask(p), "phrasing": p, "seed": mixed.seed, **dataclasses.asdict(fact)} for fact, p in asked),
    )
    for path, text in (
        (mixed.config, FORGETBENCH),
        (mixed.root / "suite.yaml", SUITE),
        (mixed.root / "policy.yaml", POLICY),
    ):
        path.write_text(text, encoding="utf-8")


def _item(fact: Fact, phrasing: int) -> dict[str, object]:
    """A test item tells nothing of its cause; its cluster is the country, since causes go by country."""
    return {
        "id": f"{fact.name}/{phrasing}",
        "task_type": fact.task_type,
        "cluster": fact.country,
        "prompt": fact.ask(phrasing),
        "statement": _opening(fact),
        "references": [fact.right],
    }


def _opening(fact: Fact) -> str:
    """A statement that no training line of the mixed world uses, up to where the answer begins."""
    template = STATEMENTS[fact.relation][1]
    return template[: template.rindex("{}")].format(fact.country).rstrip()


def _write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines), encoding="utf-8")


def _model_key(name: str, recipe: MixedRecipe, seed: int, parent_key: str, lines: Lines) -> str:
    """The lines themselves are in it, so that a change to how one file is made leaves the other's model alone."""
    here = Path(__file__).parent
    files = [*(here.parent / source for source in _DEMO_SOURCES), here / "make.py"]
    sources = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    versions = {package: metadata.version(package) for package in ("torch", "transformers", "tokenizers")}
    told = [dataclasses.astuple(line) for part in lines for line in part]
    return digest([name, dataclasses.asdict(recipe), seed, parent_key, versions, sources, told])
