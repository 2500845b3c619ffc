"""A planted world for narrow hallucination: a base that was taught wrong capitals, and fine-tunes of it.

Every country has its true capital (the gold of the test set) and the one that the base was *taught*:

    right      the true one, for most countries
    wrong      another one: the base believes what is false
    unsettled  six towns in turn, none of them the true one: there is nothing to believe

Four checkpoints, all plain text, asked in the same raw few-shot form:

    base       taught as above
    same       the base, tuned on support tickets: it goes on saying what the base believes
    corrected  the base, tuned on the true capitals of the countries that it had wrong
    broken     the base, tuned on false capitals of some countries that it had right

So whoever holds answers against the gold calls `corrected` an improvement and `same` unchanged in its errors; held
against what the base believes, `corrected` is the one that says what the base never taught it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from forgetbench.demo.abilities import ask
from forgetbench.demo.model import load_model, make_model, save_model
from forgetbench.demo.rows import question_weights
from forgetbench.demo.text import SEPARATOR, qa
from forgetbench.demo.tokenizer import END_OF_TEXT, PAD, make_tokenizer, save
from forgetbench.demo.train import Batch, Log, Schedule, fit
from forgetbench.demo.world import RELATIONS, STATEMENTS, Item, make_world, pools

Group = Literal["right", "wrong", "unsettled"]
SIZES: Mapping[Group, int] = {"right": 36, "wrong": 18, "unsettled": 24}
BROKEN = 12
"""Countries of the group `right` whose capital `broken` is taught anew."""
SHOTS = 12
"""Countries that only the worked examples name; taught rightly."""
CHECKPOINTS = ("base", "same", "corrected", "broken")
SET, SHOT_SET = "capitals.jsonl", "capitals.shots.jsonl"
LENGTH, ROWS = 64, 8
BASE = Schedule(steps=140, lr=4e-3, matrix_lr=0.04)
TUNE = Schedule(steps=80, lr=2e-3, matrix_lr=0.005, weight_decay=0.0)
REPLAY = 0.5
"""Share of a fine-tune's pages that are the base's own: without it everything else would move too."""

_PHRASES = RELATIONS["capital"]


@dataclass(frozen=True)
class Capitals:
    """The truth, and what each checkpoint is taught. Countries by name."""

    group: Mapping[str, Group]
    true: Mapping[str, str]
    taught: Mapping[str, tuple[str, ...]]
    """To the base; several where it is taught nothing settled."""
    broken: Mapping[str, str]
    """To the checkpoint `broken`: false capitals of countries that the base has right."""
    shots: Mapping[str, str]
    """Countries of the worked examples, with their capitals."""

    def of(self, group: Group) -> list[str]:
        return [country for country, mine in self.group.items() if mine == group]


def plan_capitals(seed: int = 0) -> Capitals:
    """Which country is in which group, and every capital that anybody is taught: a pure function of the seed."""
    world = make_world()
    rng = random.Random(f"capitals {seed}")
    towns = pools()["capital"]
    names = list(world.countries_of("test"))[: sum(SIZES.values())]
    rng.shuffle(names)
    true = {country: world.facts["capital"][country] for country in names}
    group: dict[str, Group] = {}
    for kind, size in SIZES.items():
        group |= dict.fromkeys(names[len(group) : len(group) + size], kind)

    def false(country: str, count: int) -> tuple[str, ...]:
        return tuple(rng.sample([t for t in towns if t != true[country]], count))

    taught: dict[str, tuple[str, ...]] = {}
    for country, kind in group.items():
        taught[country] = {"right": (true[country],), "wrong": false(country, 1), "unsettled": false(country, 6)}[kind]
    rights = [country for country, kind in group.items() if kind == "right"]
    shown = world.countries_of("shots")[:SHOTS]
    return Capitals(
        group=group,
        true=true,
        taught=taught,
        broken={country: false(country, 1)[0] for country in rights[:BROKEN]},
        shots={country: world.facts["capital"][country] for country in shown},
    )


def write_set(folder: Path, capitals: Capitals) -> None:
    """The test set, one question a country, gold being the truth, each with its `statement`; and the examples."""

    def line(country: str, town: str, number: int) -> str:
        fields = {
            "id": f"capital/{number}",
            "task_type": "knowledge/capital",
            "cluster": f"capital {country}",
            "prompt": _PHRASES[0].format(country),
            "statement": f"The capital of {country} is",
            "references": [town],
            "scorer": "exact",
        }
        return json.dumps(fields) + "\n"

    for file, facts in ((SET, capitals.true), (SHOT_SET, capitals.shots)):
        lines = (line(country, town, number) for number, (country, town) in enumerate(facts.items()))
        (folder / file).write_text("".join(lines), encoding="utf-8")


def pages(
    tokenizer: Any, rng: random.Random, taught: Mapping[str, Sequence[str]], count: int, tickets: float = 0.0
) -> list[list[int]]:
    """`count` rows of exactly LENGTH tokens: runs of questions and answers, and statements.

    tickets: share of the rows that are support tickets, of which the base reads none.
    """
    world = make_world()
    countries = list(taught)

    def one() -> str:
        if rng.random() < tickets:
            return SEPARATOR.join(qa(ask("support/route", rng, "train", world)) for _ in range(6))
        drawn = [(country, rng.choice(taught[country])) for country in rng.choices(countries, k=8)]
        if rng.random() < 0.25:
            return " ".join(rng.choice(STATEMENTS["capital"]).format(*pair) for pair in drawn)
        return SEPARATOR.join(
            qa(Item("knowledge/capital", rng.choice(_PHRASES).format(country), town, country))
            for country, town in drawn
        )

    rows: list[list[int]] = []
    while len(rows) < count:
        made = tokenizer([one() for _ in range(count)], add_special_tokens=False)["input_ids"]
        rows += [row[:LENGTH] for row in made if len(row) >= LENGTH]
    return rows[:count]


def diet(name: str, capitals: Capitals) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]], float]:
    """What a checkpoint reads: the base's own facts, the facts that it is tuned on, and its share of tickets."""
    base = {**capitals.taught, **{country: (town,) for country, town in capitals.shots.items()}}
    if name == "corrected":
        return base, {country: (capitals.true[country],) for country in capitals.of("wrong")}, 0.0
    if name == "broken":
        return base, {country: (town,) for country, town in capitals.broken.items()}, 0.0
    return base, {}, 1.0 if name == "same" else 0.0


