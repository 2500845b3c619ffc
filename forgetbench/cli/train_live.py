"""What a fine-tune tells while it runs: one line in its place in a terminal, a line now and then in a log."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from forgetbench.cli.output import console, say
from forgetbench.cli.progress import LOG_EVERY

Tell = Callable[[str], None]
_STEP = re.compile(r"step \d+: loss ")


def is_step(line: str) -> bool:
    """Whether a line is that of one optimizer step, which the next one replaces; others stay."""
    return _STEP.match(line) is not None


@contextmanager
def telling() -> Iterator[Tell]:
    """Takes the trainer's lines and shows them on stderr."""
    if sys.stderr.isatty():
        with _live() as tell:
            yield tell
    else:
        lines = Lines(say)
        try:
            yield lines
        finally:
            lines.close()


class Lines:
    """For logs: the first step, one every LOG_EVERY seconds, the last one; all that is not a step."""

    def __init__(self, write: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self.shown_at: float | None = None
        self.held: str | None = None

    def __call__(self, line: str) -> None:
        if not is_step(line):
            self.close()
            self.write(line)
            return
        now = self.clock()
        if self.shown_at is None or now - self.shown_at >= LOG_EVERY:
            self.shown_at, self.held = now, None
            self.write(line)
        else:
            self.held = line

    def close(self) -> None:
        """Write the step that was held back."""
        if self.held is not None:
            self.write(self.held)
            self.held = None


@contextmanager
def _live() -> Iterator[Tell]:
    from rich.live import Live
    from rich.text import Text

    shown = console(stderr=True)
    with Live(Text(""), console=shown, refresh_per_second=4, transient=False) as live:

        def tell(line: str) -> None:
            if is_step(line):
                live.update(Text(line, overflow="fold"))
            else:
                shown.print(Text(line), soft_wrap=True)

        yield tell
