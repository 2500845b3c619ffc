"""The same verdict in a terminal: what changed, the rules, and last, where the eye ends up, the verdict.

Readable at 80 columns; colour never alone (sign, mark and word say the same); without a terminal neither
colour nor boxes; on an ASCII-only console the marks become ASCII. All text goes through `visible`, so that no
escape sequence of a model's reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from forgetbench.analysis.types import Change, Comparison
from forgetbench.gate.types import Rule, Verdict
from forgetbench.report import numbers
from forgetbench.report.behaviour import told
from forgetbench.report.context import (
    VIEWS,
    candidates_in_order,
    ordered_types,
    own_notes,
    root_alias,
    rule_for,
    rules_about,
    rules_in_order,
)
from forgetbench.report.decodings import deciding_here, decodings_of
from forgetbench.report.figures import leak_table
from forgetbench.report.reasons import reason_sentence
from forgetbench.report.speed import length_line, speed_line
from forgetbench.report.text import visible

_STATE = {"PASS": ("✓", "green"), "FAIL": ("✕", "red"), "INCONCLUSIVE": ("?", "yellow")}
_WORD = {"PASS": "Pass", "FAIL": "Blocked", "INCONCLUSIVE": "Inconclusive"}
_MOVE = {numbers.GAINED: ("▲", "blue"), numbers.LOST: ("▼", "red"), numbers.SAME: ("·", "dim")}
_ASCII = str.maketrans({"✓": "+", "✕": "x", "▲": "^", "▼": "v", "·": " ", "−": "-", "–": "-", "→": ">", "…": "."})

_WIDE = 104
"""From this many columns on there is room for forgotten, gained and p."""


_MANY = 0.05
"""Share of unparsed, truncated or refused answers from which on a line says so."""


_SEVERITY = "severity in points lost: mild < 5, moderate 5-15, severe > 15; '?': likely, not confirmed"


def print_verdict(console: Console, comparisons: Sequence[Comparison], verdicts: Sequence[Verdict]) -> None:
    """Print all comparisons and verdicts; the last candidate, whose verdict is the exit code, comes last."""
    writer = _Writer(console)
    root = root_alias(comparisons, verdicts)
    names = candidates_in_order(comparisons, verdicts)
    for before, name in zip([None, *names], names, strict=False):
        verdict = next((v for v in verdicts if v.candidate == name), None)
        mine = sorted((c for c in comparisons if c.candidate.alias == name), key=lambda c: c.base.alias != root)
        for found in mine:
            writer.comparison(found, rules_about(verdict, found, root, before))
        if verdict is not None:
            writer.verdict(verdict, own_notes(verdict, mine))


_NAME = 16
"""Columns that the names of a table get at least; figures are never cut."""


class _Column(NamedTuple):
    name: str
    keep: int = 99
    """Where the width is short, columns go in ascending order of this."""
    justify: JustifyMethod = "right"


class _Writer:
    """Knows the console: its width, whether it is a terminal, whether it can print more than ASCII."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.plain = not console.is_terminal
        self.ascii = console.options.ascii_only
        self.wide = console.width >= _WIDE

    def text(self, content: str, style: str = "") -> Text:
        shown = visible(content)
        if self.ascii:
            shown = shown.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
        return Text(shown, style=style)

    def out(self, thing: RenderableType) -> None:
        self.console.print(thing, highlight=False, soft_wrap=False)

    def line(self, content: str) -> None:
        """A quiet line, if there is anything to say."""
        if content:
            self.out(self.text(content, "dim"))

    def table(self) -> Table:
        # One blank between columns, since 80 are few: the box brings its own, and without a box padding does.
        style = None if self.plain else box.SIMPLE_HEAD
        padding = (0, 1, 0, 0) if self.plain else (0, 0, 0, 0)
        return Table(box=style, pad_edge=False, padding=padding, header_style="dim", show_edge=False)

    def named_table(self, columns: Sequence[_Column], rows: Sequence[Sequence[Text]]) -> Table:
        """Names in the first column, which fold; figures in the others, of which as many are shown as fit."""
        widths = [max([len(c.name), *(row[i].cell_len for row in rows)]) for i, c in enumerate(columns)]
        room = self.console.width - _NAME
        shown = list(range(1, len(columns)))
        for i in sorted(shown, key=lambda i: columns[i].keep):
            if sum(widths[k] + 1 for k in shown) > room and len(shown) > 1:
                shown.remove(i)
        table = self.table()
        # Its exact width: rich would take from a column that may fold until nothing is left of it.
        width = max(_NAME, min(widths[0], self.console.width - sum(widths[k] + 1 for k in shown)))
        table.add_column(columns[0].name, overflow="fold", min_width=width, max_width=width)
        for i in shown:
            table.add_column(columns[i].name, justify=columns[i].justify, no_wrap=True)
        for row in rows:
            table.add_row(row[0], *(row[i] for i in shown))
        return table

    def comparison(self, found: Comparison, rules: Sequence[Rule]) -> None:
        for view in VIEWS:
            decodings = decodings_of(found.changes, view)
            for decode in decodings:
                deciding = deciding_here(rules, decode, decodings)
                if decode != decodings[0] and not deciding:
                    continue  # nothing is decided on these samples: the report has them
                mine = [c for c in found.changes if c.view == view and c.decode_id == decode]
                how = "" if decode == "greedy" else f", {decode}"
                self.out("")
                self.out(
                    Text.assemble(
                        self.text(f"{found.candidate.alias} against {found.base.alias}, {view} view{how}", "bold"),
                        self.text("  points, gains first", "dim"),
                    )
                )
                table = self.changes(mine, deciding)
                self.out(table)
                shown = any(column.header == "severity" for column in table.columns)
                if shown and any(c.severity.band != "none" for c in ordered_types(mine)):
                    self.out(self.text(_SEVERITY, "dim"))
                self.rates(mine)
                self.line(length_line(found.answers, view, decode) if found.answers else "")
        self.line(speed_line(found.answers.speed) if found.answers else "")
        leaks = leak_table(found, ordered_types(found.changes))
        if leaks is not None:
            self.out("")
            self.out(self.text(f"with and without items found in the training data ({leaks['n']:,})", "bold"))
            self.out(self.without_leaks(leaks["rows"]))
        for note in found.notes:
            self.out(self.text(f"note: {note}", "yellow"))
        for line in told(found.behaviour) if found.behaviour is not None else ():
            self.out(self.text(line))

    def without_leaks(self, rows: Sequence[dict[str, Any]]) -> Table:
        """Every change that the leaked items touch, beside what is left of it without them."""
        columns = [
            _Column("ability"),
            _Column("view", 3, "left"),
            _Column("items", 1),
            _Column("change", 5),
            _Column("without", 2),
            _Column("change", 6),
            _Column("95 % interval", 4),
        ]
        made = []
        for row in rows:
            c, rest = row["change"], row["rest"]
            cells = [c.group, c.view, str(c.n), numbers.points(c.delta)]
            if rest is None:
                cells += ["0", "", ""]
            else:
                cells += [str(rest.n), numbers.points(rest.delta), numbers.interval(rest.interval)]
            made.append([self.text(cell) for cell in cells])
        return self.named_table(columns, made)

    def changes(self, changes: Sequence[Change], rules: Sequence[Rule]) -> Table:
        listed = ordered_types(changes) or sorted((c for c in changes if c.kind == "task"), key=lambda c: -c.delta)
        columns = [_Column("ability"), _Column("items", 2), _Column("base", 4), _Column("cand.", 5)]
        columns += [_Column("change", 7), _Column("95 % interval", 6), _Column("margin", 1)]
        if self.wide:
            columns += [_Column("forgotten", 0), _Column("gained", 0), _Column("p", 0)]
        columns.append(_Column("severity", 3, "left"))
        rows = []
        for c in listed:
            mark, style = _MOVE[numbers.direction(c)]
            rule = rule_for(c, rules)
            name = f"  {c.group.split('/', 1)[-1]}" if c.kind == "task_type_2" else c.group
            severity = c.severity.band if c.severity.band != "none" else ""
            if severity and not c.severity.confirmed:
                severity += "?"
            cells = [
                self.text(name, "bold" if c.kind != "task_type_2" else ""),
                self.text(str(c.n)),
                self.text(numbers.score(c.base)),
                self.text(numbers.score(c.candidate)),
                self.text(f"{mark} {numbers.points(c.delta)}", style),
                self.text(numbers.interval(c.interval), "dim" if style == "dim" else ""),
                self.text(numbers.plain_points(rule.margin) if rule else ""),
            ]
            if self.wide:
                cells += [
                    self.text(numbers.score(c.forgotten)),
                    self.text(numbers.score(c.gained)),
                    self.text(numbers.p_value(c.p_value)),
                ]
            rows.append([*cells, self.text(severity, style if severity else "")])
        return self.named_table(columns, rows)

    def rates(self, changes: Sequence[Change]) -> None:
        """A line where many answers could not be read: that is not forgetting, and the table hides it."""
        for c in ordered_types(changes):
            for what in ("unparsed", "truncated", "refused", "timeout", "looped", "wrong_language"):
                # None: flags are looked at under the deployment preset only.
                before, after = getattr(c.base_rates, what) or 0.0, getattr(c.candidate_rates, what) or 0.0
                if c.kind == "task_type_1" and max(before, after) > _MANY:
                    share = f"{numbers.rate(before)} → {numbers.rate(after)} %"
                    self.out(self.text(f"{what.replace('_', ' ')}: {c.group} {share}", "yellow"))

    def rules(self, verdict: Verdict) -> Table:
        table = self.table()
        table.add_column("rule", overflow="fold", min_width=12)
        table.add_column("state", no_wrap=True)
        table.add_column("why", overflow="fold", ratio=1)
        for r in rules_in_order(verdict.rules):
            sign, style = _STATE[r.state]
            name = visible(r.rule.name) + ("" if r.rule.required else " (advisory)")
            word = _WORD[r.state] + (", waived" if r.waived is not None else "")
            why = r.reason + (f" Notice: {r.notice}." if r.notice else "")
            dim = "" if r.rule.required else "dim"
            table.add_row(self.text(name, dim), self.text(f"{sign} {word}", dim or style), self.text(why, dim))
        return table

    def verdict(self, verdict: Verdict, notes: Sequence[str]) -> None:
        sign, style = _STATE[verdict.state]
        title = self.text(f"{sign} {_WORD[verdict.state]}: {verdict.candidate}", f"bold {style}")
        lines = [self.text(reason_sentence(verdict)), *(self.text(note, "dim") for note in notes)]
        end = self.text(f"policy {verdict.policy.name}, exit code {int(verdict.exit_code)}", "dim")
        self.out("")
        self.out(self.rules(verdict))
        self.out("")
        if self.plain:
            for line in (title, *lines, end):
                self.out(line)
            return
        safe = box.ASCII if self.ascii else box.HEAVY if verdict.state == "FAIL" else box.ROUNDED
        self.out(Panel(Group(*lines, end), title=title, title_align="left", border_style=style, box=safe))
