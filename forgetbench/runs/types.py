"""A run on disk: layout and manifest.

    <run>/manifest.json                       what was run, task by task, with hashes; rewritten atomically
    <run>/tasks/<task>@<identity>/responses/  append-only segments, one per process: `crc32 json\\n` lines
    <run>/tasks/<task>@<identity>/records/<scorer_version>-<items>.parquet

A run is one checkpoint under one engine and decoding. Its tasks are stored apart, so that adding a task to a
suite runs that task only, and rescoring writes new records beside the old ones without generating again.
The records' name also carries the first digits of `items_hash`, so that two suites which ask different items
of one task (`--limit`) share the responses and do not overwrite each other's records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

TaskState = Literal["running", "complete"]


class Slot(NamedTuple):
    """What a reader of a run asks for. Of several entries in one slot the last one written is current."""

    task: str
    view: str
    decode_id: str
    replicate: int
    round: int


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
    """decode_id, limits, stops, styles, num_fewshot: as the suite set them; of a later round also the round
    and the hashes of its parents."""
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
    """Hash over the items that were asked: keys, references, task_types, clusters, strata."""
    scorer_version: str
    records: str | None = None
    """Relative path of the Parquet file, once complete."""
    records_sha256: str | None = None
    requests_hash: str = ""
    """Hash over the sorted request ids: a prompt that changed under the same identity is noticed."""
    n_infra_error: int = 0
    """Requests that the engine failed to answer, asked again by the next run of the same command, and programs
    that the sandbox failed to run, scored again by it."""

    @property
    def slot(self) -> Slot:
        decode = self.identity.decode
        return Slot(
            self.identity.task,
            self.identity.view,
            str(decode.get("decode_id", "")),
            self.identity.replicate,
            int(decode.get("round", 0)),
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity of the entry itself: the same key is replaced, any other stands beside it."""
        return (self.digest, self.items_hash, self.scorer_version)
