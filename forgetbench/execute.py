"""Plan in, run on disk out: ask what is not stored yet, score what is complete.

Kill it at any point and run it again: an answer that was acknowledged is never asked again, lost or doubled.
An answer that failed (infra_error) is stored as evidence and asked again: once more in the same call, and by
every later call of the same command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forgetbench
from forgetbench.engines.base import Capabilities, Engine
from forgetbench.errors import EngineError, ForgetbenchError, Interrupted, UsageError
from forgetbench.runs.codec import is_final
from forgetbench.runs.files import atomic_write, remove_stale
from forgetbench.runs.lock import locked
from forgetbench.runs.manifest import NAME, Manifest, now, read_manifest, update_manifest
from forgetbench.runs.rescore import current_scorer_version, rescore
from forgetbench.runs.segments import SegmentWriter
from forgetbench.runs.store import Run
from forgetbench.runs.types import TaskEntry
from forgetbench.runs.units import CheckpointLike, build_units
from forgetbench.runs.work import Progress, Reporter, Work
from forgetbench.types import Generate, Plan, Request, Response

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob

__all__ = ["TRIES", "Progress", "execute", "rescore"]

TRIES = 2
"""How often one call asks a request that fails."""


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """Let a scheduler's SIGTERM end the work as Ctrl-C does. Only the main thread can install handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if old is None else old)


def _check_capabilities(have: Capabilities, requests: Sequence[Request]) -> None:
    """Refuse a plan that the engine cannot serve before anything runs."""
    lacking = set()
    for r in requests:
        generates = isinstance(r.body, Generate)
        if generates and not have.generate:
            lacking.add("generate text")
        if not generates and not have.score:
            lacking.add("score continuations")
        if r.prompt.messages is not None and not have.accepts_messages:
            lacking.add("take messages")
    if lacking:
        problem = f"cannot {' or '.join(sorted(lacking))}, which the suite asks for"
        raise UsageError("engine", problem, "choose another engine for this model")


def _check_answer(request: Request, response: Response) -> None:
    """An engine that answers with another number of samples than asked would shift results silently."""
    if response.error is not None or not (response.generations or response.scores):
        return
    body = request.body
    if isinstance(body, Generate):
        got, expected = len(response.generations), len(body.seeds)
    else:
        got, expected = len(response.scores), len(body.continuations)
    if got != expected:
        raise EngineError(f"the engine gave {got} answers to request {request.request_id}, {expected} were asked")


def _ask(
    engine: Engine,
    requests: Sequence[Request],
    works: Sequence[Work],
    writer: SegmentWriter,
    finish_complete: Callable[[], None],
) -> None:
    """Ask each request once, store its answer in every unit that wants it, score complete units."""
    unanswered = {r.request_id: r for r in requests}
    left = {w.unit.digest: set(w.missing) for w in works}
    for response in engine.run(requests):
        request = unanswered.pop(response.request_id, None)
        if request is None:
            raise EngineError(f"the engine answered {response.request_id!r}, which was not asked or was answered")
        _check_answer(request, response)
        wanting = [w for w in works if response.request_id in left[w.unit.digest]]
        writer.put([w.responses for w in wanting], response)
        if is_final(response):
            for w in wanting:
                left[w.unit.digest].discard(response.request_id)
            if any(not left[w.unit.digest] for w in wanting):
                writer.flush()
                finish_complete()
    writer.flush()
    if unanswered:
        raise EngineError(f"the engine ended with {len(unanswered)} of {len(requests)} requests unanswered")


class _Session:
    """The part of `execute` that holds the locks: ask, store, score."""

    def __init__(self, run_dir: Path, works: Sequence[Work], todo: Sequence[Work], reporter: Reporter) -> None:
        self.run_dir, self.works, self.todo, self.reporter = run_dir, works, todo, reporter

    def record(self, entries: Sequence[TaskEntry]) -> None:
        def change(manifest: Manifest | None) -> Manifest:
            if manifest is None:
                raise UsageError(str(self.run_dir / NAME), "was removed while the run went on", "run it again")
            return manifest.with_entries(entries)

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

    def share(self, writer: SegmentWriter) -> None:
        """Copy answers that another unit of the plan has: the same request under another view."""
        for work in self.todo:
            for other in self.works:
                if other is work or other.wanted.isdisjoint(work.missing):
                    continue
                if other.scored and not other.index.locations:
                    other.scan()
                common = sorted(i for i in work.missing if other.index.has_final(i))
                with other.index.reader() as read:
                    for request_id in common:
                        writer.put([work.responses], read(request_id))
                writer.flush()

    def run(self, plan: Plan, engine_factory: Callable[[], Engine]) -> None:
        self.record([w.entry for w in self.todo])  # as running
        self.reporter.tell_all()
        engine: Engine | None = None
        writer = SegmentWriter(self.reporter.stored)
        try:
            self.share(writer)
            self.finish_complete()
            for _ in range(TRIES):
                missing = set().union(*(w.missing for w in self.todo))
                requests = [r for r in plan.requests if r.request_id in missing]
                if not requests:
                    break
                if engine is None:
                    engine = engine_factory()
                    _check_capabilities(engine.capabilities, requests)
                _ask(engine, requests, self.todo, writer, self.finish_complete)
        finally:
            try:
                writer.close()
            finally:
                if engine is not None:
                    engine.close()
        for work in self.todo:
            if not work.scored:  # some of its requests failed in every try
                self.finish(work)


