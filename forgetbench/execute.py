"""Plans in, runs on disk out: ask what is not stored yet, score what is complete.

Kill it at any point and run it again: an answer that was acknowledged is never asked again, lost or doubled.
An answer that failed (infra_error) is stored as evidence and asked again: once more in the same call, and by
every later call of the same command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.engines.base import Engine
from forgetbench.errors import ForgetbenchError, Interrupted
from forgetbench.runs.asking import ask, check_capabilities, merge
from forgetbench.runs.rescore import current_scorer_version, rescore
from forgetbench.runs.segments import SegmentWriter, Stored
from forgetbench.runs.signals import sigterm_is_ctrl_c
from forgetbench.runs.spent import Spent
from forgetbench.runs.store import Run
from forgetbench.runs.target import Ongoing, Target, hold, is_complete
from forgetbench.runs.units import CheckpointLike
from forgetbench.runs.work import Progress
from forgetbench.types import Plan

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob

__all__ = ["TRIES", "Progress", "Spent", "Target", "complete", "execute", "execute_together", "identity_of", "rescore"]

TRIES = 2
"""How often one call asks a request that fails."""


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
    on_spent: Callable[[Spent], None] | None = None,
) -> Run:
    """`execute_together` for one checkpoint."""
    target = Target(plan, jobs, checkpoint, run_dir, engine_identity, progress)
    (run,) = execute_together([target], engine_factory, on_stored=on_stored, on_note=on_note, on_spent=on_spent)
    return run


def execute_together(
    targets: Sequence[Target],
    engine_factory: Callable[[], Engine],
    *,
    on_stored: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_spent: Callable[[Spent], None] | None = None,
) -> list[Run]:
    """Run what is missing of each target's plan into its folder, through one engine that serves them all.

    What is missing of all targets goes into one call of the engine, the same prompt for different checkpoints
    side by side (`merge`). Returns the runs in the order of the targets, each showing exactly its plan's tasks.

    `engine_factory` is called only when something has to be asked, provided that each target announces its
    `engine_identity`; without it the engine is built first. `on_stored` gets the id of every final response
    after it became durable in one folder (from another thread); `on_note` gets lines for the user; `on_spent`
    the engine's account, also kept in the manifests, once all that was asked is stored.

    A task folder is locked while it is worked on: a second process waits and then finds the answers there.

    Raises UsageError (folder or manifest unusable, plan not servable), EngineError (the engine died),
    DiskFullError, Interrupted (Ctrl-C or SIGTERM): each time what was stored stays and the same call resumes.
    """
    folders = [t.run_dir.resolve() for t in targets]
    if len(set(folders)) < len(folders):
        raise ForgetbenchError(f"two checkpoints asked together share a folder for their runs: {folders}")
    note = on_note or (lambda line: None)
    ongoing: list[Ongoing] = []
    with _Builder(targets, engine_factory) as builder:
        identities = [builder.announced(t) for t in targets]
        try:
            with sigterm_is_ctrl_c(), contextlib.ExitStack() as locks:
                version = current_scorer_version()
                for target, identity in zip(targets, identities, strict=True):
                    ongoing.append(Ongoing(target, identity, version, on_stored))
                hold(ongoing, locks, note)
                for o in ongoing:
                    o.begin(note)
                if any(o.todo for o in ongoing):
                    spent = _fill(ongoing, builder.build)
                    if spent is not None and on_spent is not None:
                        on_spent(spent)
        except KeyboardInterrupt:
            raise _interrupted(ongoing) from None
    return [o.run() for o in ongoing]


def complete(target: Target) -> bool:
    """Whether `execute_together` would ask and score nothing of the target. Writes nothing."""
    return is_complete(target, current_scorer_version())


class _Builder:
    """Makes the engine once, and sees that it is the announced one for every checkpoint."""

    def __init__(self, targets: Sequence[Target], factory: Callable[[], Engine]) -> None:
        self.targets, self.factory = targets, factory
        self.early: Engine | None = None

    def __enter__(self) -> _Builder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.early is not None:
            self.early.close()

    def announced(self, target: Target) -> dict[str, str]:
        if target.engine_identity is not None:
            return dict(target.engine_identity)
        if self.early is None:
            self.early = self.factory()
        return identity_of(self.early, target.checkpoint)

    def build(self) -> Engine:
        engine, self.early = self.early or self.factory(), None
        for target in self.targets:
            found = identity_of(engine, target.checkpoint)
            if target.engine_identity is not None and found != dict(target.engine_identity):
                engine.close()
                raise ForgetbenchError(f"the engine calls itself {found}, announced was {target.engine_identity}")
        return engine


def identity_of(engine: Engine, checkpoint: CheckpointLike) -> dict[str, str]:
    """An engine of several checkpoints tells each one's apart (a base from its adapters)."""
    own = getattr(engine, "identity_of", None)
    return dict(engine.identity if own is None else own(checkpoint))


def _fill(ongoing: Sequence[Ongoing], make_engine: Callable[[], Engine]) -> Spent | None:
    """Under the locks: share, ask, store, score. None: nothing had to be asked."""

    def stored(batch: Sequence[Stored]) -> None:
        reporters[batch[0].folder].stored(batch)

    def finish_complete() -> None:
        for o in ongoing:
            o.finish_complete()

    works, todo = [w for o in ongoing for w in o.works], [w for o in ongoing for w in o.todo]
    reporters = {w.responses: o.reporter for o in ongoing for w in o.works}
    asked: list[Ongoing] = []
    spent: Spent | None = None
    engine: Engine | None = None
    writer = SegmentWriter(stored)
    try:
        for o in ongoing:
            o.share(writer, works)
        finish_complete()
        order = merge(o.target.plan.requests for o in ongoing)
        for _ in range(TRIES):
            missing = set().union(*(w.missing for w in todo))
            requests = [r for r in order if r.request_id in missing]
            if not requests:
                break
            if engine is None:
                asked = [o for o in ongoing if o.missing]
                engine = make_engine()
                check_capabilities(engine.capabilities, requests)
            ask(engine, requests, todo, writer, finish_complete)
        if engine is not None:
            aliases = tuple(o.target.checkpoint.alias for o in asked)
            spent = Spent(aliases, engine.usage, getattr(engine, "hits", 0))
    finally:
        try:
            writer.close()
        finally:
            if engine is not None:
                engine.close()
    for o in ongoing:
        o.finish_all()
    for o in asked:
        if spent is not None:
            o.spent(spent)
    return spent


def _interrupted(ongoing: Sequence[Ongoing]) -> Interrupted:
    counts = [o.counts for o in ongoing]
    stored, total = sum(c[0] for c in counts), sum(c[1] for c in counts)
    where = ", ".join(str(o.run_dir) for o in ongoing)
    return Interrupted(f"interrupted: {stored} of {total} answers are stored in {where}; the same command resumes")
