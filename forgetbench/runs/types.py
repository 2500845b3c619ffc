"""A run on disk: layout and manifest.

    <run>/manifest.json                       what was run, task by task, with hashes; rewritten atomically
    <run>/tasks/<task>@<identity>/responses/  append-only segments, one per process: `crc32 json\\n` lines
    <run>/tasks/<task>@<identity>/records/<scorer_version>.parquet

A run is one checkpoint under one engine and decoding. Its tasks are stored apart, so that adding a task to a
suite runs that task only, and rescoring writes new records beside the old ones without generating again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TaskState = Literal["running", "complete"]


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """Everything that can change a task's results. The same identity resumes, any other never does."""

    task: str
    task_version: str
    view: str
    checkpoint: str
    """Digest of weights, config, tokenizer, template, adapter, stop ids (checkpoints/)."""
    engine: dict[str, str]
    """Engine.identity: name, version, dtype, quantisation, attention, ..."""
    decode: dict[str, Any]
    """decode_id, limits, stops, styles, num_fewshot: as the suite set them."""
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """One task (under one view) in a manifest."""

    identity: TaskIdentity
    digest: str
    """12 hex digits of the identity."""
    folder: str
    """Relative to the run."""
    state: TaskState
    n_items: int
    n_records: int
    items_hash: str
    """Hash over the sorted item keys that were asked."""
    scorer_version: str
    records: str | None = None
    """Relative path of the Parquet file, once complete."""
    records_sha256: str | None = None
