"""Two frames of records as plain arrays with one numbering of their items."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.analysis.types import OUTCOMES
from forgetbench.errors import IncomparableError
from forgetbench.types import ItemKey

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from forgetbench.analysis.pairing import Selection

_REQUIRED = ("task", "content_hash", "task_type", "view", "decode_id", "outcome", "scores", "gold_hash")
_NUMBERS = {"occurrence": 0, "sample": 0, "replicate": 0, "round": 0}


def item_text(key: ItemKey) -> str:
    return f"{key.content_hash}#{key.occurrence}"


@dataclass(frozen=True, slots=True)
class SideFrame:
    """The records of one side; every array has one entry per record."""

    alias: str
    keys: list[ItemKey]
    """By item code; shared by both sides, sorted."""
    item: NDArray[np.int64]
    task: NDArray[np.object_]
    view: NDArray[np.object_]
    decode_id: NDArray[np.object_]
    sample: NDArray[np.int64]
    outcome: NDArray[np.int64]
    """Index into OUTCOMES."""
    scores: list[Mapping[str, float]]
    columns: dict[str, NDArray[np.object_]]
    doubled: int

    def __len__(self) -> int:
        return int(self.item.size)

    def column(self, name: str) -> NDArray[np.object_]:
        """A column with None for nulls; all None where the frame lacks it."""
        if name not in self.columns:
            self.columns[name] = np.full(len(self), None, dtype=object)
        return self.columns[name]

    def values(
        self, rows: NDArray[np.int64], metric: str, *, primary: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Score and weight of each row, and how many rows lack a score without being an infra_error.

        Weight 0: infra_error, which never counts as wrong. An imported row with successes out of trials has
        their ratio and weighs `trials` samples, for the primary metric.
        """
        values, weights, missing = np.zeros(rows.size), np.zeros(rows.size), 0
        successes, trials = self.column("successes"), self.column("trials")
        infra = OUTCOMES.index("infra_error")
        for i, row in enumerate(rows.tolist()):
            if self.outcome[row] == infra:
                continue
            if primary and trials[row]:
                right = successes[row]
                if right is None or not 0 <= right <= trials[row]:
                    missing += 1  # more right than asked is no rate, and would pass any margin
                else:
                    values[i], weights[i] = float(right) / float(trials[row]), float(trials[row])
                continue
            value: object = self.scores[row].get(metric)
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                missing += 1
            else:
                values[i], weights[i] = value, 1.0
        return values, weights, missing


def prepare(
    base: pd.DataFrame, candidate: pd.DataFrame, selection: Selection, aliases: tuple[str, str]
) -> tuple[SideFrame, SideFrame]:
    """Both frames reduced to the selection and to round 0, their items numbered in order of their keys."""
    frames = [
        _reduce(frame, selection, replicate, alias)
        for frame, replicate, alias in zip((base, candidate), selection.replicates, aliases, strict=True)
    ]
    triples = [list(zip(f["task"], f["content_hash"], f["occurrence"].astype(int), strict=True)) for f in frames]
    codes = {key: code for code, key in enumerate(sorted({*triples[0], *triples[1]}))}
    keys = [ItemKey(str(task), str(content), int(occurrence)) for task, content, occurrence in codes]
    sides = [
        _side(frame, np.asarray([codes[t] for t in own], dtype=np.int64), keys, alias)
        for frame, own, alias in zip(frames, triples, aliases, strict=True)
    ]
    return sides[0], sides[1]


def _reduce(frame: pd.DataFrame, selection: Selection, replicate: int, alias: str) -> pd.DataFrame:
    missing = [c for c in _REQUIRED if c not in frame.columns]
    if missing:
        raise IncomparableError([f"the records of {alias} lack the columns {', '.join(missing)}"])
    _check_types(frame, alias)
    absent = {name: default for name, default in _NUMBERS.items() if name not in frame.columns}
    frame = frame.assign(**absent) if absent else frame
    keep = (frame["round"].fillna(0) == 0) & (frame["replicate"].fillna(0) == replicate)
    if selection.tasks is not None:
        keep &= frame["task"].isin(list(selection.tasks))
    if selection.views is not None:
        keep &= frame["view"].isin(list(selection.views))
    frame = frame[keep]
    if selection.items is not None:
        wanted = selection.items
        rows = zip(frame["task"], frame["content_hash"], frame["occurrence"], strict=True)
        frame = frame[[ItemKey(str(t), str(c), int(o)) in wanted for t, c, o in rows]]
    return frame


