"""The evaluation sets: one custom set (JSONL) for each top-level task_type, with worked examples beside it.

`sets/` is what the demo reports on; `sets/dev/` has other items and is what its settings were chosen on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from forgetbench.demo.abilities import ALL_ABILITIES, distinct
from forgetbench.demo.world import Item, World

SETS_VERSION = 1
PER_SET = 480
"""Items wanted in a set; a gate needs at least 400 of them."""
SHOTS = 8
"""Worked examples of each task_type; a raw prompt takes the first three."""

REQUIRED = ("knowledge", "reasoning", "format", "copy", "code", "safety")
"""The top-level types that a gate may require. `support` is the new ability: nothing to forget there."""
GAIN = "support"
SETS = (*REQUIRED, GAIN)


def members(name: str) -> list[str]:
    return [task_type for task_type in ALL_ABILITIES if task_type.split("/")[0] == name]


def line(item: Item, number: int) -> dict[str, object]:
    return {
        "id": f"{item.task_type}/{number}",
        "task_type": item.task_type,
        "cluster": item.cluster,
        "prompt": item.prompt,
        "references": [item.answer],
        "scorer": "exact",
    }


def set_items(name: str, world: World, split: str) -> list[Item]:
    """Equal shares of the set's task_types, topped up by the others where one has too few items."""
    rng = random.Random(f"set {SETS_VERSION} {name} {split}")
    pools = [distinct(task_type, PER_SET, rng, split, world) for task_type in members(name)]
    share: list[Item] = []
    for place, pool in enumerate(sorted(pools, key=len)):
        still_open = len(pools) - place
        share += pool[: (PER_SET - len(share)) // still_open]
    return share


def shot_items(name: str, world: World, split: str) -> list[Item]:
    rng = random.Random(f"shots {SETS_VERSION} {name} {split}")
    return [item for task_type in members(name) for item in distinct(task_type, SHOTS, rng, "shots", world)]


def write_sets(folder: Path, world: World, split: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        _write(folder / f"{name}.jsonl", set_items(name, world, split))
        _write(folder / f"{name}.shots.jsonl", shot_items(name, world, split))


def _write(path: Path, items: Sequence[Item]) -> None:
    lines = (json.dumps(line(item, number)) + "\n" for number, item in enumerate(items))
    path.write_text("".join(lines), encoding="utf-8")
