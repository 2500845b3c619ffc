"""One checkpoint's plan and the run that it fills: before the locks, under them, and when it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forgetbench
from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write, remove_stale
from forgetbench.runs.lock import locked
from forgetbench.runs.manifest import NAME, Manifest, now, read_manifest, update_manifest
from forgetbench.runs.segments import SegmentWriter
from forgetbench.runs.spent import Spent
from forgetbench.runs.store import Run
from forgetbench.runs.types import TaskEntry
from forgetbench.runs.units import CheckpointLike, build_units
from forgetbench.runs.work import Progress, Reporter, Work
from forgetbench.types import Plan

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob

Note = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """What to ask one checkpoint, and where the answers go."""

    plan: Plan
    jobs: Sequence[TaskJob]
    checkpoint: CheckpointLike
    run_dir: Path
    engine_identity: Mapping[str, str] | None = None
    """Announced: part of every task's identity. None: the engine is built first and asked for it."""
    progress: Progress | None = None
    settled: bool = False
    """Whether requests that failed count as answered, and so are not asked again."""


class Ongoing:
    """A target while it is worked on. `todo` is what has to be locked, asked or scored."""

    def __init__(
        self, target: Target, identity: Mapping[str, str], version: str, on_stored: Callable[[str], None] | None
    ) -> None:
        self.target, self.run_dir = target, target.run_dir
        units = build_units(target.plan, target.jobs, target.checkpoint, identity)
        self.works = [Work(u, target.run_dir, version) for u in units]
        self.manifest = _open_manifest(target, identity)
        self.todo = [w for w in self.works if not w.is_done(self.manifest, settled=target.settled)]
        self.reporter = Reporter(self.works, target.progress, on_stored)

    @property
    def missing(self) -> set[str]:
        return set().union(*(w.missing for w in self.todo))

    @property
    def counts(self) -> tuple[int, int]:
        """(answers stored, answers wanted)."""
        wanted = set().union(*(w.wanted for w in self.works))
        return len(wanted) - len(set().union(*(w.missing for w in self.works))), len(wanted)

    def begin(self, note: Note) -> None:
        """Under the locks: see what another process has done meanwhile, and what is on disk."""
        if self.todo:
            self.manifest = read_manifest(self.run_dir)
            self.todo = [w for w in self.todo if not w.is_done(self.manifest, settled=self.target.settled)]
            for work in self.todo:
                _prepare(work, note)
            self.record([w.entry for w in self.todo])  # as running
        self.reporter.tell_all()

    def record(self, entries: Sequence[TaskEntry], info: Mapping[str, Any] | None = None) -> None:
        def change(manifest: Manifest | None) -> Manifest:
            if manifest is None:
                raise UsageError(str(self.run_dir / NAME), "was removed while the run went on", "run it again")
            new = manifest.with_entries(entries)
            return new if info is None else dataclasses.replace(new, info={**new.info, **info})

        update_manifest(self.run_dir, change)

    def finish(self, work: Work) -> None:
        work.entry = work.score()
        self.record([work.entry])
        work.scored = True
        self.reporter.tell(work.unit.identity.task, work.unit.identity.view)

    def finish_complete(self) -> None:
        """Score every unit whose responses are all durable."""
        for work in self.todo:
            if not work.scored and not work.missing:
                self.finish(work)

    def finish_all(self) -> None:
        """Score also what some requests failed for in every try."""
        for work in self.todo:
            if not work.scored:
                self.finish(work)

    def share(self, writer: SegmentWriter, others: Sequence[Work]) -> None:
        """Copy answers that another unit has: the same request under another view or name."""
        for work in self.todo:
            for other in others:
                if other is work or other.wanted.isdisjoint(work.missing):
                    continue
                if other.unit.identity.engine != work.unit.identity.engine:
                    continue
                if other.scored and not other.index.locations:
                    other.scan()
                common = sorted(i for i in work.missing if other.index.has_final(i))
                with other.index.reader() as read:
                    for request_id in common:
                        writer.put([work.responses], read(request_id))
                writer.flush()

    def spent(self, spent: Spent) -> None:
        self.record([], {"usage": spent.as_info()})

    def run(self) -> Run:
        """The run, showing exactly the plan's tasks."""
        entries = tuple(w.entry for w in self.works)
        # Also when nothing ran: the entries asked for last are the ones that open_run shows.
        manifest = update_manifest(self.run_dir, lambda m: (m or self.manifest).with_entries(entries))
        return Run(self.run_dir, manifest, entries)


