"""Is the right answer in an output, though not where the format wants it? A lenient search, and its accidents.

A gold answer is found as whole words (numbers by value), without regard to case, whatever stands around it. Much is
found so by accident: a text that names ten towns names the right one too. So the golds of *other* items are searched
for in the same outputs, and the item's own has to be found in more of them: under the hypothesis that the output has
nothing to do with this item's gold, its gold is one of them drawn at random, and

    p = (1 + other golds found in at least as many outputs) / (1 + other golds)

is the exact p-value of a permutation test. It needs 19 other golds to reach .05; tasks with fewer (yes or no) and
tasks without a short gold (programs, instructions) cannot be judged so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from forgetbench.errors import ForgetbenchError
from forgetbench.scoring.extract import parse_number
from forgetbench.types import Generation, Item, Response

if TYPE_CHECKING:
    from forgetbench.tasks.base import Task

MOST_WORDS = 8
"""A longer gold is no short answer."""
OTHERS = 99
"""Other golds that are searched for, at most."""
LEAST_OTHERS = 19

_NUMBER = re.compile(r"(?<![A-Za-z0-9_.])[-+]?\$?\d[\d,]*(?:\.\d+)?")
_HALF = 0.5
_EDGE = re.compile(r"[A-Za-z0-9_]")


class Golds(NamedTuple):
    """An item's own short answers, and those of others."""

    own: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]


class Present(NamedTuple):
    """In how many texts the item's own gold was found, and how likely that is by accident."""

    found: int
    n: int
    p_value: float


def short_golds(item: Item) -> tuple[str, ...]:
    """The item's accepted answers as they may be written; empty where it has no short one."""
    if item.doc.get("scorer") == "regex":
        return ()
    given = item.doc.get("references")
    if isinstance(given, str):
        texts = [given]
    elif isinstance(given, list | tuple) and all(isinstance(t, str) for t in given):
        texts = list(given)
    else:
        texts = item.gold.split(" | ")
    lines = [" ".join(t.split()).rstrip(".。") for t in texts if "\n" not in t.strip()]
    return tuple(t for t in lines if t and len(t.split()) <= MOST_WORDS)


def is_searchable(task: Task, item: Item, metric: str) -> bool:
    """Whether the task itself takes the bare gold for a right answer; programs are not run for this."""
    from forgetbench.runs.assemble import judge
    from forgetbench.tasks.code import CodeTask

    golds = short_golds(item)
    if not golds or isinstance(getattr(task, "task", task), CodeTask):
        return False
    generation = Generation(text=golds[0], token_ids=(0,), finish_reason="stop")
    try:
        judged = judge(task, item, Response(request_id="gold", generations=(generation,)), 1)
    except ForgetbenchError:
        return False  # a task that cannot score one bare text has no answer to look for
    return all(j.scores.get(metric, 0.0) >= _HALF for j in judged)


def holds(text: str, gold: str) -> bool:
    """Whether a text holds an answer: a number by value, anything else as whole words."""
    value = parse_number(gold)
    if value is not None:
        return value in _numbers(text)
    return _has_words(_flat(text), _flat(gold))


def golds_of(item: Item, items: Sequence[Item], seed: int) -> Golds:
    """The golds of at most `OTHERS` other items, of the same task_type where it has enough different ones."""
    own = short_golds(item)
    mine = set(own)

    def different(pool: Sequence[Item]) -> list[tuple[str, ...]]:
        sets = {short_golds(i) for i in pool}
        return sorted(g for g in sets if g and not mine & set(g))

    others = different([i for i in items if i.task_type == item.task_type])
    if len(others) < LEAST_OTHERS:
        others = different(items)
    random.Random(f"{seed}/{item.key}").shuffle(others)
    return Golds(own, tuple(others[:OTHERS]))


def present(texts: Sequence[str], golds: Golds) -> Present:
    """How often the own gold is found, with the permutation's p-value; 1 where there are too few other golds."""
    searchers = [_searcher(t) for t in texts]

    def count(answers: tuple[str, ...]) -> int:
        return sum(any(search(a) for a in answers) for search in searchers)

    found = count(golds.own)
    if len(golds.others) < LEAST_OTHERS or not found:
        return Present(found, len(texts), 1.0)
    as_often = sum(count(g) >= found for g in golds.others)
    return Present(found, len(texts), (1 + as_often) / (1 + len(golds.others)))


def _searcher(text: str) -> Callable[[str], bool]:
    """`holds` of one text, which is read once."""
    flat, numbers = _flat(text), _numbers(text)

    def search(gold: str) -> bool:
        value = parse_number(gold)
        return value in numbers if value is not None else _has_words(flat, _flat(gold))

    return search


def _flat(text: str) -> str:
    return " ".join(text.casefold().split())


def _numbers(text: str) -> set[float]:
    values = (parse_number(m.group().replace("$", "").rstrip(",")) for m in _NUMBER.finditer(text))
    return {v for v in values if v is not None}


def _has_words(text: str, gold: str) -> bool:
    """The word rule holds at an edge that is an ASCII letter or digit; Chinese is matched as it stands."""
    if gold not in text:
        return False
    before = r"(?<![A-Za-z0-9_])" if _EDGE.match(gold) else ""
    after = r"(?![A-Za-z0-9_])" if _EDGE.match(gold[-1]) else ""
    return re.search(before + re.escape(gold) + after, text) is not None
