"""Runs on disk, opened. pandas and pyarrow load only when records are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.errors import UsageError
from forgetbench.runs.files import safe_name
from forgetbench.runs.manifest import NAME, Manifest, digest, read_manifest
from forgetbench.runs.segments import ResponseIndex, scan_folder
from forgetbench.runs.types import TaskEntry
from forgetbench.types import Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def run_folder(runs: Path, alias: str, checkpoint_digest: str, engine_identity: Mapping[str, str]) -> Path:
    """Where the run of a checkpoint under an engine lies: `<alias>-<checkpoint 12>-<engine 6>` in `runs`."""
    return runs / f"{safe_name(alias)}-{checkpoint_digest[:12]}-{digest(dict(engine_identity), 6)}"


@dataclass(frozen=True, slots=True)
class Run:
    """One checkpoint on one suite. A snapshot: what another process writes later does not show."""

    path: Path
    manifest: Manifest
    selection: tuple[TaskEntry, ...] | None = None
    """Set by `execute`: exactly the entries that its plan asked for. None: the current ones."""

    @property
    def alias(self) -> str:
        return self.manifest.alias

    @property
    def fingerprint(self) -> str:
        """Digest of the checkpoint."""
        return self.manifest.checkpoint

    @property
    def notes(self) -> tuple[str, ...]:
        return self.manifest.notes

    @property
    def entries(self) -> tuple[TaskEntry, ...]:
        return self.manifest.current() if self.selection is None else self.selection

    @property
    def incomplete(self) -> tuple[TaskEntry, ...]:
        """Tasks that were begun and have no records yet."""
        return tuple(e for e in self.entries if e.state != "complete")

    def _chosen(self, task: str | None, view: str | None) -> list[TaskEntry]:
        entries = [e for e in self.entries if task in (None, e.identity.task) and view in (None, e.identity.view)]
        named = "/".join(x for x in (task, view) if x)
        if named and not entries:
            have = sorted({f"{e.identity.task}/{e.identity.view}" for e in self.entries})
            raise UsageError(str(self.path), f"no records of {named}", f"it has {', '.join(have) or 'none'}")
        unfinished = [e for e in entries if e.state != "complete"]
        if named and unfinished:
            raise UsageError(
                str(self.path),
                f"{named} is not complete ({unfinished[0].n_items} items asked)",
                "run the same command again: it resumes",
            )
        return [e for e in entries if e.state == "complete"]

    def _table(self, entry: TaskEntry, columns: Sequence[str] | None) -> pa.Table:
        from forgetbench.runs.records import read_table

        assert entry.records is not None
        path = self.path / entry.records
        try:
            return read_table(path, sha256=entry.records_sha256, columns=columns)
        except UsageError:
            # Another process may have written this entry anew since the snapshot (infra errors mended).
            latest = {e.key: e for e in read_manifest(self.path).tasks}.get(entry.key)
            if latest is None or latest.records_sha256 == entry.records_sha256:
                raise
            return read_table(path, sha256=latest.records_sha256, columns=columns)

    def records(
        self, task: str | None = None, view: str | None = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Records of all complete tasks, or of one task, one view or both; columns as in `Record`.

        `scores` and `extra` are JSON text. Rows come in the order of the manifest's entries, then of the
        suite's items, then by sample. Raises UsageError when what was named is missing or not complete.
        """
        from forgetbench.runs.records import to_frame

        return to_frame([self._table(e, columns) for e in self._chosen(task, view)], columns)

    def read_records(self, task: str | None = None, view: str | None = None) -> list[Record]:
        """The same rows as `records`, as Records."""
        from forgetbench.runs.records import to_records

        return [r for e in self._chosen(task, view) for r in to_records(self._table(e, None))]

    def responses(self, entry: TaskEntry) -> ResponseIndex:
        """What the engine said for an entry."""
        return scan_folder(self.path / entry.folder / "responses")

    def manifest_dict(self) -> dict[str, Any]:
        """The manifest as JSON has it, with `tasks` only of the entries that this run shows."""
        return json.loads(json.dumps({**asdict(self.manifest), "tasks": [asdict(e) for e in self.entries]}))  # type: ignore[no-any-return]


def open_run(path: Path | str) -> Run:
    """The run in a folder. Raises UsageError when there is none or its manifest is damaged."""
    folder = Path(path)
    return Run(folder, read_manifest(folder))


def list_runs(runs: Path | str, *, on_error: Callable[[UsageError], None] | None = None) -> list[Run]:
    """All runs in a folder of runs, by name; no records are read. A damaged one goes to `on_error`."""
    found: list[Run] = []
    for manifest in sorted(Path(runs).glob(f"*/{NAME}")):
        try:
            found.append(open_run(manifest.parent))
        except UsageError as e:
            if on_error is None:
                raise
            on_error(e)
    return found
