"""One unit while it is worked on, and the counting of what is durable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from forgetbench.runs.assemble import Asked
from forgetbench.runs.manifest import Manifest
from forgetbench.runs.records import file_sha256, write_records
from forgetbench.runs.segments import ResponseIndex, Stored, scan_folder
from forgetbench.runs.types import TaskEntry
from forgetbench.runs.units import Unit
from forgetbench.types import Record, Response


class Progress(Protocol):
    """Called once for each task at the start, then after every batch that became durable.

    It may come from another thread. `done` and `total` count requests of the task under the view; `tokens`
    are those processed by this call (prompt, generated and scored), for a rate.
    """

    def __call__(self, task: str, view: str, done: int, total: int, tokens: int) -> None: ...


KEPT_TOKENS = 2_000_000
"""Tokens of just-stored responses that one call keeps in memory for scoring (about 100 bytes each), so that they
need not be read back."""


class Work:
    """One unit, where its responses lie, and which of them are missing."""

    def __init__(self, unit: Unit, run_dir: Path, scorer_version: str) -> None:
        self.unit, self.run_dir = unit, run_dir
        self.responses = run_dir / unit.folder / "responses"
        self.index = ResponseIndex()
        self.kept: dict[str, Response] = {}
        """Final responses of this call, as far as there is room; the others are read from disk."""
        self.wanted = unit.request_ids
        self.missing = set(self.wanted)
        """Requests without a final response. The writer's thread takes away from it."""
        self.tokens = 0
        self.scored = False
        self.entry = TaskEntry(
            identity=unit.identity,
            digest=unit.digest,
            folder=unit.folder,
            state="running",
            n_items=len(unit.asked),
            n_records=0,
            items_hash=unit.items_hash,
            scorer_version=scorer_version,
            requests_hash=unit.requests_hash,
        )

    def is_done(self, manifest: Manifest, *, settled: bool = False) -> bool:
        """Take over the manifest's entry if it holds all that is wanted, so that no response need be read.

        `settled`: what failed counts as answered.
        """
        found = next((e for e in manifest.tasks if e.key == self.entry.key), None)
        if (
            found is not None
            and found.state == "complete"
            and (settled or found.n_infra_error == 0)
            and found.requests_hash == self.entry.requests_hash
            and found.records is not None
            and file_sha256(self.run_dir / found.records) == found.records_sha256
        ):
            self.entry, self.scored = found, True
            self.missing.clear()
        return self.scored

    def scan(self) -> None:
        """Find out what is on disk."""
        self.index = scan_folder(self.responses)
        if not self.scored:
            self.missing = {i for i in self.wanted if not self.index.has_final(i)}

    def score(self) -> TaskEntry:
        """Score the responses and write the records; what is still missing failed and becomes infra_error."""
        records = self.records_of(self.unit.asked)
        self.kept.clear()
        return self.write(records)

    def records_of(self, asked: Sequence[Asked]) -> list[Record]:
        """The records of some of the unit's items, in their order."""
        # Imported late: until a task is complete nothing of scoring is needed.
        from forgetbench.runs.assemble import records_of_all

        with self.index.reader() as read:
            return records_of_all(asked, self.unit.job.task, lambda i: self.kept.get(i) or read(i))

    def write(self, records: Sequence[Record]) -> TaskEntry:
        """Write the unit's records, all of them; what is still missing failed."""
        version, unit = self.entry.scorer_version, self.unit
        path = f"{unit.folder}/records/{version}-{unit.items_hash[:8]}.parquet"
        metadata = {"task": unit.identity.task, "identity": unit.digest, "scorer_version": version}
        sha256 = write_records(self.run_dir / path, records, metadata)
        return dataclasses.replace(
            self.entry,
            state="complete",
            n_records=len(records),
            records=path,
            records_sha256=sha256,
            # Answers that only the sandbox failed on are complete; the next run of the command scores them again.
            n_infra_error=len(self.missing) + sum(r.extra.get("execution") == "infra_error" for r in records),
        )


def _tokens(response: Response) -> int:
    produced = sum(len(g.token_ids) for g in response.generations)
    return response.prompt_tokens + produced + sum(s.n_tokens for s in response.scores)


class Reporter:
    """Counts what is durable and tells the caller's progress; sums over units that share task and view."""

    def __init__(
        self, works: Sequence[Work], progress: Progress | None, on_stored: Callable[[str], None] | None
    ) -> None:
        self.progress, self.on_stored = progress, on_stored
        self.by_folder = {w.responses: w for w in works}
        self.room = KEPT_TOKENS
        self.groups: dict[tuple[str, str], list[Work]] = {}
        for w in works:
            self.groups.setdefault((w.unit.identity.task, w.unit.identity.view), []).append(w)

    def tell(self, task: str, view: str) -> None:
        if self.progress is not None:
            group = self.groups[task, view]
            total = sum(len(w.wanted) for w in group)
            # A scored unit is done, also where some of its requests failed for good.
            left = sum(len(w.missing) for w in group if not w.scored)
            self.progress(task, view, total - left, total, sum(w.tokens for w in group))

    def tell_all(self) -> None:
        for task, view in self.groups:
            self.tell(task, view)

    def stored(self, batch: Sequence[Stored]) -> None:
        """Runs in the writer's thread: these responses, all of one folder, are durable."""
        work = self.by_folder[batch[0].folder]
        for s in batch:
            tokens = _tokens(s.response)
            work.tokens += tokens
            held = tokens - s.response.prompt_tokens
            # Of two final responses the first one counts.
            if s.where.final and held <= self.room and not work.index.has_final(s.request_id):
                self.room -= held
                work.kept[s.request_id] = s.response
            work.index.add(s.request_id, s.where)
            if s.where.final:
                work.missing.discard(s.request_id)
                if self.on_stored is not None:
                    self.on_stored(s.request_id)
        self.tell(work.unit.identity.task, work.unit.identity.view)
