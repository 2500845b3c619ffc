"""What really became of each test item: an oracle that may ask as often as it likes, and knows what was planted.

It shares no code with the search for causes. Every item whose greedy chat answer changed sides is sampled 200 times
from both checkpoints at its chat prompt, and every lost one 200 times at its raw prompt; a lost one (right before,
wrong after) is then, in this order:

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
from typing import Any

from forgetbench.demo.abilities import REFUSAL
from forgetbench.demo.mixed.build import Mixed
from forgetbench.demo.mixed.plan import BUDGET, CAUSES, EXTRACT
from forgetbench.demo.mixed.relearn import relearn
from forgetbench.demo.mixed.sampling import draw
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

Way = Callable[[Mapping[str, Any]], str]
"""Makes the prompt of an item."""


Said = list[tuple[str, bool, int]]
"""Texts, whether each ended within the budget, and how often it came."""


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

    def greedy(self, model: Any, way: Way) -> list[tuple[str, bool]]:
        """The greedy answer to every item, and whether it ended within the budget."""
        found = self._said(model, way, range(len(self.items)), BUDGET, 1, 0.0, 0)
        return [(said[0][0], said[0][1]) for said in found.values()]

    def sample(self, model: Any, way: Way, which: Sequence[int], seed: int, *, budget: int = BUDGET) -> dict[int, Said]:
        """`SAMPLES` answers to each of the items `which`."""
        return self._said(model, way, which, budget, SAMPLES, TEMPERATURE, seed)

    def rates(self, sampled: Mapping[int, Said]) -> dict[int, float]:
        """Share of the samples of each item whose strict reading is right."""
        return {
            n: sum(times for text, _, times in said if read(text) == self.items[n]["right"]) / SAMPLES
            for n, said in sampled.items()
        }

    def _said(
        self, model: Any, way: Way, which: Sequence[int], budget: int, count: int, temperature: float, seed: int
    ) -> dict[int, Said]:
        if not which:
            return {}
        prompts = self.tokenizer([way(self.items[n]) for n in which], add_special_tokens=False)["input_ids"]
        drawn = draw(model, prompts, self.ends, budget, count, temperature, seed)
        return {
            n: [(self.tokenizer.decode(ids).strip(), ended, times) for (ids, ended), times in one.most_common()]
            for n, one in zip(which, drawn, strict=True)
        }


def write_truth(mixed: Mixed) -> list[dict[str, Any]]:
    """Ask both checkpoints, judge every item, and write `truth.jsonl`: one line an item, as returned."""
    import torch

    torch.set_num_threads(1)
    items = [json.loads(entry) for entry in mixed.plan.read_text(encoding="utf-8").splitlines()]
    asker, seed = Asker(items), 10 * mixed.seed
    base, sft = (load_model(path).eval() for path in (mixed.base, mixed.sft))
    chats = [asker.greedy(model, asker.chat) for model in (base, sft)]
    raws = [asker.greedy(model, asker.raw) for model in (base, sft)]
    right = [[read(said[n][0]) == item["right"] for said in (*chats, *raws)] for n, item in enumerate(items)]
    changed = [n for n, (before, after, *_) in enumerate(right) if before != after]
    lost = [n for n in changed if right[n][0]]
    cut = [n for n in lost if not chats[1][n][1]]
    after = asker.sample(sft, asker.chat, changed, seed + 1)
    rates: dict[str, dict[int, float]] = {
        "p_base": asker.rates(asker.sample(base, asker.chat, changed, seed)),
        "p_sft": asker.rates(after),
        "raw_p_sft": asker.rates(asker.sample(sft, asker.raw, lost, seed + 2)),
        "p_longer": asker.rates(asker.sample(sft, asker.chat, cut, seed + 3, budget=FACTOR * BUDGET)),
        "p_relearned": relearn(mixed.sft, asker, lost, seed + 4),
    }
    rows: list[dict[str, Any]] = []
    for n, item in enumerate(items):
        row: dict[str, Any] = {
            **{key: item[key] for key in ("prompt", "relation", "country", "phrasing", "right", "seed")},
            "wrong": item["wrong"][0],
            "planted": item["cause"],
            **dict(zip(("base_right", "sft_right", "raw_base_right", "raw_sft_right"), right[n], strict=True)),
            **{name: found.get(n) for name, found in rates.items()},
            "greedy": chats[1][n][0],
            "kinds": kinds(after.get(n, []), item["right"], item["wrong"][0]),
        }
        row["truth"] = judge(row) if row["base_right"] and not row["sft_right"] else None
        row["near_edge"] = row["truth"] is not None and _near_edge(row)
        rows.append(row)
    mixed.truth.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def kinds(drawn: Said, right: str, wrong: str) -> dict[str, float]:
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
