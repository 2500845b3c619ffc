"""How often an answer is right by luck, where there are few controls to show it.

Chance agreement: how often the answers to one item are right for *other* items of its task_type, scored by the task
itself. It is what a model reaches that knows which answers occur, and not which belongs where (the expected agreement
of Cohen's kappa, 1960). A task in which half of the golds are one sentence has a chance agreement of about .5.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from forgetbench.causes.gold import holds, short_golds
from forgetbench.tasks.base import Task
from forgetbench.types import Item, Judged, Response

OTHERS = 10
"""Other items that each answer is held against."""
FLOOR = 0.1
"""Chance is never taken for less: nobody has shown it to be."""
UNKNOWN = 0.5
"""Where it cannot be measured: programs are not run against other items' tests."""
_HALF = 0.5


def other_items(item: Item, items: Sequence[Item], seed: int) -> list[Item]:
    """At most `OTHERS` other items of the same task_type, at random."""
    pool = [i for i in items if i.task_type == item.task_type and i.key != item.key]
    return random.Random(f"chance {seed} {item.key}").sample(pool, min(OTHERS, len(pool)))


def swapped(task: Task, others: Sequence[Item], response: Response, metric: str) -> float | None:
    """Share of answers to one item that are right for the others. None: nothing to score."""
    scores = [
        judged.scores[metric]
        for other in others
        for judged in task.score(other, Response(response.request_id, response.generations))
        if metric in judged.scores
    ]
    return sum(s >= _HALF for s in scores) / len(scores) if scores else None


def swapped_texts(others: Sequence[Item], judged: Sequence[Judged]) -> float | None:
    """The same of continuations, which are right where they begin with a gold."""
    golds = [g for g in (short_golds(other) for other in others) if g]
    if not golds or not judged:
        return None
    right = [any(holds(j.extracted or "", g) for g in own) for own in golds for j in judged]
    return sum(right) / len(right)


def pseudo_control(chances: Sequence[float], *, measurable: bool) -> float:
    """The rate of the one made-up control that stands beside the real ones."""
    if not measurable or not chances:
        return UNKNOWN
    return max(FLOOR, sum(chances) / len(chances))
