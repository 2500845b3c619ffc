"""What `data check` found: typed, and in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from forgetbench.errors import Exit
from forgetbench.report.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

State = Literal["pass", "warn", "fail"]
_WORST: tuple[State, ...] = ("pass", "warn", "fail")
_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}
MOST_EVIDENCE = 5
"""Lines shown with a finding; `count` says how many there are."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line of training data that a finding stands on."""

    where: str
    """`file:line`."""
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it came to."""

    check: str
    state: State
    message: str
    """One sentence with the figures."""
    count: int = 0
    """Examples that the finding is about."""
    total: int = 0
    """Examples that were looked at."""
    evidence: tuple[Evidence, ...] = ()
    cure: str = ""
    """What to do; empty where it passed."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Tables behind the sentence, ready for JSON."""


@dataclass(frozen=True, slots=True)
class DataCheck:
    """All findings about some files."""

    files: tuple[str, ...]
    examples: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What was not looked at, and why."""

    @property
    def state(self) -> State:
        """That of the worst finding."""
        return max((f.state for f in self.findings), key=_WORST.index, default="pass")

    @property
    def exit_code(self) -> Exit:
        """0 for pass and warn, 10 for fail."""
        return Exit.REGRESSION if self.state == "fail" else Exit.PASS


def passed(check: str, message: str, total: int, figures: Mapping[str, Any] | None = None) -> Finding:
    return Finding(check, "pass", message, 0, total, figures=figures or {})


def print_check(console: Console, found: DataCheck) -> None:
    """A line for each finding, under it its evidence and its cure. Text of the data goes through `one_line`."""
    from rich.text import Text

    def show(text: Text) -> None:
        console.print(text, soft_wrap=True)  # a finding is one line, also in a pipe

    def line(text: str, style: str = "", limit: int = 400) -> None:
        show(Text(one_line(text, limit), style=style))

    line(f"{', '.join(found.files)}: {found.examples:,} examples", "bold", 2_000)
    for f in found.findings:
        head = Text(f"{f.state:<5}", style=_STYLES[f.state])
        show(head.append(one_line(f"{f.check}: {f.message}", 1_000), style="default"))
        for evidence in f.evidence:
            show(Text("        " + one_line(f"{evidence.where}  {evidence.text}", 140), style="dim"))
        if f.cure:
            show(Text("      " + one_line(f"cure: {f.cure}", 400)))
    for note in found.notes:
        line(note, "dim")
    counts = {state: sum(f.state == state for f in found.findings) for state in _WORST}
    line(", ".join(f"{n} {state}" for state, n in counts.items()), _STYLES[found.state])


def shown(lines: Sequence[tuple[str, str]]) -> tuple[Evidence, ...]:
    """The first MOST_EVIDENCE of (where, text)."""
    return tuple(Evidence(where, one_line(text, 200)) for where, text in lines[:MOST_EVIDENCE])
