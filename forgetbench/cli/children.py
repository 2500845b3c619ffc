"""Checkpoints run side by side: one child process for each, with one device each.

A child is `forgetbench run` of its own. Its progress and its lines are shown as this process's; when it fails,
so does this process, with the child's own line and exit code, the others ended first. What was stored stays.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from forgetbench import devices
from forgetbench.cli import progress
from forgetbench.cli.output import say
from forgetbench.errors import Exit, ForgetbenchError, Interrupted
from forgetbench.runs.signals import sigterm_is_ctrl_c

if TYPE_CHECKING:
    from forgetbench.execute import Progress

GRACE = 30.0
"""Seconds that a child gets to store what it has before it is killed."""
_ERROR = "forgetbench: "
_TICK = 0.1


class ChildError(ForgetbenchError):
    """A child failed: its own words, its own exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = Exit(code) if code in list(Exit) else Exit.INTERNAL


def run_children(
    groups: Sequence[Sequence[str]], on: Sequence[str], command: Callable[[Sequence[str]], Sequence[str]]
) -> None:
    """Run each group of aliases in a process of its own; a device that falls free takes the next group.

    `command` gives the arguments of `forgetbench` for a group. Raises ChildError, or Interrupted on Ctrl-C or
    SIGTERM; no child is left running either way.
    """
    waiting, free = deque(groups), deque(on)
    alive: list[_Child] = []
    with sigterm_is_ctrl_c(), progress.bars() as progress_of, selectors.DefaultSelector() as selector:
        try:
            while waiting or alive:
                while waiting and free:
                    aliases = waiting.popleft()
                    alive.append(_Child(aliases, free.popleft(), command(aliases), progress_of, selector))
                _listen(selector, _TICK)
                for child in [c for c in alive if c.has_ended()]:
                    alive.remove(child)
                    free.append(child.device)
                    child.check()
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; everything finished so far is kept: the same command goes on from there"
            ) from None
        finally:
            _end(alive, selector)


def _listen(selector: selectors.BaseSelector, seconds: float) -> None:
    for key, _ in selector.select(seconds):
        key.data.read()


def _end(alive: Sequence[_Child], selector: selectors.BaseSelector) -> None:
    """Have the children store what they have and leave; kill what does not."""
    for child in alive:
        child.process.terminate()
    left, deadline = list(alive), time.monotonic() + GRACE
    try:
        while left and time.monotonic() < deadline:
            _listen(selector, _TICK)  # a child that cannot write would never leave
            for child in [c for c in left if c.has_ended()]:
                left.remove(child)
                child.tell_errors()
    finally:  # also when a second Ctrl-C ends the patience
        for child in left:
            child.kill()


class _Child:
    """One process and what it says."""

    def __init__(
        self,
        aliases: Sequence[str],
        device: str,
        arguments: Sequence[str],
        progress_of: progress.ProgressOf,
        selector: selectors.BaseSelector,
    ) -> None:
        self.aliases, self.device, self.progress_of, self.selector = aliases, device, progress_of, selector
        self.label = ", ".join(aliases)
        self.errors: list[str] = []
        self.rest = b""
        self.shown: dict[str, Progress] = {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forgetbench", *arguments],
            env={**os.environ, devices.VARIABLE: device, progress.VARIABLE: "json"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Of its own group, so that Ctrl-C in a terminal reaches it once, through this process.
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.fd = self.process.stdout.fileno()
        os.set_blocking(self.fd, False)
        selector.register(self.fd, selectors.EVENT_READ, self)

    def read(self) -> None:
        """Take what it has said; never waits."""
        with contextlib.suppress(BlockingIOError):
            while got := os.read(self.fd, 1 << 16):
                *lines, self.rest = (self.rest + got).split(b"\n")
                for line in lines:
                    self._take(line)
            self.selector.unregister(self.fd)  # it has closed its end

    def _take(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace").rstrip()
        told = progress.Told.read(line)
        if told is not None:
            if told.alias not in self.shown:
                self.shown[told.alias] = self.progress_of(told.alias)
            self.shown[told.alias](*told[1:])
        elif line.startswith(_ERROR):
            self.errors.append(line.removeprefix(_ERROR))
        elif line:
            named = line.startswith((f"{self.label}:", *(f"{alias}:" for alias in self.aliases)))
            say(line if named else f"{self.label}: {line}")

    def has_ended(self) -> bool:
        if self.process.poll() is None:
            return False
        if self.fd >= 0:
            if self.fd in self.selector.get_map():
                self.read()
            with contextlib.suppress(KeyError):
                self.selector.unregister(self.fd)
            if self.rest:
                self._take(self.rest)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.fd = -1
        return True

    def check(self) -> None:
        """Raises ChildError when it failed."""
        code = self.process.returncode
        if code == 0:
            self.tell_errors()
            return
        ended = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
        without = f"{self.label}: the process on device {self.device} ended {ended} and gave no reason"
        raise ChildError("\n".join(self.errors) or without, code)

    def tell_errors(self) -> None:
        for line in self.errors:
            say(f"{self.label}: {line}")

    def kill(self) -> None:
        """With all that it started: an engine may have processes of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
