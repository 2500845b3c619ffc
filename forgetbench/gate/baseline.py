"""The baseline lock: a small file to commit that says which run a checkpoint is held against.

It names the checkpoint by its digests, the engine, and for every task and view the items and the answers as scored. A
gate that is given the file refuses any other run (exit 12), so that a base which was silently retrained, requantised or
rescored cannot move the bar.

Hashed is what decides: item, outcome, scores, answer, prompt. Times and token counts are left out, so that the same
answers from another machine match.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from forgetbench.config_fields import Strict
from forgetbench.errors import IncomparableError
from forgetbench.runs.files import atomic_write
from forgetbench.runs.store import Run
from forgetbench.yamlio import load_yaml, validate

if TYPE_CHECKING:
    import pandas as pd

    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.runs.types import TaskEntry

SCHEMA_VERSION = 1
NAME = "baseline.lock.json"
_HASHED = (
    "task", "content_hash", "occurrence", "view", "decode_id", "sample", "outcome", "scores", "output", "gold_hash",
    "prompt_text_hash", "successes", "trials",
)  # fmt: skip


class TaskLock(Strict):
    """One task under one view and decoding."""

    task: str
    view: str
    decode_id: str
    n_items: int
    items_hash: str
    task_version: str
    scorer_version: str
    records_sha256: str
    scores: dict[str, float]
    """Mean by metric, over the records that have one."""

    @property
    def name(self) -> str:
        return f"{self.task} ({self.view}, {self.decode_id})"


class BaselineLock(Strict):
    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    alias: str
    suite: str
    checkpoint: str
    parts: dict[str, str]
    """Digests of weights, config, tokenizer, template, adapter, stop_ids."""
    engine: dict[str, str]
    tasks: Annotated[tuple[TaskLock, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Baseline:
    """A lock and the file that it came from."""

    lock: BaselineLock
    file: Path


def load_baseline(file: Path) -> Baseline:
    """Raises UsageError for a file that is missing, damaged or of a newer version."""
    data, lines = load_yaml(file, "baseline lock")  # JSON is YAML, and so every mistake has its line
    return Baseline(validate(BaselineLock, data, file, lines), file)


def lock_of(run: Run, suite: str) -> BaselineLock:
    """The lock of a complete run; replicate 0 only (the others are the noise floor's)."""
    return BaselineLock(
        alias=run.alias,
        suite=suite,
        checkpoint=run.fingerprint,
        parts=dict(run.manifest.parts),
        engine=dict(run.manifest.engine),
        tasks=tuple(_task_lock(run, entry) for entry in _entries(run)),
    )


def write_lock(lock: BaselineLock, file: Path) -> None:
    blob = json.dumps(lock.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(file, (blob + "\n").encode())


def check_checkpoint(baseline: Baseline, point: Checkpoint, suite: str) -> None:
    """What can be told before anything runs. Raises IncomparableError naming each difference."""
    lock = baseline.lock
    _refuse(baseline, [*_suite(lock, suite), *_parts(lock, point.digest, dict(point.parts))])


def check_run(baseline: Baseline, run: Run, suite: str) -> None:
    """Raises IncomparableError naming everything in which the run is not the locked one."""
    lock = baseline.lock
    differences = [*_suite(lock, suite), *_parts(lock, run.fingerprint, dict(run.manifest.parts))]
    differences += _mapping("engine", lock.engine, dict(run.manifest.engine))
    entries = {(e.identity.task, e.identity.view, _decode_id(e)): e for e in _entries(run)}
    locked = {(t.task, t.view, t.decode_id): t for t in lock.tasks}
    for key in sorted(locked.keys() - entries.keys()):
        differences.append(f"{locked[key].name} is locked and not in the run")
    for key in sorted(entries.keys() - locked.keys()):
        differences.append(f"{key[0]} ({key[1]}, {key[2]}) is in the run and not locked")
    for key in sorted(locked.keys() & entries.keys()):
        differences += _task_differences(locked[key], _task_lock(run, entries[key]))
    _refuse(baseline, differences)


def _refuse(baseline: Baseline, differences: Sequence[str]) -> None:
    if differences:
        cure = f"if it is meant to change: forgetbench baseline set {baseline.lock.alias} --out {baseline.file}"
        raise IncomparableError([*(f"{baseline.file}: {d}" for d in differences), cure])


def _suite(lock: BaselineLock, suite: str) -> list[str]:
    return [] if lock.suite == suite else [f"suite is {suite}, locked is {lock.suite}"]


def _parts(lock: BaselineLock, checkpoint: str, parts: Mapping[str, str]) -> list[str]:
    if lock.checkpoint == checkpoint:
        return []
    found = _mapping("checkpoint", lock.parts, parts)
    return found or [f"checkpoint is {checkpoint[:12]}, locked is {lock.checkpoint[:12]}"]


def _mapping(what: str, locked: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    names = sorted(n for n in locked.keys() | found.keys() if locked.get(n) != found.get(n))
    return [f"{what}: {n} is {_short(found.get(n))}, locked is {_short(locked.get(n))}" for n in names]


def _short(value: str | None) -> str:
    return "missing" if value is None else value if len(value) <= 24 else value[:12]


def _task_differences(locked: TaskLock, found: TaskLock) -> list[str]:
    """Causes first: where the items differ, the answers do so too, and that tells nothing more."""
    for name in ("task_version", "scorer_version", "items_hash", "n_items", "records_sha256"):
        was, now = getattr(locked, name), getattr(found, name)
        if was == now:
            continue
        if name == "records_sha256":
            moved = [
                f"{metric} {100 * value:.2f} where {100 * locked.scores[metric]:.2f} is locked"
                for metric, value in found.scores.items()
                if metric in locked.scores and value != locked.scores[metric]
            ]
            return [
                f"{locked.name}: the answers differ" + (f" ({', '.join(moved)})" if moved else ", the scores do not")
            ]
        return [f"{locked.name}: {name} is {_short(str(now))}, locked is {_short(str(was))}"]
    if locked.scores != found.scores:
        return [f"{locked.name}: the scores in the file are not those of its records; it was edited by hand"]
    return []


def _entries(run: Run) -> list[TaskEntry]:
    return sorted(
        (e for e in run.entries if e.identity.replicate == 0 and not e.identity.decode.get("round")),
        key=lambda e: (e.identity.task, e.identity.view, _decode_id(e)),
    )


def _decode_id(entry: TaskEntry) -> str:
    return str(entry.identity.decode.get("decode_id", ""))


def _task_lock(run: Run, entry: TaskEntry) -> TaskLock:
    records = run.records(entry.identity.task, entry.identity.view, columns=[*_HASHED, "replicate", "round"])
    mine = records[(records["decode_id"] == _decode_id(entry)) & (records["replicate"] == 0) & (records["round"] == 0)]
    return TaskLock(
        task=entry.identity.task,
        view=entry.identity.view,
        decode_id=_decode_id(entry),
        n_items=entry.n_items,
        items_hash=entry.items_hash,
        task_version=entry.identity.task_version,
        scorer_version=entry.scorer_version,
        records_sha256=_hash(mine),
        scores=_means(mine["scores"].tolist()),
    )


def _hash(records: pd.DataFrame) -> str:
    """sha256 over the deciding columns, in the order of the items' keys."""
    rows = records[list(_HASHED)].astype(object).where(records[list(_HASHED)].notna(), None).values.tolist()
    lines = sorted(json.dumps(row, ensure_ascii=True, separators=(",", ":"), default=str) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _means(scores: Sequence[str]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for text in scores:
        for metric, value in json.loads(text).items():
            values.setdefault(metric, []).append(float(value))
    return {metric: sum(found) / len(found) for metric, found in sorted(values.items())}
