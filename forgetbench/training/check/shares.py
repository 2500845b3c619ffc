"""Shares per task_type, lines without one, and abilities of the suite that the data does not train."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from forgetbench.tasks.custom_lines import TASK_TYPE_PATTERN
from forgetbench.training.check.lengths import count_words
from forgetbench.training.check.report import Finding, passed, shown
from forgetbench.training.check.rows import UNTYPED, Row, by_kind

NARROW = 0.8
"""Share of one task_type from which the diet is called narrow: what is not rehearsed is what a fine-tune forgets."""


def shares(
    rows: Sequence[Row], wanted: Collection[str] = (), *, count: Callable[[str], int] = count_words, unit: str = "words"
) -> list[Finding]:
    """wanted: the task_types that are tested; the data is said to lack those of which it has no example."""
    found = [_shares(rows, count, unit), _missing(rows), _malformed(rows)]
    if wanted:
        found.append(_untrained(rows, wanted))
    return found


def _shares(rows: Sequence[Row], count: Callable[[str], int], unit: str) -> Finding:
    groups = by_kind(rows)
    size = {kind: sum(count(r.text) for r in mine) for kind, mine in groups.items()}
    total = sum(size.values())
    plain = sum(r.plain for r in rows)
    figures = {
        "task_types": {
            kind: {"examples": len(mine), "share": len(mine) / len(rows), unit: size[kind],
                   f"{unit}_share": size[kind] / total if total else 0.0}
            for kind, mine in groups.items()
        },
        "plain_text": plain,
    }  # fmt: skip
    ordered = sorted(groups, key=lambda kind: -len(groups[kind]))
    most = ordered[0]
    share = len(groups[most]) / len(rows)
    told = ", ".join(f"{kind} {100 * len(groups[kind]) / len(rows):.0f} %" for kind in ordered[:8])
    message = f"{len(groups)} task_types: {told}" + (f", {len(ordered) - 8} more" if len(ordered) > 8 else "")
    if share <= NARROW or most == UNTYPED:  # of what has no task_type nobody knows how narrow it is
        return Finding("shares", "pass", message, 0, len(rows), figures=figures)
    message = f"{100 * share:.0f} % of the examples are {most}; {message}"
    cure = "mix in replay of other abilities: forgetbench data mix"
    first = [(r.where, r.text) for r in groups[most][:2]]
    return Finding("shares", "warn", message, len(groups[most]), len(rows), shown(first), cure, figures)


def _missing(rows: Sequence[Row]) -> Finding:
    # Plain text for replay asks nothing, so it needs no ability.
    chats = [r for r in rows if not r.plain]
    bad = [r for r in chats if r.task_type is None]
    if not bad:
        return passed("task_type: missing", "every example that asks has one", len(chats))
    message = f"{len(bad):,} of {len(chats):,} examples have none"
    cure = 'add "task_type": "ability/kind", so that losses and shares can be told apart'
    return Finding("task_type: missing", "warn", message, len(bad), len(chats), shown(_lines(bad)), cure)


def _malformed(rows: Sequence[Row]) -> Finding:
    typed = [r for r in rows if r.task_type is not None]
    bad = [r for r in typed if not re.match(TASK_TYPE_PATTERN, r.task_type or "")]
    if not bad:
        return passed("task_type: form", "all have two levels", len(typed))
    lines = [(r.where, f"'{r.task_type}': {r.text}") for r in bad]
    message = f"{len(bad):,} of {len(typed):,} task_types are not two levels, such as reasoning/arithmetic"
    cure = "write ability/kind, as in the suite"
    return Finding("task_type: form", "warn", message, len(bad), len(typed), shown(lines), cure)


def _untrained(rows: Sequence[Row], wanted: Collection[str]) -> Finding:
    have = {r.task_type for r in rows if r.task_type is not None}
    lacking = sorted(set(wanted) - have)
    check = "task_type: tested, not trained"
    if not lacking:
        return passed(check, f"all {len(set(wanted))} that the suite tests are in the data", len(set(wanted)))
    message = f"{len(lacking)} of {len(set(wanted))}: {', '.join(lacking[:8])}" + (", ..." if len(lacking) > 8 else "")
    cure = "nothing rehearses these abilities: mix in replay (forgetbench data mix)"
    return Finding(check, "warn", message, len(lacking), len(set(wanted)), (), cure, {"missing": lacking})


def _lines(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(r.where, r.text) for r in rows]
