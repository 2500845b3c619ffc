"""The demo's fine-tunes: recipes and data for `forgetbench train`, which trains them.

They lie beside each checkpoint (`training/`), so that a user can read them, change them and train again.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from forgetbench.demo.quiet import quietly
from forgetbench.demo.recipes import FineTune
from forgetbench.demo.rows import broad_items
from forgetbench.demo.text import page, ticket_chats
from forgetbench.demo.tokenizer import CHAT_TEMPLATE, END
from forgetbench.demo.train import Log
from forgetbench.demo.world import Item, World, make_world

FOLDER = "training"
PAGE = 11
"""Lines of a page of replay: about 96 tokens, as long as a row of the base's last phase."""
_BY_TYPE = re.compile(r" \(.*\)")


def chat_line(item: Item) -> dict[str, Any]:
    turns = [{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}]
    return {"messages": turns, "task_type": item.task_type}


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_training(folder: Path, name: str, parent: str, recipe: FineTune, world: World, seed: int) -> Path:
    """recipe.yaml and its data in `folder`; returns the recipe. `parent`: the base as the recipe names it."""
    folder.mkdir(parents=True)
    tag = f"{name} {seed}"
    if recipe.narrow:
        items = ticket_chats(random.Random(f"tickets {tag}"), world, recipe.chats)
    else:
        items = broad_items(world, f"chats {tag}", recipe.chats)
    write_lines(folder / "chats.jsonl", map(chat_line, items))
    (folder / "chat.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    told: dict[str, Any] = {
        "base": parent,
        "chat_template": "chat.jinja",
        "end_of_turn": END,
        "data": [{"path": "chats.jsonl"}],
        "lr": recipe.lr,
        "steps": recipe.steps,
        "warmup": 0.05,
        "floor": 0.05,
        "batch": {"samples": recipe.rows},
        "max_length": 256,
        "packing": True,
        "loss": {"reduction": "per_sample"},
        "seed": seed,
        "save_every": recipe.steps,
    }
    if recipe.pages:
        rng = random.Random(f"pages {tag}")
        write_lines(folder / "pages.jsonl", ({"text": page(rng, world, 1.0, PAGE)} for _ in range(recipe.pages)))
        told["replay"] = {"share": recipe.replay, "files": [{"path": "pages.jsonl", "task_type": "replay"}]}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
    return file


def make_finetune(name: str, folder: Path, parent: Path, recipe: FineTune, seed: int, log: Log) -> None:
    """Train `recipe` from the checkpoint `parent`; weights, tokenizer and `training/` are written to `folder`."""
    from forgetbench.training.fit import run
    from forgetbench.training.recipe import load_recipe

    training, work = folder / FOLDER, folder / "work"
    file = write_training(training, name, f"../../{parent.name}", recipe, make_world(), seed)
    with quietly():
        final = run(load_recipe(file), training, str(parent), work, _sparsely(log, name, recipe.steps))
    for made in final.iterdir():
        made.rename(folder / made.name)
    for left in ("metrics.jsonl", "training.json"):
        (work / left).rename(training / left)
    shutil.rmtree(work)


def _sparsely(log: Log, name: str, steps: int) -> Log:
    """Ten lines of a run, not hundreds, and without the losses of each task_type (metrics.jsonl has them)."""
    every = max(1, steps // 10)

    def tell(line: str) -> None:
        step = line.removeprefix("step ").split(":")[0]
        if not step.isdigit() or int(step) % every == 0:
            log(f"{name}: {_BY_TYPE.sub('', line)}")

    return tell
