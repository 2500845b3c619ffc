"""New records from stored responses."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forgetbench.errors import UsageError
from forgetbench.runs.assemble import judge, read_joined, rejudge
from forgetbench.runs.manifest import update_manifest
from forgetbench.runs.records import read_table, to_records, write_records
from forgetbench.runs.segments import scan_folder
from forgetbench.runs.store import Run
from forgetbench.runs.types import TaskEntry
from forgetbench.types import ItemKey, Judged, Record

if TYPE_CHECKING:
    from forgetbench.tasks.base import Task


def current_scorer_version() -> str:
    """forgetbench.scoring.SCORER_VERSION, looked up when asked for."""
    from forgetbench import scoring

    return scoring.SCORER_VERSION


def _rescored(run: Run, entry: TaskEntry, task: Task) -> list[Record]:
    assert entry.records is not None
    old = to_records(read_table(run.path / entry.records, sha256=entry.records_sha256))
    items = {item.key: item for item in task.load()}
    samples = Counter(record.key for record in old)
    judged: dict[ItemKey, list[Judged]] = {}
    folder = run.path / entry.folder
    with scan_folder(folder / "responses").reader() as read:
        for record in old:
            key = record.key
            if key in judged:
                continue
            if key not in items:
                raise UsageError(str(key), "is no longer among the task's items", "run the task again")
            try:
                response = read_joined(record.request_id or "", read)
            except KeyError:
                raise UsageError(str(folder), f"has no response for {key}", "run the task again") from None
            judged[key] = judge(task, items[key], response, samples[key])
    return [dataclasses.replace(r, **rejudge(judged[r.key][r.sample], r.extra)) for r in old]


def rescore(run: Run, tasks: Sequence[Task], *, scorer_version: str | None = None) -> Run:
    """Score the stored responses of `tasks` again and write new records beside the old ones; asks no engine.

    `scorer_version` names the new records (default: forgetbench.scoring.SCORER_VERSION). Samples keep their
    provenance. Raises UsageError when an item or a response that the old records name is gone.
    """
    version = scorer_version or current_scorer_version()
    by_name = {t.name: t for t in tasks}
    done: dict[tuple[str, str, str], TaskEntry] = {}
    for entry in run.entries:
        task = by_name.get(entry.identity.task)
        if task is None or entry.state != "complete":
            continue
        if task.version != entry.identity.task_version:
            raise UsageError(
                f"task {task.name}",
                f"is version {task.version}, the stored answers are to version {entry.identity.task_version}",
                "run the task again",
            )
        records = _rescored(run, entry, task)
        path = f"{entry.folder}/records/{version}-{entry.items_hash[:8]}.parquet"
        metadata = {"task": task.name, "identity": entry.digest, "scorer_version": version}
        done[entry.key] = dataclasses.replace(
            entry,
            scorer_version=version,
            records=path,
            records_sha256=write_records(run.path / path, records, metadata),
            n_records=len(records),
        )
    manifest = update_manifest(run.path, lambda m: (m or run.manifest).with_entries(done.values()))
    selection = None if run.selection is None else tuple(done.get(e.key, e) for e in run.selection)
    return Run(run.path, manifest, selection)
