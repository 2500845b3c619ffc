"""Probes in a terminal. All text that a model or a file wrote goes through `one_line`, which shows what is unseen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forgetbench.probing.fit import told
from forgetbench.probing.modal import forms_of, p_text
from forgetbench.probing.types import Answered, Form, FrequencyFit, ItemProbe, Modal, TrainingFit, Variant
from forgetbench.report.text import one_line

Names = tuple[str, str]


def print_probe(console: Console, probe: ItemProbe, names: Names) -> None:
    """The variants with both answers, the words, the training lines; last the one sentence."""
    _line(console, f"{probe.name} ({probe.view}): {probe.question}", "bold")
    table = _table(("variant", "asked", names[0], names[1], "expected"))
    form = probe.modal.form
    for row in probe.rows:
        v = row.variant
        wanted = probe.gold if v.keeps_gold else " | ".join(v.expected or ())
        table.add_row(
            _text(_name(v), 30),
            _text(v.text, 44),
            _answer(row.base, v.text, form),
            _answer(row.candidate, v.text, form),
            _text(wanted, 20),
        )
    console.print(table)
    _line(console, "right + or wrong - where known; * the modal answer; (k/n) samples that have it", "dim")
    if probe.modal.words:
        console.print(_words(probe.modal, names))
    if probe.modal.variants is not None and form is not None:
        c = probe.modal.variants
        said = f"{form.told}: {names[1]} {c.candidate} of {c.n} variants, {names[0]} {c.base}"
        e = probe.modal.everywhere
        more = f"; other questions as they are: {e.candidate} and {e.base} of {e.n}" if e is not None else ""
        _line(console, said + more)
    if probe.taught is not None:
        _taught(console, probe)
    for note in probe.notes:
        _line(console, note, "dim")
    _line(console, probe.modal.reading, "bold", limit=2_000)
    _line(console, f"{probe.requests:,} requests", "dim")


def _name(variant: Variant) -> str:
    if variant.kind == "original" or variant.name.startswith(variant.kind):
        return variant.kind if variant.kind == "original" else variant.name
    return f"{variant.kind}: {variant.name}"


def _taught(console: Console, probe: ItemProbe) -> None:
    taught = probe.taught
    assert taught is not None
    _line(console, f"training data: {taught.with_form:,} of {taught.total:,} examples have such an answer")
    for word, (n, k) in taught.by_word.items():
        _line(console, f"  '{word}' is in {n:,} prompts, {k:,} of them with such an answer")
    for line in taught.lines:
        mark = "*" if line.same_answer else " "
        _line(console, f"  {mark} {line.where}  {one_line(line.prompt, 60)} -> {one_line(line.answer, 40)}")


def _words(modal: Modal, names: Names) -> Table:
    base = names[0]
    columns = ("word", "left out: with/without", f"({base})", "before others: with/other word", f"({base})", "up/down")
    table = _table((*columns, "p (Holm)"))
    for word in modal.words:
        cut, put = word.left_out, word.put_in
        table.add_row(
            _text(word.word, 20),
            f"{cut.with_word}/{cut.without} of {cut.n}",
            f"{cut.base_with}/{cut.base_without}",
            "" if put is None else f"{put.with_word}/{put.without} of {put.n}",
            "" if put is None else f"{put.base_with}/{put.base_without}",
            "" if put is None else f"{put.up}/{put.down}",
            "" if put is None else f"{word.adjusted:.2g}",
        )
    return table


def _answer(answer: Answered | None, question: str, form: Form | None) -> Text:
    if answer is None:
        return Text("(no answer)", style="dim")
    mark = "" if answer.right is None else "+ " if answer.right else "- "
    modal = "*" if form is not None and form in forms_of(question, answer.text) else ""
    k = sum(form in forms_of(question, text) for text in answer.samples) if form is not None else 0
    share = f" ({k}/{len(answer.samples)})" if answer.samples and form is not None else ""
    return Text(f"{mark}{one_line(answer.text, 32) or '(empty)'}{modal}{share}")


def print_fit(console: Console, fit: TrainingFit, names: Names) -> None:
    """Under-fit and over-fit, a table each and a sentence each."""
    _line(console, "Fit to the training set", "bold")
    if fit.learnt:
        table = _table(("training items", "n", f"{names[1]} as trained", f"{names[0]}"))
        for row in fit.learnt:
            table.add_row(
                _text(row.task_type, 30), f"{row.candidate.n:,}", told(row.candidate), told(row.base, brief=True)
            )
        console.print(table)
    if fit.echoed:
        table = _table(("test items answered wrongly", "view", "as", "n", names[1], names[0], "right ones", "p (Holm)"))
        for echo in fit.echoed:
            shares = (told(s, brief=True) for s in (echo.wrong, echo.base, echo.gold))
            group = _text(echo.task_type, 30)
            how = f"word '{one_line(echo.word, 20)}'" if echo.word else echo.how
            table.add_row(
                group,
                echo.view,
                how,
                f"{echo.wrong.n:,}",
                *shares,
                p_text(echo.adjusted).removeprefix("p ").removeprefix("= "),
            )
        console.print(table)
    for line in fit.lines:
        _line(console, line, limit=2_000)
    for note in fit.notes:
        _line(console, note, "dim")


def print_frequency(console: Console, fit: FrequencyFit, names: Names) -> None:
    """Bins from rare to frequent, and the trend."""
    _line(console, f"{fit.task} ({fit.view}) by how often the base met the fact", "bold")
    table = _table(("count", "items", f"{names[0]} right", f"{names[1]} right", "lost of what the base had"))
    for b in fit.bins:
        table.add_row(
            f"{b.low:g} to {b.high:g}",
            f"{b.n:,}",
            told(b.base, brief=True),
            told(b.candidate, brief=True),
            told(b.lost),
        )
    console.print(table)
    if fit.head_less_tail is not None:
        low, high = 100 * fit.head_less_tail.low, 100 * fit.head_less_tail.high
        _line(console, f"most frequent less rarest: 95 % {low:+.1f} to {high:+.1f} points lost")
    if fit.unknown:
        _line(console, f"{fit.unknown:,} items have no count and are left out", "dim")
    _line(console, fit.reading, limit=2_000)


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(Text(one_line(column, 40)), overflow="fold")
    return table


def _text(text: str, limit: int) -> Text:
    return Text(one_line(text, limit))


def _line(console: Console, text: str, style: str = "", limit: int = 300) -> None:
    console.print(Text(one_line(text, limit), style=style))
