"""One checkpoint asked bit by bit, what is asked next depending on the answers so far.

The task folders stay locked and one engine stays up from the first question to the last. Every answer is durable when
`ask` returns. Only at the end are records written, one entry of the manifest for each task, about the items that were
asked and no others: looks in between leave nothing behind. The identity of a task does not depend on which of its items
are asked, so that the answers serve the whole set later, and an interrupted command resumes without asking them again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from forgetbench.engines.base import Engine
from forgetbench.errors import ForgetbenchError, Interrupted
from forgetbench.execute import TRIES, identity_of
from forgetbench.runs.asking import ask, check_capabilities
from forgetbench.runs.rescore import current_scorer_version
from forgetbench.runs.segments import SegmentWriter, Stored
from forgetbench.runs.signals import sigterm_is_ctrl_c
from forgetbench.runs.spent import Spent
from forgetbench.runs.store import Run
from forgetbench.runs.target import Note, Ongoing, Target, hold
from forgetbench.runs.work import Work
from forgetbench.types import ItemKey, Record, View

if TYPE_CHECKING:
    from forgetbench.runs.assemble import Asked

Asking = tuple[View, ItemKey]


class Growing:
    """Made by `growing`. Items are named by view and key."""

    def __init__(self, ongoing: Ongoing, version: str, make_engine: Callable[[], Engine]) -> None:
        self._ongoing, self._version, self._make = ongoing, version, make_engine
        self._writer = SegmentWriter(self._stored)
        self._engine: Engine | None = None
        self._records: dict[tuple[int, ItemKey], list[Record]] = {}
        self._found: dict[Asking, list[tuple[int, Asked]]] = {}
        for number, work in enumerate(ongoing.works):
            for asked in work.unit.asked:
                self._found.setdefault((asked.origin.view, asked.item.key), []).append((number, asked))

    @property
    def askable(self) -> Collection[Asking]:
        """What the plan can ask: no chat view of a checkpoint without a template."""
        return self._found.keys()

    def ask(self, items: Sequence[Asking]) -> list[Record]:
        """Ask what is not stored yet, score it, and return the items' records.

        Raises EngineError (the engine died), DiskFullError, UsageError (the engine cannot serve the plan).
        """
        chosen = [found for item in items for found in self._found[item]]
        wanted = {r.request_id for _, asked in chosen for r in asked.requests}
        for _ in range(TRIES):
            missing = wanted & self._ongoing.missing
            requests = [r for r in self._ongoing.target.plan.requests if r.request_id in missing]
            if not requests:
                break
            ask(self._started(), requests, self._ongoing.todo, self._writer, lambda: None)
        made: list[Record] = []
        for number, work in enumerate(self._ongoing.works):
            mine = [asked for index, asked in chosen if index == number]
            if mine and work.scored and not work.index.locations:
                work.scan()  # complete on disk already: its responses were not looked for
            self._records |= {(number, asked.item.key): [] for asked in mine}
            for record in work.records_of(mine):
                self._records[number, record.key].append(record)
                made.append(record)
        return made

    def finish(self) -> Run:
        """Write the records of all that was asked; the run shows these and nothing else."""
        done = [work for number, work in enumerate(self._ongoing.works) if self._write(number, work)]
        self._ongoing.works = done
        return self._ongoing.run()

    def close(self) -> Spent | None:
        """Let go of engine and writer. None: nothing had to be asked."""
        try:
            self._writer.close()
        finally:
            if self._engine is not None:
                self._engine.close()
        if self._engine is None:
            return None
        alias = self._ongoing.target.checkpoint.alias
        spent = Spent((alias,), self._engine.usage, getattr(self._engine, "hits", 0))
        self._ongoing.spent(spent)
        return spent

    def share(self) -> None:
        """Copy answers that another task folder has: the same request under another view."""
        self._ongoing.share(self._writer, self._ongoing.works)

    def _started(self) -> Engine:
        if self._engine is None:
            target = self._ongoing.target
            self._engine = self._make()
            found = identity_of(self._engine, target.checkpoint)
            if found != target.engine_identity:
                raise ForgetbenchError(f"the engine calls itself {found}, announced was {target.engine_identity}")
            check_capabilities(self._engine.capabilities, target.plan.requests)
        return self._engine

    def _stored(self, batch: Sequence[Stored]) -> None:
        self._ongoing.reporter.stored(batch)

    def _write(self, number: int, work: Work) -> bool:
        """Whether anything of the unit was asked; its entry is then about just that."""
        asked = tuple(a for a in work.unit.asked if (number, a.item.key) in self._records)
        if not asked:
            return False
        if work.scored and len(asked) == len(work.unit.asked):
            return True  # as it was before
        part = Work(replace(work.unit, asked=asked), work.run_dir, self._version)
        part.missing &= work.missing
        records = [r for a in asked for r in self._records[number, a.item.key]]
        work.entry = part.write(records)
        self._ongoing.record([work.entry])
        return True


@contextlib.contextmanager
def growing(
    target: Target, make_engine: Callable[[], Engine], note: Note, on_spent: Callable[[Spent], None]
) -> Iterator[Growing]:
    """A checkpoint to be asked bit by bit. `make_engine` is called once something has to be asked.

    target: with the engine's identity announced. Raises Interrupted on Ctrl-C or SIGTERM; what was stored stays.
    """
    assert target.engine_identity is not None
    version = current_scorer_version()
    try:
        with sigterm_is_ctrl_c(), contextlib.ExitStack() as locks:
            ongoing = Ongoing(target, target.engine_identity, version, None)
            hold([ongoing], locks, note)
            ongoing.begin(note)
            grown = Growing(ongoing, version, make_engine)
            try:
                grown.share()
                yield grown
            finally:
                spent = grown.close()
            if spent is not None:
                on_spent(spent)
    except KeyboardInterrupt:
        where = target.run_dir
        raise Interrupted(f"interrupted: the answers so far are stored in {where}; the same command resumes") from None
