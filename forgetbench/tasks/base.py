"""What a task is. A new task is one file that satisfies `Task` and one line in the registry."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response, Style

BRIDGE = "lm_eval:"
"""Before the name of a task or group of lm-eval's own (tasks/lm_eval_bridge.py)."""


def folder_name(name: str) -> str:
    """A name from elsewhere as ours must be: they become folders and levels of a task_type."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._-") or "_"


def content_hash(content: Mapping[str, Any]) -> str:
    """16 hex digits of sha256 over canonical JSON: identity of what is asked, gold answer excluded."""
    blob = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(blob.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Task(Protocol):
    """A benchmark or a custom set.

    A task may have more: `in_style(style)` where prompt and reading of answers differ by style in more than
    their rendering; `check_ready()`, which raises UsageError where its answers could not be scored, before any is
    asked for; `warning`, a line that every run and comparison of it must show; `right_options(item)`, the places of the
    right ones among a ranked item's options, where `doc["answer"]` is not the one place.
    """

    name: str
    version: str
    """Goes into the identity of results: bump it when prompts or docs change meaning."""
    metrics: tuple[str, ...]
    """Metric names that `score` fills; the first is the one a policy uses by default."""
    binary: bool
    """Whether the default metric is 0/1 per sample (McNemar applies) or continuous."""

    def load(self) -> Sequence[Item]:
        """All items of the evaluated split in file order. Raises UsageError with file, line, field, cure."""
        ...

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        """Few-shot draws depend on the whole split in file order, never on a selection or a limit."""
        ...

    def score(self, item: Item, response: Response) -> list[Judged]:
        """One `Judged` per sample: a rank response has one, a generate response one per generation."""
        ...

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        """The key of the item that a document written elsewhere (an lm-eval log, ...) is about."""
        ...


def in_style(task: Task, style: Style) -> Task:
    """The task as it is asked in a style."""
    change = getattr(task, "in_style", None)
    styled: Task = task if change is None else change(style)
    return styled


def right_options(task: Task, item: Item) -> tuple[int, ...]:
    """Places of the right ones among a ranked item's options; empty where the task names none.

    `item.gold` is for people ("B. Rome") and names no place.
    """
    own = getattr(_inner(task), "right_options", None)
    if own is not None:
        return tuple(own(item))
    answer = item.doc.get("answer")
    return (answer,) if isinstance(answer, int) and not isinstance(answer, bool) else ()


def check_ready(tasks: Iterable[Task]) -> None:
    """Raises the UsageErrors of every task whose answers could not be scored here."""
    for task in tasks:
        check = getattr(_inner(task), "check_ready", None)
        if check is not None:
            check()


def warnings_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    found = (getattr(_inner(task), "warning", None) for task in tasks)
    return tuple(str(line) for line in found if line)


def _inner(task: Task) -> Task:
    """What a preset wraps."""
    inner: Task = getattr(task, "task", task)
    return inner
