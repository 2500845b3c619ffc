"""Progress of a run: rich bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from forgetbench.cli.output import console, say

if TYPE_CHECKING:
    from forgetbench.execute import Progress

LOG_EVERY = 15.0
"""Seconds between lines in a log that is no terminal."""


class _Lines:
    """For logs: a line at most every LOG_EVERY seconds, and one when everything is done."""

    def __init__(self, alias: str) -> None:
        self.alias, self.begin, self.last = alias, time.monotonic(), time.monotonic()
        self.state: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.started_with: int | None = None

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
def bars(alias: str) -> Iterator[Progress]:
    """A `Progress` for `execute`, shown on stderr."""
    if not sys.stderr.isatty():
        lines = _Lines(alias)
        yield lines
        if lines.state:
            say(lines.line(time.monotonic()))
        return
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
        rows: dict[tuple[str, str], TaskID] = {}
        begin = time.monotonic()

        def progress(task: str, view: str, done: int, total: int, tokens: int) -> None:
            row = rows.get((task, view))
            if row is None:
                row = rows[task, view] = rich.add_task(f"{alias} {task}/{view}", total=total, rate="")
            rate = tokens / max(time.monotonic() - begin, 1e-9)
            shown = f"{rate:,.0f} tok/s" if tokens else "on disk" if done == total else ""
            rich.update(row, completed=done, total=total, rate=shown)

        yield progress
