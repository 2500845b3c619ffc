"""What a comparison needs to know of imported tasks, which no suite has: their items, read off the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from forgetbench.errors import ForgetbenchError, IncomparableError
from forgetbench.runs.importers.store import metrics_of
from forgetbench.runs.store import Run
from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response, View

_COLUMNS = (
    "task", "content_hash", "occurrence", "task_type", "gold", "gold_hash", "cluster", "stratum", "n_choices", "source",
    "prompt",
)  # fmt: skip


class ImportedTask:
    """A task that is known by its records alone: nothing can be asked or scored."""

    binary = True

    def __init__(self, name: str, metrics: tuple[str, ...], items: Sequence[Item], decodings: frozenset[str]) -> None:
        self.name, self.metrics, self.version = name, metrics, ""
        self.decodings = decodings
        """The decode_ids of its records."""
        self._items = items

    def load(self) -> Sequence[Item]:
        """The items that any of the runs has."""
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """As the records have it."""
        return PromptSpec("generate", question=str(item.doc.get("prompt") or item.doc["id"]))

    def score(self, item: Item, response: Response) -> list[Judged]:
        raise ForgetbenchError(f"{self.name} is imported: its answers were scored elsewhere")

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return None


def imported_tasks(runs: Sequence[Run]) -> list[tuple[ImportedTask, tuple[View, ...]]]:
    """(task, views) for every task that any of the runs has. Raises IncomparableError: no metric in common."""
    found = []
    problems = []
    for name in dict.fromkeys(e.identity.task for run in runs for e in run.entries):
        having = [run for run in runs if any(e.identity.task == name for e in run.entries)]
        metrics = common_metrics(having, name)
        if not metrics:
            have = "; ".join(f"{run.alias} {', '.join(metrics_of(run, name)) or 'none'}" for run in having)
            problems.append(f"{name}: no metric in common: {have}")
        entries = [e for run in having for e in run.entries if e.identity.task == name]
        views = tuple(dict.fromkeys(cast("View", e.identity.view) for e in entries))
        decodings = frozenset(e.slot.decode_id for e in entries)
        found.append((ImportedTask(name, metrics, _items(having, name), decodings), views))
    if problems:
        raise IncomparableError(problems)
    return found


def common_metrics(runs: Sequence[Run], task: str) -> tuple[str, ...]:
    """Metrics that all the runs have, in the order of the first."""
    each = [metrics_of(run, task) for run in runs]
    return tuple(m for m in each[0] if all(m in other for other in each[1:]))


def _items(runs: Sequence[Run], name: str) -> list[Item]:
    items: dict[ItemKey, Item] = {}
    for run in runs:
        frame = run.records(name, columns=list(_COLUMNS))
        for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
            key = ItemKey(str(row["task"]), str(row["content_hash"]), int(row["occurrence"]))
            if key not in items:
                items[key] = _item(key, row)
    return list(items.values())


def _item(key: ItemKey, row: Mapping[Any, Any]) -> Item:
    n = row["n_choices"]
    return Item(
        key=key,
        task_type=str(row["task_type"]),
        doc={"id": str(key), **({} if row["prompt"] is None else {"prompt": row["prompt"]})},
        gold=str(row["gold"]),
        gold_hash=str(row["gold_hash"]),
        cluster=row["cluster"],
        stratum=row["stratum"],
        n_choices=None if n is None else int(n),
        source=row["source"] or "",
    )
