"""Progress of runs: rich bars in a terminal, a line now and then in a log, JSON for a parent process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from forgetbench.cli.output import console, say

if TYPE_CHECKING:
    from forgetbench.execute import Progress

LOG_EVERY = 15.0
"""Seconds between lines in a log that is no terminal."""
VARIABLE = "FORGETBENCH_PROGRESS"
"""Set to `json` by a process that shows this one's progress as its own."""

ProgressOf = Callable[[str], "Progress"]
"""The progress of a checkpoint, by alias."""


class Told(NamedTuple):
    """What a `Progress` is told, and of which checkpoint: one line of JSON between two processes."""

    alias: str
    task: str
    view: str
    done: int
    total: int
    tokens: int

    def line(self) -> str:
        return json.dumps({"progress": self})

    @classmethod
    def read(cls, line: str) -> Told | None:
        """None for a line that is something else."""
        if not line.startswith('{"progress": ['):
            return None
        try:
            raw: Any = json.loads(line)["progress"]
            return cls(str(raw[0]), str(raw[1]), str(raw[2]), *(int(x) for x in raw[3:6]))
        except (ValueError, TypeError, LookupError):
            return None


def is_shown_elsewhere() -> bool:
    """Whether another process shows this one's progress and results."""
    return os.environ.get(VARIABLE) == "json"


class _Lines:
    """For logs: a line at most every LOG_EVERY seconds, and one when everything is done."""

    def __init__(self, alias: str) -> None:
        self.alias, self.begin, self.last = alias, time.monotonic(), time.monotonic()
        self.state: dict[tuple[str, str], tuple[int, int, int]] = {}

    def __call__(self, task: str, view: str, done: int, total: int, tokens: int) -> None:
        self.state[task, view] = (done, total, tokens)
        now = time.monotonic()
        if now - self.last >= LOG_EVERY:
            self.last = now
            say(self.line(now))

    def line(self, now: float) -> str:
        done, total, tokens = (sum(s[i] for s in self.state.values()) for i in range(3))
        seconds = max(now - self.begin, 1e-9)
        return f"{self.alias}: {done:,} of {total:,} requests, {tokens / seconds:,.0f} tokens/s, {seconds:.0f} s"


@contextmanager
def bars() -> Iterator[ProgressOf]:
    """A `Progress` for each checkpoint that is asked for, all shown on stderr."""
    if is_shown_elsewhere():
        yield _json
    elif sys.stderr.isatty():
        with _rich() as progress_of:
            yield progress_of
    else:
        lines: dict[str, _Lines] = {}
        yield lambda alias: lines.setdefault(alias, _Lines(alias))
        for each in lines.values():
            if each.state:
                say(each.line(time.monotonic()))


def _json(alias: str) -> Progress:
    def progress(task: str, view: str, done: int, total: int, tokens: int) -> None:
        say(Told(alias, task, view, done, total, tokens).line())

    return progress


@contextmanager
def _rich() -> Iterator[ProgressOf]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Rich

    with Rich(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
    ) as rich:
        rows: dict[tuple[str, str, str], TaskID] = {}

        def of(alias: str) -> Progress:
            begin = time.monotonic()

            def progress(task: str, view: str, done: int, total: int, tokens: int) -> None:
                row = rows.get((alias, task, view))
                if row is None:
                    row = rich.add_task(f"{alias} {task}/{view}", total=total, rate="")
                    rows[alias, task, view] = row
                rate = tokens / max(time.monotonic() - begin, 1e-9)
                shown = f"{rate:,.0f} tok/s" if tokens else "on disk" if done == total else ""
                rich.update(row, completed=done, total=total, rate=shown)

            return progress

        yield of
