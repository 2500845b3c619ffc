"""What a task is. A new task is one file that satisfies `Task` and one line in the registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from forgetbench.types import Item, ItemKey, Judged, PromptSpec, Response


def content_hash(content: Mapping[str, Any]) -> str:
    """16 hex digits of sha256 over canonical JSON: identity of what is asked, gold answer excluded."""
    blob = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(blob.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Task(Protocol):
    """A benchmark or a custom set."""

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
