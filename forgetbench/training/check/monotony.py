"""The same answer, or the same opening of an answer, too often.

A model trained on data that mostly says one thing learns to say it, asked or not. How often one answer may stand is
what its labels explain: with k different answers used evenly each has 1 in k. The excess of the most frequent one over
that is judged, if it is no accident of a small file: a binomial upper tail, times k for the choice of the most frequent
(Bonferroni), then Holm over the groups. Up to LABELS different answers are labels and may be uneven by LABEL_EXCESS;
more are free text, where OPEN_EXCESS is much. Openings are the first three words (four characters of Chinese) of
answers of six words or more, so that labels are not judged twice. Forms are answers that repeat words of their prompt,
with those words as a slot: "delivery desk: lamp" to a ticket about a lamp is "delivery desk: …".

It misleads where a task has one right answer by nature (always the same refusal): a warning then says what is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import stats

from forgetbench.analysis.leaks import plain, words
from forgetbench.analysis.significance import holm
from forgetbench.probing.modal import SLOT, shape_of
from forgetbench.probing.variants import is_cjk
from forgetbench.training.check.report import Finding, passed, shown
from forgetbench.training.check.rows import Row, by_kind

ALL = "all"
FEWEST = 10
"""Answers of a group that is judged."""
LABELS = 20
LABEL_EXCESS = 0.25
OPEN_EXCESS = 0.05
OPENING_EXCESS = 0.3
ALPHA = 0.01
FAIL = 0.9
"""Share of *all* examples with one answer, from which the check fails."""
OPENING, OPENING_CJK = 3, 4
_LONG, _LONG_CJK = 6, 12


@dataclass(frozen=True, slots=True)
class Group:
    """The most frequent answer, or opening, of a task_type."""

    task_type: str
    most: str
    count: int
    total: int
    distinct: int
    expected: float
    """Share that evenly used answers would have; 0 where there is one alone."""
    p_value: float
    """Holm-adjusted."""
    rows: tuple[Row, ...]
    """Those with it."""

    @property
    def share(self) -> float:
        return self.count / self.total


def monotony(rows: Sequence[Row]) -> list[Finding]:
    """One finding each on answers, on openings and on forms."""
    asked = [r for r in rows if r.answer is not None and r.answer.strip()]
    found = []
    for what, read in (("answers", _answer), ("openings", _opening), ("forms", _form)):
        groups = most_frequent(asked, read)
        bad = [g for g in groups if _too_often(g, what)]
        found.append(_finding(what, bad, groups, len(asked)))
    return found


def most_frequent(rows: Sequence[Row], read: Callable[[Row], str]) -> list[Group]:
    """By task_type and, where there are several, for all together, what is read most often. Groups below FEWEST are
    left out, as are answers that `read` makes nothing of."""
    kinds = by_kind(rows)
    groups = {**kinds, ALL: list(rows)} if len(kinds) > 1 else kinds
    made: list[Group] = []
    for kind, mine in groups.items():
        by: dict[str, list[Row]] = {}
        for row in mine:
            text = read(row)
            if text:
                by.setdefault(text, []).append(row)
        counts = Counter({text: len(same) for text, same in by.items()})
        total = counts.total()
        if total < FEWEST:
            continue
        most, count = counts.most_common(1)[0]
        k = len(counts)
        p = min(1.0, k * float(stats.binom.sf(count - 1, total, 1 / k))) if k > 1 else 0.0
        made.append(Group(kind, most, count, total, k, 1 / k if k > 1 else 0.0, p, tuple(by[most])))
    adjusted = holm([g.p_value for g in made])
    return [
        Group(g.task_type, g.most, g.count, g.total, g.distinct, g.expected, p, g.rows)
        for g, p in zip(made, adjusted, strict=True)
    ]


def opening(answer: str) -> str:
    """The first words of a long answer; empty for a short one.

    >>> opening("Sure, here is the list that you wanted"), opening("Sure, here")
    ('sure here is', '')
    """
    sequence = words(answer)
    cjk = is_cjk(answer)
    if len(sequence) < (_LONG_CJK if cjk else _LONG):
        return ""
    return " ".join(sequence[: OPENING_CJK if cjk else OPENING])


def _answer(row: Row) -> str:
    return plain(row.answer or "")


def _opening(row: Row) -> str:
    return opening(row.answer or "")


def _form(row: Row) -> str:
    """Empty where the answer has no word of the prompt, or no word of its own."""
    shape = shape_of(row.prompt, row.answer or "")
    return shape if SLOT in shape and any(c.isalpha() for c in shape) else ""


def _too_often(group: Group, what: str) -> bool:
    bar = OPENING_EXCESS if what == "openings" else LABEL_EXCESS if group.distinct <= LABELS else OPEN_EXCESS
    return group.share - group.expected >= bar and group.p_value < ALPHA


def _finding(what: str, bad: Sequence[Group], groups: Sequence[Group], total: int) -> Finding:
    check = f"monotony: {what}"
    tables = {
        g.task_type: {
            "most": g.most,
            "count": g.count,
            "total": g.total,
            "distinct": g.distinct,
            "expected": g.expected,
        }
        for g in groups
    }
    if not bad:
        return passed(check, f"none stands more often than its labels explain ({len(groups)} groups)", total, tables)
    worst = max(bad, key=lambda g: (g.share - g.expected, g.count))
    whole = any(g.task_type == ALL or len(tables) == 1 for g in bad if g.share >= FAIL and g.total >= 2 * FEWEST)
    explained = "" if worst.distinct > 1 else ", the only one"
    expected = (
        f"; {worst.distinct:,} used evenly would have {100 * worst.expected:.0f} % each" if worst.distinct > 1 else ""
    )
    message = (
        f"'{worst.most[:60]}' is {100 * worst.share:.0f} % of the {what} of {worst.task_type} "
        f"({worst.count:,} of {worst.total:,}{explained}{expected})"
    )
    others = [g.task_type for g in bad if g is not worst]
    if others:
        message += f"; also too often in {', '.join(others[:5])}"
    lines = [
        (r.where, f"{g.task_type}: {r.answer}")
        for g in (worst, *(g for g in bad if g is not worst))
        for r in g.rows[:2]
    ]
    return Finding(
        check,
        "fail" if what == "answers" and whole else "warn",
        message,
        sum(g.count for g in bad if g.task_type != ALL or len(bad) == 1),
        total,
        shown(lines),
        "add examples with other answers, or mix in replay (forgetbench data mix)",
        tables,
    )
