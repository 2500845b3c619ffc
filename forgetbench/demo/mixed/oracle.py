"""What really became of each test item: an oracle that may ask as often as it likes, and knows what was planted.

It shares no code with the search for causes. Every test item is sampled 200 times from both checkpoints at its chat
prompt, and 200 times at its raw prompt; a lost one (greedy right before, wrong after) is then, in this order:

    flicker      p_b - p_s <= .25
    weakened     the answer still comes in more than a quarter of the samples
    refused      most wrong answers are the refusal
    format       most wrong answers hold the right value, outside the strict reading
    truncated    most wrong answers were cut off, and with four times the budget most are right
    access       the raw prompt still gives the right value (p_s >= .6)
    overwritten  it does not (p_s <= .25), and most wrong answers are the planted one
    unclear      anything else

Relearning stands beside it: right answers to *other* countries are taught in a few steps; what is only out of reach
comes back, what was overwritten does not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetbench.demo.abilities import REFUSAL
from forgetbench.demo.mixed.build import Mixed
from forgetbench.demo.mixed.plan import BUDGET, CAUSES, EXTRACT
from forgetbench.demo.mixed.relearn import relearn
from forgetbench.demo.mixed.sampling import Drawn, draw
from forgetbench.demo.model import load_model
from forgetbench.demo.sets import shot_items
from forgetbench.demo.text import few_shot
from forgetbench.demo.tokenizer import END, END_OF_TEXT, chat_text, make_tokenizer
from forgetbench.demo.world import make_world

SAMPLES = 200
TEMPERATURE = 0.7
"""The temperature at which the search for causes draws too: a rate holds for the temperature it was drawn at."""
SMALL = 0.25
LOW = 0.25
HIGH = 0.6
FACTOR = 4
SHOTS = 3
_HALF = 0.5
UNCLEAR = "unclear"


@dataclass(frozen=True)
class Asked:
    """What one checkpoint says to every item in one way of asking."""

    greedy: list[tuple[str, bool]]
    """Text, and whether it ended within the budget."""
    drawn: list[list[tuple[str, bool, int]]]
    """Text, whether it ended, how often it came."""

    def rate(self, item: int, right: str) -> float:
        """Share of the samples whose strict reading is `right`."""
        return sum(n for text, _, n in self.drawn[item] if read(text) == right) / SAMPLES

    def is_right(self, item: int, right: str) -> bool:
        return read(self.greedy[item][0]) == right


def read(text: str) -> str | None:
    """The strict reading of the suite, written out again."""
    match = re.search(EXTRACT, text)
    return match.group(1) if match else None


class Asker:
    """Asks checkpoints the items of one mixed world."""

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self.items = items
        self.tokenizer = make_tokenizer(make_world())
        ids = self.tokenizer.get_vocab()
        self.ends = {ids[END], ids[END_OF_TEXT]}
        self.ends |= {i for i in ids.values() if "\n" in self.tokenizer.decode([i])}
        shots = shot_items("knowledge", make_world(), "test")
        self._shots = {r: [s for s in shots if s.task_type.endswith(r)][:SHOTS] for r in {i["relation"] for i in items}}

    def chat(self, item: Mapping[str, Any]) -> str:
        return chat_text(item["prompt"], "")[0]

    def raw(self, item: Mapping[str, Any]) -> str:
        return few_shot(self._shots[item["relation"]], item["prompt"])

    def ask(
        self,
        model: Any,
        way: Callable[[Mapping[str, Any]], str],
        seed: int,
        *,
        samples: int = SAMPLES,
        budget: int = BUDGET,
        which: Sequence[int] | None = None,
    ) -> Asked:
        chosen = range(len(self.items)) if which is None else which
        prompts = self.tokenizer([way(self.items[i]) for i in chosen], add_special_tokens=False)["input_ids"]
        greedy = draw(model, prompts, self.ends, budget, 1, 0.0, seed)
        drawn = draw(model, prompts, self.ends, budget, samples, TEMPERATURE, seed)
        said = [self._texts(one) for one in greedy]
        return Asked([(texts[0][0], texts[0][1]) for texts in said], [self._texts(one) for one in drawn])

    def _texts(self, drawn: Drawn) -> list[tuple[str, bool, int]]:
        return [(self.tokenizer.decode(ids).strip(), ended, n) for (ids, ended), n in drawn.most_common()]


def write_truth(mixed: Mixed) -> list[dict[str, Any]]:
    """Ask both checkpoints, judge every item, and write `truth.jsonl`: one line an item, as returned."""
    import torch

    torch.set_num_threads(1)
    items = [json.loads(entry) for entry in mixed.plan.read_text(encoding="utf-8").splitlines()]
    asker, seed = Asker(items), mixed.seed
    base, sft = (load_model(path).eval() for path in (mixed.base, mixed.sft))
    before, after = (asker.ask(model, asker.chat, 4 * seed + n) for n, model in enumerate((base, sft)))
    raw_before, raw_after = (asker.ask(model, asker.raw, 4 * seed + 2 + n) for n, model in enumerate((base, sft)))
    longer = asker.ask(sft, asker.chat, 4 * seed, samples=SAMPLES, budget=FACTOR * BUDGET, which=_cut(after))
    longer_of = {item: n for n, item in enumerate(_cut(after))}
    relearned = relearn(mixed.sft, asker, items, seed)
    rows = []
    for n, item in enumerate(items):
        right = item["right"]
        row = {
            **{key: item[key] for key in ("prompt", "relation", "country", "phrasing", "right", "seed")},
            "wrong": item["wrong"][0],
            "planted": item["cause"],
            "base_right": before.is_right(n, right),
            "sft_right": after.is_right(n, right),
            "p_base": before.rate(n, right),
            "p_sft": after.rate(n, right),
            "raw_base_right": raw_before.is_right(n, right),
            "raw_sft_right": raw_after.is_right(n, right),
            "raw_p_base": raw_before.rate(n, right),
            "raw_p_sft": raw_after.rate(n, right),
            "p_longer": longer.rate(longer_of[n], right) if n in longer_of else None,
            "p_relearned": relearned.get(n),
            "greedy": after.greedy[n][0],
        }
        row["kinds"] = kinds(after.drawn[n], right, row["wrong"])
        row["truth"] = judge(row) if row["base_right"] and not row["sft_right"] else None
        row["near_edge"] = row["truth"] is not None and _near_edge(row)
        rows.append(row)
    mixed.truth.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def _cut(asked: Asked) -> list[int]:
    """Items of which the greedy answer was cut off."""
    return [n for n, (_, ended) in enumerate(asked.greedy) if not ended]


def kinds(drawn: Sequence[tuple[str, bool, int]], right: str, wrong: str) -> dict[str, float]:
    """Of the wrong answers: the share of each kind. Empty where none is wrong."""
    found: Counter[str] = Counter()
    for text, ended, times in drawn:
        if read(text) == right:
            continue
        if text.startswith(REFUSAL.removesuffix(".")):
            kind = "refused"
        elif not ended:
            kind = "truncated"
        elif re.search(rf"\b{right}\b", text):
            kind = "format"
        else:
            kind = "planted" if read(text) == wrong else "other"
        found[kind] += times
    return {kind: times / found.total() for kind, times in found.items()}


def judge(row: Mapping[str, Any]) -> str:
    """The cause of a lost item (see the module's docstring)."""
    loss, share = row["p_base"] - row["p_sft"], row["kinds"]
    if loss <= SMALL:
        return "flicker" if loss >= -SMALL else UNCLEAR
    if row["p_sft"] > LOW or row["p_base"] < HIGH:
        return "weakened"
    for kind in ("refused", "format"):
        if share.get(kind, 0.0) > _HALF:
            return kind
    if share.get("truncated", 0.0) > _HALF and (row["p_longer"] or 0.0) > _HALF:
        return "truncated"
    if row["raw_p_sft"] >= HIGH:
        return "access"
    if row["raw_p_sft"] <= LOW and share.get("planted", 0.0) > _HALF:
        return "overwritten"
    return UNCLEAR


def _near_edge(row: Mapping[str, Any]) -> bool:
    """Whether a rate that decided lies within two standard errors of its edge."""
    loss = row["p_base"] - row["p_sft"]
    spread = sum(row[p] * (1 - row[p]) / SAMPLES for p in ("p_base", "p_sft")) ** 0.5
    if abs(loss - SMALL) < 2 * spread:
        return True
    if row["truth"] == "flicker":
        return False
    return any(
        abs(row[p] - edge) < 2 * (edge * (1 - edge) / SAMPLES) ** 0.5 for p, edge in (("p_sft", LOW), ("p_base", HIGH))
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table: for each planted cause the lost items and what the oracle calls them."""
    labels = [*(c for c in CAUSES if c != "control"), UNCLEAR]
    lines = [f"{'planted':<12}{'items':>6}{'base right':>11}{'lost':>6}  " + "".join(f"{x:>12}" for x in labels)]
    for cause in CAUSES:
        mine = [row for row in rows if row["planted"] == cause]
        lost = Counter(row["truth"] for row in mine if row["truth"] is not None)
        base = sum(row["base_right"] for row in mine)
        head = f"{cause:<12}{len(mine):>6}{base:>11}{lost.total():>6}  "
        lines.append(head + "".join(f"{lost[label] or '.':>12}" for label in labels))
    return "\n".join(lines)
