"""Teach the right answers of some countries again, and look at others of the same kind.

An answer that is only out of reach comes back with its neighbours'; one that was overwritten has to be taught itself.
Two folds by country: each country is looked at after the lesson of the other half.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.demo.mixed.lines import ChatLine
from forgetbench.demo.mixed.plan import TEACHING
from forgetbench.demo.model import load_model
from forgetbench.demo.train import Batch, Schedule, fit
from forgetbench.demo.world import RELATIONS

if TYPE_CHECKING:
    from forgetbench.demo.mixed.oracle import Asker

KINDS = ("access", "overwritten")
SCHEDULE = Schedule(steps=30, lr=3e-4, weight_decay=0.0)
ROWS = 32


def relearn(checkpoint: Path, asker: Asker, lost: Sequence[int], seed: int) -> dict[int, float]:
    """For each lost item of the kinds compared, the rate of right answers in chat after the other half's lesson."""
    items = asker.items
    found: dict[int, float] = {}
    for kind in KINDS:
        countries = sorted({item["country"] for item in items if item["cause"] == kind})
        random.Random(f"relearn {kind} {seed}").shuffle(countries)
        half = len(countries) // 2
        for taught, tested in ((countries[:half], countries[half:]), (countries[half:], countries[:half])):
            lesson = [item for item in items if item["country"] in taught]
            which = [n for n in lost if items[n]["country"] in tested]
            model = load_model(checkpoint)
            fit(model, _lesson(asker.tokenizer, lesson, seed), SCHEDULE, lambda text: None, "relearn")
            found |= asker.rates(asker.sample(model.eval(), asker.chat, which, seed))
    return found


def _lesson(tokenizer: Any, items: Sequence[Mapping[str, Any]], seed: int) -> Iterator[Batch]:
    from forgetbench.demo.mixed.make import chat_batches

    facts = {(item["relation"], item["country"]): item["right"] for item in items}
    lines = [
        ChatLine(RELATIONS[relation][phrasing].format(country), right, f"knowledge/{relation}", "relearn", country)
        for (relation, country), right in facts.items()
        for phrasing in TEACHING
    ]
    return chat_batches(tokenizer, lines, f"relearn {seed}", min(ROWS, len(lines)))
