"""Training rows: texts of `text.py` as token ids, with the weight that predicting each token has.

Predicting what a question will ask is hopeless (which country, which made-up word), and its noise drowns the
answers; so the question's tokens count less. They do count: the heads that copy are built on them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from forgetbench.demo.text import broad_chat, page
from forgetbench.demo.train import Batch
from forgetbench.demo.world import Item, World

QUESTION_WEIGHT = 0.1


@dataclass(frozen=True)
class Phase:
    """Until `until` of all steps: rows of `length` tokens, `rows` of them a step.

    Short rows first. In a long row every syllable of a made-up word occurs several times, and copying, which
    looks for the earlier occurrence, is hardly ever learnt.
    """

    until: float
    length: int
    rows: int


def page_rows(tokenizer: Any, world: World, rng: random.Random, count: int, length: int,
              progress: float) -> list[list[int]]:  # fmt: skip
    """Pages cut to exactly `length` tokens: no padding, nothing wasted."""
    found: list[list[int]] = []
    while len(found) < count:
        pages = [page(rng, world, progress, max(3, length // 9)) for _ in range(count)]
        ids = tokenizer(pages, add_special_tokens=False)["input_ids"]
        found += [row[:length] for row in ids if len(row) >= length]
    return found[:count]


def question_weights(tokenizer: Any, ids: Any) -> Any:
    """1 for every token, QUESTION_WEIGHT from `Q:` up to `A:`."""
    import torch

    opens, closes = tokenizer.convert_tokens_to_ids(["Q:", "A:"])
    inside = (ids == opens).int().cumsum(1) > (ids == closes).int().cumsum(1)
    return torch.where(inside, QUESTION_WEIGHT, 1.0)


def page_batches(tokenizer: Any, world: World, seed: str, phases: Sequence[Phase], steps: int,
                 mature: bool = False) -> Iterator[Batch]:  # fmt: skip
    """Batches of plain text. `mature` asks for the mix of the end of pretraining from the first step on."""
    import torch

    rng = random.Random(seed)
    chunk = 16  # steps drawn together: the tokenizer is faster on many texts
    for first in range(0, steps, chunk):
        progress = 1.0 if mature else first / steps
        phase = next(p for p in phases if progress <= p.until)
        rows = page_rows(tokenizer, world, rng, phase.rows * chunk, phase.length, progress)
        for i in range(0, len(rows), phase.rows):
            ids = torch.tensor(rows[i : i + phase.rows])
            yield ids, question_weights(tokenizer, ids)


def broad_items(world: World, seed: str, count: int) -> list[Item]:
    rng = random.Random(seed)
    return [broad_chat(rng, world) for _ in range(count)]


def interleave(main: Iterator[Batch], other: Iterator[Batch], share: float) -> Iterator[Batch]:
    """`share` of the batches from `other`, evenly spread."""
    owed = 0.0
    while True:
        owed += share
        if owed >= 1:
            owed -= 1
            yield next(other)
        else:
            yield next(main)