def is_complete(target: Target, version: str) -> bool:
    """Whether executing the target would ask and score nothing. Writes nothing."""
    if target.engine_identity is None or not (target.run_dir / NAME).exists():
        return False
    manifest = read_manifest(target.run_dir)
    units = build_units(target.plan, target.jobs, target.checkpoint, target.engine_identity)
    return all(Work(u, target.run_dir, version).is_done(manifest, settled=target.settled) for u in units)


def hold(ongoing: Sequence[Ongoing], locks: contextlib.ExitStack, note: Note) -> None:
    """Lock whatever has to be worked on, waiting for other processes."""
    # In one order over all runs, so that two processes which want the same tasks cannot wait for each other.
    todo = [w for o in ongoing for w in o.todo]
    for work in sorted(todo, key=lambda w: str((w.run_dir / w.unit.folder).resolve())):
        locks.enter_context(_lock(work, note))


def _lock(work: Work, note: Note) -> contextlib.AbstractContextManager[None]:
    def waiting(owner: str) -> None:
        note(f"waiting for {owner}, which runs {work.unit.label} in {work.run_dir}")

    return locked(work.run_dir / work.unit.folder / "lock", on_wait=waiting)


def _prepare(work: Work, note: Note) -> None:
    """Under the lock: see what is there, say what is damaged, leave the identity beside it."""
    work.scan()
    for damage in work.index.damage:
        if damage.kind == "corrupt":
            note(str(damage))
    folder = work.run_dir / work.unit.folder
    remove_stale(folder / "records")
    if not (folder / "identity.json").exists():
        text = json.dumps(dataclasses.asdict(work.unit.identity), indent=1, ensure_ascii=False)
        atomic_write(folder / "identity.json", (text + "\n").encode("utf-8", "surrogatepass"))


def _begin(old: Manifest | None, target: Target, engine: Mapping[str, str]) -> Manifest:
    """The manifest to add entries to. Raises UsageError when it is another checkpoint's or engine's."""
    checkpoint, plan = target.checkpoint, target.plan
    if old is not None:
        if old.checkpoint != checkpoint.digest or old.engine != dict(engine):
            problem = "holds the run of another checkpoint or engine"
            raise UsageError(str(target.run_dir), problem, "give another folder for this run")
        return dataclasses.replace(old, notes=plan.skipped)
    spec: Any = getattr(checkpoint, "spec", None)
    described = dataclasses.asdict(spec) if hasattr(spec, "__dataclass_fields__") else None
    info = {
        "forgetbench": forgetbench.__version__,
        "spec": json.loads(json.dumps(described, default=str)),
        "stop_ids": list(checkpoint.stop_ids),
    }
    return Manifest(
        alias=checkpoint.alias,
        checkpoint=checkpoint.digest,
        parts=dict(checkpoint.parts),
        engine=dict(engine),
        created=now(),
        updated=now(),
        info=info,
        notes=plan.skipped,
    )


def _open_manifest(target: Target, engine: Mapping[str, str]) -> Manifest:
    try:
        return update_manifest(target.run_dir, lambda old: _begin(old, target, engine))
    except OSError as e:
        cure = "choose a folder for runs that can be written to"
        raise UsageError(str(target.run_dir), f"cannot be written ({e.strerror})", cure) from e