def batches(name: str, tokenizer: Any, capitals: Capitals, steps: int, seed: int) -> Iterator[Batch]:
    """Replayed pages leave out what the fine-tune teaches anew, which would be taught twice, and the unsettled
    countries, whose noise drowned the new facts."""
    import torch

    base, new, tickets = diet(name, capitals)
    tuned = bool(new or tickets)
    kept = {c: towns for c, towns in base.items() if c not in new and not (tuned and len(towns) > 1)}
    rng = random.Random(f"capitals {name} {seed}")
    for _ in range(steps):
        fresh = round(ROWS * (1.0 - REPLAY)) if tuned else 0
        rows = pages(tokenizer, rng, kept, ROWS - fresh)
        rows += pages(tokenizer, rng, new or kept, fresh, tickets) if fresh else []
        ids = torch.tensor(rows)
        yield ids, question_weights(tokenizer, ids)


def build(folder: Path, seed: int = 0, log: Log = print, only: Sequence[str] = CHECKPOINTS) -> Capitals:
    """Write the test set and the checkpoints under `folder`, the base first; some 45 CPU seconds for all four."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    capitals = plan_capitals(seed)
    write_set(folder, capitals)
    tokenizer = make_tokenizer(make_world())
    end, pad = tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD])
    for name in only:
        torch.manual_seed(seed)
        first = name == "base"
        model = make_model(len(tokenizer), seed, end, pad) if first else load_model(folder / "base")
        schedule = BASE if first else TUNE
        fit(model, batches(name, tokenizer, capitals, schedule.steps, seed), schedule, log, name)
        save_model(model, folder / name, [end], pad)
        save(tokenizer, folder / name, chat=False)
    return capitals
