"""Grades on disk: what was judged once is not judged again.

    OUT/items/<digest>.json                      which items, in which order: shared by all grades
    OUT/arms/<arm>/seed-<n>/grades/<label>.json  verdict and scores of one checkpoint

A grade holds as long as what it was made with is the same (`Grader.context`), and the checkpoint's own digest. Where a
checkpoint's folder was removed to save room its grade stays.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.arms.score import Cell, Grade
from forgetbench.runs.files import atomic_write, safe_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEX = 16


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX]


def _file(folder: Path, label: str) -> Path:
    return folder / "grades" / f"{safe_name(label)}.json"


def save(out: Path, folder: Path, label: str, context: str, digest: str, grade: Grade) -> None:
    """Store the grade of the checkpoint `label` of the arm in `folder`. Raises DiskFullError."""
    layout = [
        {"view": c.view, "task_type": c.task_type, "keys": list(c.keys), "clusters": list(c.clusters)}
        for c in grade.cells
    ]
    items = _digest(layout)
    place = out / "items" / f"{items}.json"
    if not place.is_file():
        atomic_write(place, json.dumps(layout, ensure_ascii=False).encode())
    told = {
        "context": context,
        "digest": digest,
        "state": grade.state,
        "reason": grade.reason,
        "items": items,
        "base": [_plain(c.base) for c in grade.cells],
        "candidate": [_plain(c.candidate) for c in grade.cells],
    }
    atomic_write(_file(folder, label), json.dumps(told, ensure_ascii=False).encode())


def load(out: Path, folder: Path, label: str, context: str, digest: str | None) -> Grade | None:
    """The stored grade; None where there is none that holds. `digest`: None where the checkpoint's folder is gone."""
    try:
        told = json.loads(_file(folder, label).read_bytes())
        if told["context"] != context or (digest is not None and told["digest"] != digest):
            return None
        layout = json.loads((out / "items" / f"{told['items']}.json").read_bytes())
        if _digest(layout) != told["items"]:
            return None
        cells = tuple(
            Cell(c["view"], c["task_type"], tuple(c["keys"]), tuple(c["clusters"]), _array(base), _array(candidate))
            for c, base, candidate in zip(layout, told["base"], told["candidate"], strict=True)
        )
        return Grade(cells, told["state"], told["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # half a file is no grade: the checkpoint is judged again


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(v) else v for v in values.tolist()]


def _array(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.asarray([math.nan if v is None else v for v in values], dtype=np.float64)