def _begin(
    old: Manifest | None, checkpoint: CheckpointLike, engine: Mapping[str, str], run_dir: Path, plan: Plan
) -> Manifest:
    """The manifest to add entries to. Raises UsageError when it is another checkpoint's or engine's."""
    if old is not None:
        if old.checkpoint != checkpoint.digest or old.engine != dict(engine):
            problem = "holds the run of another checkpoint or engine"
            raise UsageError(str(run_dir), problem, "give another folder for this run")
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


def _open_manifest(run_dir: Path, checkpoint: CheckpointLike, engine: Mapping[str, str], plan: Plan) -> Manifest:
    try:
        return update_manifest(run_dir, lambda old: _begin(old, checkpoint, engine, run_dir, plan))
    except OSError as e:
        cure = "choose a folder for runs that can be written to"
        raise UsageError(str(run_dir), f"cannot be written ({e.strerror})", cure) from e


def _prepare(work: Work, note: Callable[[str], None]) -> None:
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


def _lock(work: Work, note: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    def waiting(owner: str) -> None:
        note(f"waiting for {owner}, which runs {work.unit.label} in {work.run_dir}")

    return locked(work.run_dir / work.unit.folder / "lock", on_wait=waiting)


def execute(
    plan: Plan,
    jobs: Sequence[TaskJob],
    checkpoint: CheckpointLike,
    engine_factory: Callable[[], Engine],
    run_dir: Path,
    progress: Progress | None = None,
    *,
    engine_identity: Mapping[str, str] | None = None,
    on_stored: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Run:
    """Run what is missing of `plan` into `run_dir` and return the run, showing exactly the plan's tasks.

    `engine_factory` is called only when something has to be asked, provided that `engine_identity` is given
    (it is part of every task's identity); without it the engine is built first. `on_stored` gets the id of
    every final response after it became durable (from another thread); `on_note` gets lines for the user.

    A task folder is locked while it is worked on: a second process waits and then finds the answers there.

    Raises UsageError (folder or manifest unusable, plan not servable), EngineError (the engine died),
    DiskFullError, Interrupted (Ctrl-C or SIGTERM): each time what was stored stays and the same call resumes.
    """
    note = on_note or (lambda line: None)
    built: list[Engine] = []
    if engine_identity is None:
        built.append(engine_factory())
        engine_identity = built[0].identity
    identity = dict(engine_identity)

    def make_engine() -> Engine:
        engine = built.pop() if built else engine_factory()
        if dict(engine.identity) != identity:
            engine.close()
            raise ForgetbenchError(f"the engine calls itself {engine.identity}, announced was {identity}")
        return engine

    works: list[Work] = []
    try:
        with _sigterm_is_ctrl_c(), contextlib.ExitStack() as locks:
            version = current_scorer_version()
            works.extend(Work(u, run_dir, version) for u in build_units(plan, jobs, checkpoint, identity))
            manifest = _open_manifest(run_dir, checkpoint, identity, plan)
            todo = [w for w in works if not w.is_done(manifest)]
            if todo:
                # Sorted, so that two processes which want the same tasks cannot wait for each other.
                for work in sorted(todo, key=lambda w: w.unit.digest):
                    locks.enter_context(_lock(work, note))
                manifest = read_manifest(run_dir)  # another process may have done it meanwhile
                todo = [w for w in todo if not w.is_done(manifest)]
                for work in todo:
                    _prepare(work, note)
            reporter = Reporter(works, progress, on_stored)
            if todo:
                _Session(run_dir, works, todo, reporter).run(plan, make_engine)
            else:
                reporter.tell_all()
    except KeyboardInterrupt:
        total = len(set().union(*(w.wanted for w in works)))
        stored = total - len(set().union(*(w.missing for w in works)))
        line = f"interrupted: {stored} of {total} answers are stored in {run_dir}; the same command resumes"
        raise Interrupted(line) from None
    finally:
        for engine in built:
            engine.close()

    entries = tuple(w.entry for w in works)
    # Also when nothing ran: the entries asked for last are the ones that open_run shows.
    manifest = update_manifest(run_dir, lambda m: (m or manifest).with_entries(entries))
    return Run(run_dir, manifest, entries)
