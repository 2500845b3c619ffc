"""The files and lines for CI that `compare` and `gate` write: --verdict-json, --junit, --comment, --gitlab, --github.

They are written however the command ends: with a verdict, or with the error that kept it from one. What an earlier
command left there is taken away first, so that a killed one leaves no old pass behind.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from forgetbench.cli.output import say
from forgetbench.errors import Exit, ForgetbenchError, UsageError

if TYPE_CHECKING:
    from forgetbench.gate.types import Verdict
    from forgetbench.report.ci.outcome import Outcome

SUFFIXES = {"--verdict-json": ".json", "--junit": ".xml", "--comment": ".md", "--gitlab": ".json"}
"""A file of another kind is refused: `--junit policy.yaml` would cost a policy."""


class Where(NamedTuple):
    """As the flags say it."""

    verdict_json: Path | None = None
    junit: Path | None = None
    comment: Path | None = None
    gitlab: Path | None = None
    github: bool | None = None
    """None: where GITHUB_ACTIONS is true."""
    pinned_to: str = "forgetbench.yaml"
    """The file that GitLab shows findings at: the policy, or the config."""

    @property
    def files(self) -> dict[str, Path]:
        named = {
            "--verdict-json": self.verdict_json,
            "--junit": self.junit,
            "--comment": self.comment,
            "--gitlab": self.gitlab,
        }
        return {flag: path for flag, path in named.items() if path is not None}


def pinned(config: Path | None, policy: str | None) -> str:
    """The policy file where one is named, else the config: relative to the repository that CI checked out."""
    file = Path(policy) if policy is not None and policy.endswith((".yaml", ".yml")) else config
    project = os.environ.get("CI_PROJECT_DIR") or os.environ.get("GITHUB_WORKSPACE") or os.getcwd()
    relative = os.path.relpath(file or "forgetbench.yaml", project)
    return (file or Path("forgetbench.yaml")).name if relative.startswith("..") else relative


class Outputs:
    """Used around the whole of a command: `with Outputs(...) as outputs: ...; outputs.verdicts(...)`."""

    def __init__(self, where: Where, *, as_json: bool) -> None:
        self.where = where
        self.github = os.environ.get("GITHUB_ACTIONS") == "true" if where.github is None else where.github
        self.stream = sys.stderr if as_json else sys.stdout
        self.token = secrets.token_hex(16)
        self.outcome: Outcome | None = None

    def __enter__(self) -> Outputs:
        self._check()
        for flag, path in self.where.files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
            except (OSError, ValueError) as e:
                raise _unwritable(flag, path, e) from None
        if self.github:
            from forgetbench.report.ci.github import stop

            self._command([stop(self.token)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # SystemExit: the command itself left with its verdict's code. Anything else came in between, be it after a
        # verdict was written, and is what the exit code tells.
        if error is not None and not isinstance(error, SystemExit):
            from forgetbench.report.ci.outcome import failed

            self.outcome = failed(*_told(error))
            try:
                self._files(self.outcome)
            except ForgetbenchError as e:  # the error that ends the command is the other one
                say(f"forgetbench: {e}")
        if self.github:
            self._github(self.outcome)

    def verdicts(self, found: Sequence[Verdict]) -> None:
        """Write the files; the last thing before the command leaves with the last verdict's exit code. Raises
        UsageError: a pass that cannot be written is none."""
        from forgetbench.report.ci.outcome import decided

        self.outcome = decided(found)
        self._files(self.outcome)

    def _check(self) -> None:
        files = self.where.files
        for flag, path in files.items():
            if path.suffix != SUFFIXES[flag]:
                cure = f"choose a name that ends in {SUFFIXES[flag]}"
                raise UsageError(flag, f"'{path}' is no {SUFFIXES[flag]} file", cure)
        if len({os.path.abspath(p) for p in files.values()}) < len(files):
            raise UsageError(" and ".join(files), "name the same file twice", "give each a file of its own")

    def _files(self, outcome: Outcome) -> None:
        """All that can be written are, before the first that cannot is told."""
        from forgetbench.report.ci.document import verdict_json
        from forgetbench.report.ci.gitlab import code_quality
        from forgetbench.report.ci.junit import junit
        from forgetbench.report.ci.markdown import comment
        from forgetbench.runs.files import atomic_write

        made: dict[str, Callable[[Outcome], str]] = {
            "--verdict-json": verdict_json,
            "--junit": junit,
            "--comment": comment,
            "--gitlab": lambda o: code_quality(o, self.where.pinned_to),
        }
        problems: list[UsageError] = []
        for flag, path in self.where.files.items():
            try:
                atomic_write(path, made[flag](outcome).encode("utf-8"))
            except OSError as e:
                problems.append(_unwritable(flag, path, e))
        if problems:
            raise problems[0]

    def _github(self, outcome: Outcome | None) -> None:
        """None: there was nothing to judge (--plan)."""
        from forgetbench.report.ci.github import annotate, resume

        self._command([resume(self.token), *(annotate(outcome) if outcome is not None else ())])
        if outcome is not None:
            self._summary(outcome)

    def _command(self, lines: Sequence[str]) -> None:
        # A command has to begin its line, whatever was printed before.
        print("", *lines, sep="\n", file=self.stream, flush=True)

    def _summary(self, outcome: Outcome) -> None:
        """The summary is shown beside the verdict and is not the verdict: without it the exit code stands."""
        from forgetbench.report.ci.markdown import summary

        file = os.environ.get("GITHUB_STEP_SUMMARY")
        if file:
            try:
                with open(file, "a", encoding="utf-8") as f:
                    f.write(summary(outcome))
            except OSError as e:
                say(f"forgetbench: GITHUB_STEP_SUMMARY: {file} cannot be written ({e.strerror})")


def _unwritable(flag: str, path: Path, error: OSError | ValueError) -> UsageError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return UsageError(flag, f"{str(path)!r} cannot be written ({reason})", "choose another path")


def _told(error: BaseException) -> tuple[int, list[str]]:
    """Exit code and lines, as `cli.main` will tell them."""
    if isinstance(error, ForgetbenchError):
        return int(error.exit_code), str(error).splitlines()
    if isinstance(error, KeyboardInterrupt):
        return int(Exit.INTERRUPTED), ["interrupted"]
    return int(Exit.INTERNAL), [" ".join(f"internal error: {type(error).__name__}: {error}".split())]
