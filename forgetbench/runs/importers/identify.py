"""Which item a row is about: by the content of its document, by the question inside its prompt, or by its name.

A task that is known here gives its own items, so that imported results pair with own runs. Of a set that is not,
items are made from the rows: two imports of it pair with each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from forgetbench.errors import UsageError
from forgetbench.runs.importers.types import Mistakes, Row
from forgetbench.tasks.base import Task, content_hash
from forgetbench.tasks.items import KeyMaker
from forgetbench.tasks.questions import question_of
from forgetbench.types import Item, ItemKey

How = Literal["content", "prompt", "name", "position"]
"""What an item was known by. By its content alone nothing is taken on trust."""
NAMES = ("task_id", "id", "key", "question_id", "example_id", "item_id", "problem_id")
"""Fields of a document that may name it."""
_EXAMPLES = 3
_LEAST = 20
"""Characters of a question that is looked for inside prompts: a shorter one may be there by chance."""


@dataclass(slots=True)
class Found:
    """One item and its rows."""

    item: Item
    how: How
    rows: list[Row] = field(default_factory=list)


def group(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of one item together, in the order that the items first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.same, []).append(row)
    return list(groups.values())


def identify(
    rows: Sequence[Row],
    name: str,
    task: Task | None,
    bad: Mistakes,
    *,
    by_name: bool = False,
    by_position: bool = False,
) -> list[Found]:
    """The items of one task's rows, in the task's order (of an unknown set: the file's).

    task: None for a set that is not known here. by_name: an item that the task does not have is kept under its
    name, to be paired by that. by_position: rows without name and content are the task's items in their order.
    """
    groups = group(rows)
    if task is None:
        return _own(groups, name)
    known = Known(task)
    found: list[Found] = []
    unknown: list[list[Row]] = []
    taken: dict[ItemKey, Row] = {}
    copies: Counter[str] = Counter()
    for position, one in enumerate(groups):
        first = one[0]
        key, how = known.find(first)
        if key is not None and how == "content":
            copies[key.content_hash] += 1
            key = ItemKey(key.task, key.content_hash, copies[key.content_hash] - 1)
        elif key is None and by_position and position < len(known.items):
            key, how = known.items[position].key, "position"
        item = None if key is None else known.by_key.get(key)
        if key is None:
            unknown.append(one)
        elif item is None:
            bad.add(first.where, f"is one more copy of an item than {name} has", "import each document once")
        elif key in taken:
            bad.add(first.where, f"is about the same item as {taken[key].where}", "import each item once")
        else:
            taken[key] = first
            found.append(Found(item, how, one))
    if unknown and not by_name:
        examples = ", ".join(_example(one[0]) for one in unknown[:_EXAMPLES])
        more = ", ..." if len(unknown) > _EXAMPLES else ""
        bad.add(
            unknown[0][0].where,
            f"{len(unknown):,} of {len(groups):,} items are not in {name} ({examples}{more})",
            "name the right set with --task, or keep them under their names: --pair-by key",
        )
    order = {item.key: n for n, item in enumerate(known.items)}
    found.sort(key=lambda f: order[f.item.key])
    return [*found, *(_own(unknown, name) if by_name else ())]


def _example(row: Row) -> str:
    asked = "" if row.doc is None else str(next(iter(row.doc.values()), ""))
    text = " ".join((row.key or asked).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _own(groups: Sequence[list[Row]], name: str) -> list[Found]:
    """Items made from rows."""
    key_of = KeyMaker(name)
    found = []
    for rows in groups:
        first = rows[0]
        by_key = first.doc is None or (first.named and first.key is not None)
        content: Mapping[str, Any] = {"key": first.key} if by_key else {"doc": first.doc}
        item = Item(
            key=key_of(content),
            task_type=first.task_type or f"{name}/imported",
            doc={**(first.doc or {}), **({} if first.key is None else {"id": first.key})},
            gold=first.gold,
            gold_hash=content_hash({"gold": first.gold}) if first.gold else "",
            cluster=first.cluster,
            source=first.where,
        )
        found.append(Found(item, "name" if by_key else "content", rows))
    return found


class Known:
    """The items of a task, found again."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.items: Sequence[Item] = task.load()
        self.by_key = {item.key: item for item in self.items}
        self._names = _names(self.items)
        self._questions: list[tuple[str, ItemKey]] | None = None
        self._endings: dict[int, dict[str, ItemKey]] = {}

    def find(self, row: Row) -> tuple[ItemKey | None, How]:
        """The key of a row's item and what it was known by. Of copies of one content the first."""
        if row.doc is not None:
            key = self.task.canonical(row.doc)
            if key is not None:
                return key, "content"
        if row.key is not None:
            key = self._names.get(row.key)
            if key is not None:
                return key, "name"
        asked = row.prompt or ("" if row.doc is None else row.doc.get("prompt"))
        return self._in_prompt(asked) if isinstance(asked, str) else None, "prompt"

    def _in_prompt(self, prompt: str) -> ItemKey | None:
        """The item whose question as we ask it ends the prompt; else the one whose bare question is in it: of several
        the one that ends last, of these the longest."""
        if self._questions is None:
            self._ask()
            texts = [(" ".join(question_of(self.task, i).text.split()), i.key) for i in self.items]
            often = Counter(text for text, _ in texts)
            self._questions = [(t, k) for t, k in texts if len(t) >= _LEAST and often[t] == 1]
        for length in sorted(self._endings, reverse=True):
            ending = self._endings[length].get(prompt[-length:])
            if ending is not None:
                return ending
        squeezed = " ".join(prompt.split())
        best: tuple[int, int, ItemKey] | None = None
        for text, key in self._questions:
            at = squeezed.rfind(text)
            if at >= 0 and (best is None or (at + len(text), len(text)) > best[:2]):
                best = at + len(text), len(text), key
        return None if best is None else best[2]

    def _ask(self) -> None:
        """Every item's question without shots, by its length."""
        questions = [(self.task.prompt(item, 0).question, item.key) for item in self.items]
        often = Counter(text for text, _ in questions)
        for text, key in questions:
            if often[text] == 1 and text.strip():
                self._endings.setdefault(len(text), {})[text] = key


def _names(items: Sequence[Item]) -> dict[str, ItemKey]:
    """What an item may be called: its key, its hash, and the fields of its document that name each item once."""
    found: dict[str, ItemKey] = {}
    for item in items:
        found[str(item.key)] = item.key
        if item.key.occurrence == 0:
            found[item.key.content_hash] = item.key
    for name in NAMES:
        values = [item.doc.get(name) for item in items]
        texts = [str(v) for v in values if isinstance(v, str | int) and not isinstance(v, bool)]
        if len(texts) == len(items) == len(set(texts)):
            for text, item in zip(texts, items, strict=True):
                found.setdefault(text, item.key)
                if text.isdecimal() and item.key.task.startswith("mbpp"):
                    found.setdefault(f"Mbpp/{text}", item.key)  # EvalPlus' name of it
    return found


def doubts(name: str, found: Sequence[Found], known: bool) -> list[str]:
    """Lines for everyone who compares these results: how their items are known, where not by content."""
    counts = Counter(f.how for f in found)
    lines = []
    if counts["name"]:
        whose = f"{name}'s own items of these names" if known else "the same names on the other side"
        lines.append(f"{counts['name']:,} of {len(found):,} items are known by their names alone and taken for {whose}")
    if counts["prompt"]:
        lines.append(f"{counts['prompt']:,} of {len(found):,} items are known by the question inside their prompts")
    if counts["position"]:
        lines.append(f"{counts['position']:,} of {len(found):,} items are known by their place in the file alone")
    return lines


def task_or_none(load: Any) -> tuple[Task | None, str]:
    """(task, "") with its items read, or (None, why not): its files may not be here."""
    try:
        task: Task | None = load()
        if task is not None:
            task.load()
        return task, ""
    except UsageError as e:
        return None, str(e)
