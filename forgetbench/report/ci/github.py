"""GitHub Actions: annotations, and the guard that keeps other text from being taken for commands.

The runner obeys every line of a step's output that begins with `::command`. Names out of data files are printed too,
so a step's output stands between `stop-commands` and its token, which nobody can guess.
SOURCE: docs.github.com, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from forgetbench.report.ci.outcome import Case, Outcome, Standing, cases, why
from forgetbench.report.text import one_line

MOST = 10
"""Annotations: GitHub shows no more of one step and kind."""
_LONGEST = 1_000
_LEVELS: dict[Standing, str] = {"blocked": "error", "error": "error", "undecided": "warning", "shown": "warning"}
_TITLES: dict[Standing, str] = {
    "blocked": "blocked",
    "error": "no verdict",
    "undecided": "inconclusive",
    "shown": "not decisive",
    "passed": "passes with a notice",
}


def annotate(outcome: Outcome) -> list[str]:
    """Workflow commands, errors first, at most ten. Of what passed only proven drops inside a margin are named."""
    noticed = {why(r) for v in outcome.verdicts for r in v.rules if r.notice}
    spoken = [c for c in cases(outcome) if c.standing != "passed" or c.text in noticed]
    found = [(_LEVELS.get(c.standing, "warning"), c) for c in spoken]
    found.sort(key=lambda pair: pair[0] != "error")
    if len(found) > MOST:
        rest = len(found) - (MOST - 1)
        found = found[: MOST - 1]
        more = [_command("warning", "forgetbench", f"and {rest} more: see the step's summary")]
    else:
        more = []
    return [_command(level, _title(c), c.text) for level, c in found] + more


def stop(token: str) -> str:
    """From here on the runner obeys nothing until `resume`."""
    return f"::stop-commands::{token}"


def resume(token: str) -> str:
    return f"::{token}::"


def _title(case: Case) -> str:
    return f"{case.group}: {case.name} {_TITLES[case.standing]}"


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_property(one_line(title, 200))}::{_data(one_line(message, _LONGEST))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
