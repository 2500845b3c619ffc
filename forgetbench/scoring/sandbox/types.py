"""What is asked of a sandbox, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RunOutcome = Literal["pass", "fail", "timeout", "oom", "crash", "protocol", "infra_error"]
"""`fail`: a test failed or the program raised. `crash`: its process ended by itself or by a signal.
`protocol`: it answered the judge with nonsense. `infra_error`: the sandbox failed; never counts as fail."""

Integrity = Literal["separate", "weak"]
"""Whether the tests ran in another process than the program, or in the same one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one program with its tests."""

    wall_seconds: float = 10.0
    """Also the limit on CPU seconds of each process. lm-eval's is 3 s of wall time, which a busy machine
    reaches with programs that are right."""
    memory: int = 2 << 30
    """Bytes: address space of each process, and resident size of all together."""
    processes: int = 16
    """Processes and threads. Not limited without a sandbox."""
    disk: int = 16 << 20
    """Bytes of the temporary folder, which is memory."""
    files: int = 1000


@dataclass(frozen=True, slots=True)
class Program:
    """A program and its tests."""

    source: str
    tests: str
    own: tuple[str, ...] = ()
    """Names that the tests are about: taken from the program even where they are built-ins (`sum`)."""
    shared: bool = False
    """Tests that need the program's own classes: they run in its process, `integrity: weak`."""
    wall_seconds: float | None = None
    """None: that of the limits."""


@dataclass(frozen=True, slots=True)
class Result:
    outcome: RunOutcome
    why: str
    seconds: float = 0.0
    """Wall time of program and tests."""
    integrity: Integrity = "separate"
