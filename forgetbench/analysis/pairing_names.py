"""Pairing by name (`--pair-by key`): imported items that bear one name are one item, on trust.

Nothing shows that two files mean the same question by one name, so everything that was paired so is counted in the
notes of the comparison, where verdict and report have it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = 3


class _Name(NamedTuple):
    task: str
    key: str


class _Content(NamedTuple):
    content_hash: str
    occurrence: int


def by_name(
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    aliases: tuple[str, str],
    differences: list[str],
    notes: list[str],
) -> pd.DataFrame:
    """The candidate's records with the base's identity wherever a name is in both.

    Adds to `differences` where a name stands for several items of one side, to `notes` how many were paired so.
    """
    sides = [_named(frame, alias, differences) for frame, alias in zip((base, candidate), aliases, strict=True)]
    moved = {name: content for name, content in sides[0].items() if name in sides[1] and sides[1][name] != content}
    if not any(sides):
        notes.append("paired by key: no item of either side has a name, so all are paired by their contents")
        return candidate
    for task in sorted({name.task for name in sides[0].keys() & sides[1].keys()}):
        shared = [n for n in sides[0] if n.task == task and n in sides[1]]
        others = [n for n in shared if n in moved]
        line = f"{task}: paired by key: {len(shared)} items bear the same name in both"
        if others:
            line += f"; {len(others)} of them have other contents, or contents that are not known on both sides"
            line += f" ({_some([n.key for n in others])}): that both mean the same question is taken on trust"
        notes.append(line)
    if not moved:
        return candidate
    names = _names(candidate)
    fresh = [moved.get(name) if name is not None else None for name in names]
    hashes = [
        old if new is None else new.content_hash for old, new in zip(candidate["content_hash"], fresh, strict=True)
    ]
    copies = [old if new is None else new.occurrence for old, new in zip(candidate["occurrence"], fresh, strict=True)]
    return candidate.assign(content_hash=hashes, occurrence=copies)


def _names(frame: pd.DataFrame) -> list[_Name | None]:
    """The name of each record's item, as its file had it; None: it has none (own runs)."""
    if "extra" not in frame.columns:
        return [None] * len(frame)
    return [_name(str(task), extra) for task, extra in zip(frame["task"], frame["extra"], strict=True)]


def _name(task: str, extra: object) -> _Name | None:
    if isinstance(extra, str):
        if '"key"' not in extra:
            return None
        try:
            extra = json.loads(extra)
        except ValueError:
            return None
    key = extra.get("key") if isinstance(extra, dict) else None
    return None if key is None else _Name(task, str(key))


def _named(frame: pd.DataFrame, alias: str, differences: list[str]) -> dict[_Name, _Content]:
    """Name -> content."""
    found: dict[_Name, _Content] = {}
    several: dict[_Name, None] = {}
    contents = zip(_names(frame), frame["content_hash"], frame["occurrence"], strict=True)
    for name, content_hash, occurrence in contents:
        if name is None:
            continue
        content = _Content(str(content_hash), int(occurrence))
        if found.setdefault(name, content) != content:
            several[name] = None
    if several:
        examples = _some([n.key for n in several])
        differences.append(f"{len(several)} names stand for several items of {alias} ({examples})")
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
