"""Give items their identity and find them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forgetbench.tasks.base import content_hash
from forgetbench.types import Item, ItemKey


class KeyMaker:
    """Numbers the copies of equal contents in file order: the first is occurrence 0, the next 1.

    A pure function of the whole split, so a key never depends on a limit or a selection.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._seen: Counter[str] = Counter()

    def __call__(self, content: Mapping[str, Any]) -> ItemKey:
        digest = content_hash(content)
        occurrence = self._seen[digest]
        self._seen[digest] += 1
        return ItemKey(self._task, digest, occurrence)


def squeezed(value: Any) -> Any:
    """Text with its blanks collapsed, through lists and mappings.

    Copies of a benchmark differ in blanks (stripped, CRLF): this is how a document written elsewhere is
    still recognised when its exact hash is unknown.
    """
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return {k: squeezed(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [squeezed(v) for v in value]
    return value


class Finder:
    """Finds the key of a content: by its exact hash, else by its squeezed one if that names one content.

    Equal contents share a hash; the first occurrence is returned, and a reader of a log numbers the copies in
    the order it meets them.
    """

    def __init__(self, items: Iterable[Item], contents: Iterable[Mapping[str, Any]]) -> None:
        self._exact: dict[str, ItemKey] = {}
        self._loose: dict[str, ItemKey | None] = {}
        for item, content in zip(items, contents, strict=True):
            if item.key.occurrence:
                continue
            self._exact[item.key.content_hash] = item.key
            loose = content_hash(squeezed(content))
            # Two different contents that differ in blanks only: neither may be guessed.
            self._loose[loose] = None if loose in self._loose else item.key

    def find(self, content: Mapping[str, Any]) -> ItemKey | None:
        exact = self._exact.get(content_hash(content))
        return exact if exact is not None else self._loose.get(content_hash(squeezed(content)))
