"""One item in the terminal: what was asked, then both answers side by side with the words that differ marked.

Two columns where the terminal is wide enough, else one under the other. Without a terminal, deletions are
[-such-] and insertions {+such+}, as wdiff writes them; with one, struck through and underlined: never by colour
alone. All text goes through `visible`, so that no escape sequence of a model's reaches the terminal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from forgetbench.report.text import cut, question_line, visible
from forgetbench.types import ItemKey, Record

_WIDE = 100
_ENOUGH = 0.2
"""Share of the longer text that both have, below which marks would colour everything. As in reports/diff.js."""
_MOST_WORDS = 4_000
_WORDS = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff]|\w+|.", re.DOTALL)

Op = Literal["=", "-", "+"]


def word_diff(before: str, after: str) -> list[tuple[Op, str]] | None:
    """Parts that make `before` (= and -) and `after` (= and +). None: too long, or too little in common."""
    a, b = _WORDS.findall(before), _WORDS.findall(after)
    if len(a) + len(b) > _MOST_WORDS:
        return None
    parts: list[tuple[Op, str]] = []
    common = 0
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            parts.append(("=", "".join(a[i:j])))
            common += len("".join("".join(a[i:j]).split()))
            continue
        if j > i:
            parts.append(("-", "".join(a[i:j])))
        if m > k:
            parts.append(("+", "".join(b[k:m])))
    longest = max(len("".join(before.split())), len("".join(after.split())), 1)
    return parts if common >= _ENOUGH * longest else None


def print_item(
    console: Console,
    key: ItemKey,
    aliases: tuple[str, str],
    pairs: Sequence[tuple[Record, Record]],
    *,
    full: bool = False,
) -> None:
    """Print every view (and sample) of one item; `full`: whole prompts and answers."""
    writer = _Writer(console, full)
    for before, after in pairs:
        writer.pair(key, aliases, before, after)


class _Writer:
    def __init__(self, console: Console, full: bool) -> None:
        self.console = console
        self.full = full
        self.plain = not console.is_terminal
        self.ascii = console.options.ascii_only

    def text(self, content: str, style: str = "") -> Text:
        shown = visible(content)
        if self.ascii:
            shown = shown.encode("ascii", "backslashreplace").decode("ascii")
        return Text(shown, style=style)

    def out(self, thing: RenderableType = "") -> None:
        self.console.print(thing, highlight=False, soft_wrap=False)

    def long(self, content: str) -> str:
        return content if self.full else cut(content, 3_000, 1_500)

    def pair(self, key: ItemKey, aliases: tuple[str, str], before: Record, after: Record) -> None:
        sampled = "" if before.decode_id == "greedy" else f", {before.decode_id} sample {before.sample}"
        self.out(Text.assemble(self.text(str(key), "bold"), self.text(f"  {before.view} view{sampled}")))
        where = [before.task_type, before.stratum, before.source]
        self.out(self.text(", ".join(w for w in where if w), "dim"))
        self.prompt("prompt", before.prompt)
        if after.prompt != before.prompt:
            self.prompt(f"prompt of {aliases[1]}", after.prompt)
        self.fact("reference", before.gold)
        parts = word_diff(before.output, after.output) if before.output != after.output else None
        left = self.side(aliases[0], before, parts, "-")
        right = self.side(aliases[1], after, parts, "+")
        self.out()
        if self.console.width >= _WIDE:
            table = Table.grid(expand=True, padding=(0, 2, 0, 0))
            table.add_column(ratio=1, overflow="fold")
            table.add_column(ratio=1, overflow="fold")
            table.add_row(left, right)
            self.out(table)
        else:
            self.out(left)
            self.out()
            self.out(right)
        if before.output == after.output:
            self.out(self.text("both gave the same text", "dim"))
        self.out()

    def prompt(self, name: str, prompt: str | None) -> None:
        if prompt is not None:
            shown = prompt if self.full else question_line(prompt, 400)
            self.fact(name if self.full else f"{name}, its end", shown)

    def fact(self, name: str, value: str) -> None:
        self.out(Text.assemble(self.text(f"{name}: ", "dim"), self.text(self.long(value))))

    def side(self, alias: str, record: Record, parts: list[tuple[Op, str]] | None, own: Op) -> Text:
        lines = [
            Text.assemble(self.text(alias, "bold"), "  ", self.score(record)),
            Text.assemble(
                self.text("extracted: ", "dim"),
                self.text("(nothing)" if record.extracted is None else self.long(record.extracted)),
            ),
            Text.assemble(self.text("why: ", "dim"), self.text(self.long(record.why))),
            self.text(""),
            self.output(record.output, parts, own),
        ]
        tail = [
            f"finish {record.finish_reason}" if record.finish_reason else "",
            f"{record.n_output_tokens:,} tokens" if record.n_output_tokens is not None else "",
        ]
        if any(tail):
            lines.append(self.text(", ".join(t for t in tail if t), "dim"))
        return Text("\n").join(lines)

    def score(self, record: Record) -> Text:
        odd = f" ({record.outcome})" if record.outcome != "ok" else ""
        if not record.scores:
            return self.text(f"no score{odd}", "yellow")
        if all(value in (0.0, 1.0) for value in record.scores.values()) and len(set(record.scores.values())) == 1:
            right = next(iter(record.scores.values())) == 1.0
            return self.text(f"{'right' if right else 'wrong'}{odd}", "green" if right else "red")
        told = ", ".join(f"{name} {value:g}" for name, value in record.scores.items())
        return self.text(f"{told}{odd}")

    def output(self, output: str, parts: list[tuple[Op, str]] | None, own: Op) -> Text:
        if parts is None:
            return self.text(self.long(output))
        opened, closed = ("[-", "-]") if own == "-" else ("{+", "+}")
        style = "red strike" if own == "-" else "blue underline"
        made = Text()
        for op, words in parts:
            if op == "=":
                made.append_text(self.text(words))
            elif op == own:
                made.append_text(self.text(f"{opened}{words}{closed}") if self.plain else self.text(words, style))
        return made
