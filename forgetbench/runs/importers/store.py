"""An imported run on disk: laid out as any other, its tasks replaced one by one by later imports.

    <alias>-<digest of the alias>-<digest of {"name": "imported"}>/

A task's identity says what it was imported from: {"name": "imported", "from": format, "sha256": of the files}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forgetbench
from forgetbench.errors import UsageError
from forgetbench.runs.files import safe_name
from forgetbench.runs.importers import IMPORTED
from forgetbench.runs.manifest import (
    NAME,
    Manifest,
    digest,
    identity_digest,
    now,
    read_manifest,
    update_manifest,
)
from forgetbench.runs.records import write_records
from forgetbench.runs.store import Run, run_folder
from forgetbench.runs.types import TaskEntry, TaskIdentity
from forgetbench.runs.units import hash_items
from forgetbench.types import Item, Record, View

ENGINE = {"name": IMPORTED}
UNKNOWN = ""
"""Version of a task or scorer that the files do not tell; two that are not known are not compared."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One task's results, ready to be stored."""

    task: str
    view: View
    decode_id: str
    source: str
    """lm-eval, inspect, evalplus, plain; `outputs` for texts that were scored here."""
    sha256: str
    items: Sequence[Item]
    """Each once."""
    records: Sequence[Record]
    metrics: tuple[str, ...]
    """The one to decide on first."""
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Doubts: whoever compares these results sees them."""
    task_version: str = UNKNOWN
    scorer_version: str = UNKNOWN


def folder_of(runs: Path, alias: str) -> Path:
    """Where the imported run of an alias lies, whether there is one or not."""
    return run_folder(runs, alias, _fingerprint(alias), ENGINE)


def _fingerprint(alias: str) -> str:
    """In place of a checkpoint's digest. The alias is all that is known of the checkpoint."""
    return digest({IMPORTED: alias}, 16)


def open_imported(runs: Path, alias: str) -> Run | None:
    """The imported run of an alias; None: there is none."""
    folder = folder_of(runs, alias)
    return Run(folder, read_manifest(folder)) if (folder / NAME).is_file() else None


def aliases(runs: Path) -> list[str]:
    """Of all imported runs, sorted. Damaged manifests are left to the command that needs them."""
    found = []
    for manifest in runs.glob(f"*-{digest(ENGINE, 6)}/{NAME}"):
        try:
            found.append(read_manifest(manifest.parent).alias)
        except UsageError:
            continue
    return sorted(found)


def metrics_of(run: Run, task: str) -> tuple[str, ...]:
    """Of an imported task, the one to decide on first."""
    about = run.manifest.info.get("imports", {}).get(task, {})
    return tuple(str(m) for m in about.get("metrics", ()))


def store(runs: Path, alias: str, imported: Sequence[Imported]) -> tuple[Run, list[str]]:
    """Write tasks into the run of an alias; (the run, the tasks that were imported before and are replaced)."""
    folder = folder_of(runs, alias)
    entries = [_write(folder, alias, one) for one in imported]
    new = {(one.task, one.view) for one in imported}
    replaced: list[str] = []

    def change(old: Manifest | None) -> Manifest:
        manifest = old or Manifest(
            alias=alias,
            checkpoint=_fingerprint(alias),
            parts={},
            engine=dict(ENGINE),
            created=now(),
            updated=now(),
            info={"forgetbench": forgetbench.__version__},
        )
        gone = [e for e in manifest.tasks if (e.identity.task, e.identity.view) in new]
        replaced[:] = sorted({e.identity.task for e in gone} - {e.identity.task for e in entries if e in gone})
        kept = tuple(e for e in manifest.tasks if e not in gone)
        about: dict[str, Any] = {**manifest.info.get("imports", {}), **{one.task: _about(one) for one in imported}}
        notes = tuple(dict.fromkeys(str(n) for one in about.values() for n in one["notes"]))
        return Manifest(
            alias=alias,
            checkpoint=manifest.checkpoint,
            parts={},
            engine=manifest.engine,
            created=manifest.created,
            updated=manifest.updated,
            tasks=(*kept, *entries),
            info={**manifest.info, "imports": about},
            notes=notes,
        )

    try:
        return Run(folder, update_manifest(folder, change)), replaced
    except OSError as e:
        raise UsageError(str(folder), f"cannot be written ({e.strerror})", "choose a folder for runs") from e


def _about(one: Imported) -> Mapping[str, Any]:
    return {
        "from": one.source,
        "files": list(one.files),
        "metrics": list(one.metrics),
        "notes": list(one.notes),
    }


def _write(folder: Path, alias: str, one: Imported) -> TaskEntry:
    """The records of one task; its entry."""
    identity = TaskIdentity(
        task=one.task,
        task_version=one.task_version,
        view=one.view,
        checkpoint=_fingerprint(alias),
        engine={"name": IMPORTED, "from": one.source, "sha256": one.sha256},
        decode={"decode_id": one.decode_id},
    )
    name, items_hash = identity_digest(identity), hash_items(one.items)
    inner = f"tasks/{safe_name(one.task)}@{name}"
    scorer = one.scorer_version or IMPORTED
    path = f"{inner}/records/{safe_name(scorer)}-{items_hash[:8]}.parquet"
    metadata = {"task": one.task, "identity": name, "scorer_version": scorer}
    try:
        written = write_records(folder / path, one.records, metadata)
    except OSError as e:
        cure = "choose a folder for runs that can be written to"
        raise UsageError(str(folder), f"cannot be written ({e.strerror})", cure) from e
    return TaskEntry(
        identity=identity,
        digest=name,
        folder=inner,
        state="complete",
        n_items=len(one.items),
        n_records=len(one.records),
        items_hash=items_hash,
        scorer_version=one.scorer_version,
        records=path,
        records_sha256=written,
        # Nothing can be asked again: an infra_error of elsewhere stays one.
        n_infra_error=0,
    )