def _check_types(frame: pd.DataFrame, alias: str) -> None:
    """Frames out of our own files have these types already; one of other making is told what is wrong with it."""
    from forgetbench.runs.records import JSON_COLUMNS, KINDS

    for name, (kind, _) in KINDS.items():
        if name not in frame.columns or name in JSON_COLUMNS:
            continue
        wrong = frame[name].notna() & ~_fitting(frame[name], text=kind is str)
        if name in _REQUIRED and name != "gold_hash":
            wrong |= frame[name].isna()
        if wrong.any():
            value = repr(frame[name][wrong].tolist()[0])[:60]
            what = "text" if kind is str else "a number"
            raise IncomparableError([f"the records of {alias} have a {name} that is not {what}: {value}"])


def _fitting(column: pd.Series[Any], *, text: bool) -> pd.Series[bool]:
    """Which values are of the kind; by the dtype alone where it says so."""
    if column.dtype == object:
        return column.map(lambda v: isinstance(v, str) if text else isinstance(v, (int, float)) and abs(v) < 2**62)
    return column.isna() | (str(column.dtype) in ("str", "string") if text else column.dtype.kind in "biuf")


def _side(frame: pd.DataFrame, item: NDArray[np.int64], keys: list[ItemKey], alias: str) -> SideFrame:
    columns = {str(name): _objects(frame[name]) for name in frame.columns if name != "scores"}
    known = {outcome: code for code, outcome in enumerate(OUTCOMES)}
    strange = sorted({str(o) for o in columns["outcome"]} - set(known))
    if strange:
        raise IncomparableError([f"the records of {alias} have unknown outcomes: {', '.join(strange)}"])
    sample = frame["sample"].fillna(0).to_numpy(dtype=np.int64)
    ids = zip(item.tolist(), columns["view"], columns["decode_id"], sample.tolist(), strict=True)
    return SideFrame(
        alias=alias,
        keys=keys,
        item=item,
        task=columns["task"],
        view=columns["view"],
        decode_id=columns["decode_id"],
        sample=sample,
        outcome=np.asarray([known[o] for o in columns["outcome"]], dtype=np.int64),
        scores=_all_scores(frame["scores"].tolist(), alias),
        columns=columns,
        doubled=len(frame) - len(set(ids)),
    )


def _objects(column: pd.Series[Any]) -> NDArray[np.object_]:
    """Python objects with None for every kind of null."""
    values = column.astype(object).to_numpy()
    nulls = column.isna().to_numpy()
    if nulls.any():
        values = values.copy()
        values[nulls] = None
    return values


def _all_scores(values: list[object], alias: str) -> list[Mapping[str, float]]:
    known: dict[str, Mapping[str, float]] = {}  # 0/1 scores have few distinct texts
    parsed: list[Mapping[str, float]] = []
    for value in values:
        if not isinstance(value, str):
            parsed.append(_scores(value, alias))
            continue
        if value not in known:
            known[value] = _scores(value, alias)
        parsed.append(known[value])
    return parsed


def _scores(value: object, alias: str) -> Mapping[str, float]:
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str):
        return {}
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise IncomparableError([f"the records of {alias} have scores that are no JSON object: {value[:60]!r}"])
    return parsed


def flags_of(extra: object) -> Mapping[str, Any] | None:
    """A record's `extra` (a mapping, or JSON text) if it has flags; None: its sample was not looked at."""
    if isinstance(extra, str) and '"looped"' in extra:  # most have none, and parsing costs
        try:
            extra = json.loads(extra)
        except ValueError:
            return None
    return extra if isinstance(extra, Mapping) and "looped" in extra else None


def same(left: NDArray[np.object_], right: NDArray[np.object_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(equal, unknown): element by element; unknown where a side is None (imports may lack provenance)."""
    unknown = np.asarray([a is None or b is None for a, b in zip(left, right, strict=True)], dtype=np.bool_)
    equal = np.asarray([a == b for a, b in zip(left, right, strict=True)], dtype=np.bool_)
    return equal, unknown
