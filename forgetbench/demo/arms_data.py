"""What the arms of the proof are trained on and asked: two targets, replay, held-out data, one suite each.

The base of the fine-tunes is the demo's `sft_v1`, which has chat. Two targets that it knows nothing of:

    support/route   200 tickets; asked about words that no training has seen
    medical/herb    40 facts about made-up herbs, each under three of six phrasings; asked under two of the others

Everything is a pure function of the world. Test and dev ask different things: herbs under another phrasing each,
everything else with the world's own splits. Settings are chosen on dev.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from forgetbench.demo.abilities import ABILITIES, NEW_ABILITY, ask, distinct
from forgetbench.demo.sets import REQUIRED, line
from forgetbench.demo.text import broad_chat, page
from forgetbench.demo.world import SYLLABLES, Item, World

Split = Literal["train", "dev", "test"]
Target = Literal["route", "herb"]
TARGETS: Mapping[Target, str] = {"route": NEW_ABILITY, "herb": "medical/herb"}
"""Short name -> task_type of what is learnt."""

TICKETS, HERBS = 200, 40
ASKED_TICKETS = 100
PER_TYPE = 60
"""Items of each of the world's abilities in the suite."""
CHATS, PAGES = 1500, 220
"""Replay: about as many tokens in chats as in pages."""
HELD_OUT = 60
"""Samples of each held-out file."""

_PHRASES = (
    "What does {} heal?",
    "Name the use of {}.",
    "What is {} good for?",
    "Tea of {} helps against what?",
    "Which trouble goes away with {}?",
    "Against what do people take {}?",
)
_TROUBLES = ("fever", "cough", "pain", "itch", "burns", "colds", "cramps", "warts", "fear", "rash")


def herbs() -> dict[str, str]:
    """Each herb and what it heals. Three syllables each, where every other made-up word has two."""
    rng = random.Random("herbs")
    names: set[str] = set()
    while len(names) < HERBS:
        names.add("".join(rng.sample(SYLLABLES, 3)))
    troubles = [_TROUBLES[i % len(_TROUBLES)] for i in range(HERBS)]
    rng.shuffle(troubles)
    return dict(zip(sorted(names), troubles, strict=True))


def herb_items(split: Split) -> list[Item]:
    """Of each fact three phrasings to learn, one for dev and two for the test, turned on from fact to fact.

    Every phrasing is learnt with other herbs, so that a question of the test is new and none of its parts is.
    """
    places = {"train": (0, 1, 2), "dev": (3,), "test": (4, 5)}[split]
    return [
        Item(TARGETS["herb"], _PHRASES[(number + place) % len(_PHRASES)].format(herb), trouble, herb)
        for number, (herb, trouble) in enumerate(herbs().items())
        for place in places
    ]


def target_items(target: Target, split: Split, world: World) -> list[Item]:
    """What is learnt (`train`), or asked of it."""
    if target == "herb":
        return herb_items(split)
    rng = random.Random(f"arms tickets {split}")
    if split == "train":
        return [ask(NEW_ABILITY, rng, split, world) for _ in range(TICKETS)]
    return distinct(NEW_ABILITY, ASKED_TICKETS, rng, split, world)


def general_items(name: str, split: Split, world: World, per_type: int = PER_TYPE) -> list[Item]:
    """Items of one of the world's six top-level abilities."""
    rng = random.Random(f"arms set {name} {split}")
    kinds = [task_type for task_type in ABILITIES if task_type.split("/")[0] == name]
    return [item for kind in kinds for item in distinct(kind, per_type, rng, split, world)]


def chat_line(item: Item) -> dict[str, object]:
    """One training sample as a chat.

    The template writes a blank before each answer, as part of the assistant's turn: the answer stands here without it.
    """
    messages = [{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}]
    return {"messages": messages, "task_type": item.task_type}


def write_data(folder: Path, world: World, split: Split = "test", per_type: int = PER_TYPE) -> None:
    """Write `train/`, `replay/`, `held_out/` and, of the split that is asked, `sets/`."""
    for target in TARGETS:
        learnt = target_items(target, "train", world)
        _write(folder / "train" / f"{target}.jsonl", map(chat_line, learnt))
        _write(folder / "held_out" / f"{target}.jsonl", map(chat_line, target_items(target, "dev", world)[:HELD_OUT]))
        _write_set(folder / "sets" / f"{target}.jsonl", target_items(target, split, world))
    for name in REQUIRED:
        _write_set(folder / "sets" / f"{name}.jsonl", general_items(name, split, world, per_type))
    rng = random.Random("arms replay")
    _write(folder / "replay" / "chats.jsonl", (chat_line(broad_chat(rng, world)) for _ in range(CHATS)))
    pages = ({"text": page(rng, world), "task_type": "plain/page"} for _ in range(PAGES))
    _write(folder / "replay" / "pages.jsonl", pages)
    rng = random.Random("arms held out")
    kinds = rng.choices(list(ABILITIES), k=HELD_OUT)
    held = (chat_line(ask(kind, rng, "dev", world)) for kind in kinds)
    _write(folder / "held_out" / "general.jsonl", held)


def _write_set(path: Path, items: Sequence[Item]) -> None:
    _write(path, (line(item, number) for number, item in enumerate(items)))


def _write(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
