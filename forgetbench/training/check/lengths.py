"""Lengths of prompts and answers, empty ones, and turns that no chat template can place.

Outliers lie more than 3.5 robust standard deviations from the median of log(1 + length) of their task_type (Iglewicz
and Hoaglin 1993, "How to detect and handle outliers", the modified z-score with 1.4826 MAD), and at least by a factor
of two: where all are nearly alike a small difference is none. Where more than half have one length the MAD is 0; then
ten times the median, or a tenth of it, is far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from forgetbench.analysis.leaks import words
from forgetbench.training.check.report import Finding, State, passed, shown
from forgetbench.training.check.rows import ROLES, Row, by_kind

Z = 3.5
_FAR = 10.0
_LEAST = 2.0
FEWEST = 10
Count = Callable[[str], int]


def count_words(text: str) -> int:
    """Words, of Chinese and Japanese characters; the default unit."""
    return len(words(text))


def lengths(
    rows: Sequence[Row], *, count: Count = count_words, unit: str = "words", limit: int | None = None
) -> list[Finding]:
    """Distribution and outliers of prompts and of answers, and examples beyond `limit` units (none: not looked at)."""
    asked = [r for r in rows if not r.plain and r.answer is not None]
    plain = [r for r in rows if r.plain]
    found = []
    for name, part, texts in (
        ("prompts", asked, [r.prompt for r in asked]),
        ("answers", asked, [r.answer or "" for r in asked]),
        ("plain texts", plain, [r.text for r in plain]),
    ):
        if part:
            found.append(_lengths(name, part, [count(text) for text in texts], unit))
    if limit is not None:
        found.append(_beyond(rows, count, unit, limit))
    return found


def outliers(values: Sequence[float]) -> list[int]:
    """Positions of logarithms far from their median (module's docstring). None of fewer than FEWEST."""
    if len(values) < FEWEST:
        return []
    logs: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    median = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - median)))
    far = max(Z * spread, math.log(_LEAST)) if spread > 0 else math.log(_FAR)
    return [int(i) for i in np.flatnonzero(np.abs(logs - median) > far)]


def structure(rows: Sequence[Row]) -> list[Finding]:
    """Empty prompts and answers, roles that no template knows, no assistant turn, no assistant turn at the end."""
    chats = [r for r in rows if not r.plain]
    tests: tuple[tuple[str, State, str, Callable[[Row], bool], str], ...] = (
        (
            "empty answers", "fail", "an empty assistant turn",
            lambda r: any(t.role == "assistant" and not t.text.strip() and not t.calls for t in r.turns),
            "write the answer, or drop the line",
        ),
        (
            "empty prompts", "fail", "nothing before the answer, or only blanks",
            lambda r: r.answer is not None and not r.prompt.strip(),
            "write the prompt, or give the text under `text`",
        ),
        (
            "roles", "fail", "a role that is unknown",
            lambda r: any(t.role not in ROLES.values() for t in r.turns),
            f"use {', '.join(dict.fromkeys(ROLES.values()))}",
        ),
        (
            "assistant turn", "fail", "no assistant turn: nothing to learn from",
            lambda r: r.answer is None,
            "add the answer, or drop the line",
        ),
        (
            "last turn", "warn", "turns after the last answer, which are never learnt",
            lambda r: r.answer is not None and r.turns[-1].role != "assistant",
            "end with the assistant's turn",
        ),
    )  # fmt: skip
    found = []
    for check, state, what, test, cure in tests:
        bad = [r for r in chats if test(r)]
        if not bad:
            found.append(passed(check, "none" if check.startswith("empty") else "as they should be", len(chats)))
            continue
        lines = [(r.where, f"[{', '.join(t.role for t in r.turns)}] {r.text}") for r in bad]
        message = f"{len(bad):,} of {len(chats):,} examples have {what}"
        found.append(Finding(check, state, message, len(bad), len(chats), shown(lines), cure))
    return found


def _lengths(name: str, rows: Sequence[Row], values: Sequence[int], unit: str) -> Finding:
    of = {id(r): v for r, v in zip(rows, values, strict=True)}
    far: list[Row] = []
    for mine in by_kind(rows).values():
        # Empty ones have a check of their own.
        kept = [r for r in mine if of[id(r)] > 0]
        far += [kept[i] for i in outliers([math.log1p(of[id(r)]) for r in kept])]
    low, five, half, many, high = np.quantile(np.asarray(values), [0, 0.05, 0.5, 0.95, 1])
    told = f"{low:.0f} to {high:.0f} {unit}, median {half:.0f}, 90 % from {five:.0f} to {many:.0f}"
    figures = {
        "unit": unit, "least": int(low), "p5": float(five), "median": float(half), "p95": float(many),
        "most": int(high), "mean": float(np.mean(values)), "total": int(np.sum(values)),
    }  # fmt: skip
    check = f"lengths: {name}"
    if not far:
        return Finding(check, "pass", told, 0, len(rows), figures=figures)
    far.sort(key=lambda r: -of[id(r)])
    lines = [(r.where, f"{of[id(r)]:,} {unit}: {r.prompt if name == 'prompts' else r.answer or r.text}") for r in far]
    message = f"{told}; {len(far):,} of {len(rows):,} lie far from the rest of their task_type"
    cure = "look at these lines: cut off, pasted together, or of another task_type?"
    return Finding(check, "warn", message, len(far), len(rows), shown(lines), cure, figures)


def _beyond(rows: Sequence[Row], count: Count, unit: str, limit: int) -> Finding:
    long = [(r, n) for r in rows if (n := count(r.text)) > limit]
    check = "lengths: limit"
    if not long:
        return passed(check, f"none is longer than {limit:,} {unit}", len(rows))
    lines = [(r.where, f"{n:,} {unit}: {r.text}") for r, n in long]
    message = f"{len(long):,} of {len(rows):,} examples are longer than {limit:,} {unit}, template not counted"
    cure = "split or drop them: cut off, their answers lose the end"
    return Finding(check, "fail", message, len(long), len(rows), shown(lines), cure)
