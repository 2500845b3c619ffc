"""A preflight for people: a line for each check, and three samples with what is learnt in colour."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from forgetbench.report.text import one_line, visible
from forgetbench.training.preflight.types import STATES, Preflight, Shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}
_LEARNT, _WEIGHTED = "bold green", "bold magenta"
LONGEST = 1_200
"""Characters of a sample that are shown."""


def to_dict(found: Preflight) -> dict[str, Any]:
    """For --json."""
    return {"state": found.state, "exit_code": int(found.exit_code), **asdict(found)}


def print_preflight(console: Console, found: Preflight) -> None:
    """The findings, then the samples. Text of the data cannot steer the terminal."""
    from rich.text import Text

    _print_findings(console, found)
    marks = console.color_system is None
    if found.samples:
        console.print()
        console.print(_legend(marks), soft_wrap=True)
    for sample in found.samples:
        console.print(Text(one_line(f"{sample.where}  {sample.task_type or ''}", 200), style="dim"), soft_wrap=True)
        console.print(colored(sample, marks=marks), soft_wrap=True)
    counts = ", ".join(f"{sum(f.state == state for f in found.findings)} {state}" for state in STATES)
    console.print(Text(f"{one_line(found.recipe, 200)}: {counts}", style=_STYLES[found.state]), soft_wrap=True)


def _print_findings(console: Console, found: Preflight) -> None:
    """A table in a terminal; in a pipe a line for each finding, whatever its length."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for f in found.findings:
        told = Text(one_line(f.evidence, 1_000))
        for line in f.lines if f.state != "pass" else ():
            told.append("\n" + one_line(line, 200), style="dim")
        if f.cure:
            told.append("\n" + one_line(f"cure: {f.cure}", 500))
        state, name = Text(f.state, style=_STYLES[f.state]), one_line(f.name, 40)
        if console.is_terminal:
            table.add_row(state, Text(name), told)
        else:
            console.print(Text(f"{f.state}  {name}: {told.plain}".replace("\n", "\n      ")), soft_wrap=True)
    if console.is_terminal:
        console.print(table)


def _legend(marks: bool) -> Text:
    from rich.text import Text

    text = Text("what is learnt: ")
    text.append("«learnt»" if marks else "learnt", style=_LEARNT)
    text.append(", ")
    text.append("learnt with a weight of its own", style=_WEIGHTED)
    return text.append("[x its weight, where that is not 1], read only")


def colored(sample: Shown, *, marks: bool) -> Text:
    """The sample's text, learnt spans in colour. marks: also between « », for where there is no colour."""
    from rich.text import Text

    weights = {s.weight for s in sample.spans if s.weight > 0}
    text = Text()
    for span in sample.spans:
        shown = visible(span.text)
        if span.weight == 0:
            text.append(shown, style="dim")
            continue
        is_plain = span.weight == 1 or len(weights) == 1
        text.append(f"«{shown}»" if marks else shown, style=_LEARNT if is_plain else _WEIGHTED)
        if span.weight != 1:
            text.append(f"[x{span.weight:.3g}]", style="dim")
    if len(text) > LONGEST:
        text.truncate(LONGEST)
        text.append(" ...")
    return text
