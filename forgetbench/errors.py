"""Errors a user can act on, and the exit codes they end in.

Every error is one line that names the place (file, line or key), the value found there and the cure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line (DESIGN.md, Contracts)."""

    PASS = 0
    INTERNAL = 1
    USAGE = 2
    REGRESSION = 10
    INCONCLUSIVE = 11
    INCOMPARABLE = 12
    INTERRUPTED = 130


class ForgetbenchError(Exception):
    """Base of all errors that are shown as one line instead of a traceback."""

    exit_code: Exit = Exit.INTERNAL


class UsageError(ForgetbenchError):
    """Something the user wrote (a flag, a config, a data file) cannot be used."""

    exit_code = Exit.USAGE

    def __init__(self, where: str, problem: str, cure: str) -> None:
        self.where, self.problem, self.cure = where, problem, cure
        super().__init__(f"{where}: {problem}; {cure}" if cure else f"{where}: {problem}")


class ManyUsageErrors(ForgetbenchError):
    """Several usage errors found in one pass, reported all at once."""

    exit_code = Exit.USAGE

    def __init__(self, errors: list[UsageError]) -> None:
        self.errors = errors
        super().__init__("\n".join(str(e) for e in errors))


def combined(errors: Sequence[UsageError]) -> UsageError | ManyUsageErrors:
    """What to raise for the mistakes found in one pass (at least one): itself where there is a single one."""
    return errors[0] if len(errors) == 1 else ManyUsageErrors(list(errors))


class IncomparableError(ForgetbenchError):
    """Two runs cannot be paired; `differences` names each reason on its own line."""

    exit_code = Exit.INCOMPARABLE

    def __init__(self, differences: list[str]) -> None:
        self.differences = differences
        super().__init__("the runs cannot be compared: " + "; ".join(differences))


class EngineError(ForgetbenchError):
    """The engine died or cannot serve a request kind; finished work stays on disk."""


class Interrupted(ForgetbenchError):
    """Ctrl-C or SIGTERM; finished work is on disk and the same command resumes."""

    exit_code = Exit.INTERRUPTED


class ModelLoadError(EngineError):
    """A checkpoint or device that cannot be used as configured: the user's to mend."""

    exit_code = Exit.USAGE
