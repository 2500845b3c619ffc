"""The report's smaller figures as plain data: heat map of subjects, flips matrix, the two views, rates.

Chooses, orders and counts what is listed; the one figure made here is the gap between two scores that stand
beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from forgetbench.analysis.types import Change, Comparison, Pair
from forgetbench.report.numbers import direction
from forgetbench.report.text import one_line
from forgetbench.types import GREEDY, View

Context = dict[str, Any]

STEPS = (0.01, 0.05, 0.15)
"""Edges of the heat map's tints, in fractions of 1: noise-sized, then the bands of severity."""

MANY = 0.05
"""A share of unparsed, truncated or refused answers that is worth a mark: verdicts are refused above it."""

_RATES = ("unparsed", "truncated", "refused", "timeout", "infra_error", "looped", "wrong_language", "thought")
_HARMLESS = ("thought",)
"""Counted, and no fault of an answer."""
_LEAKS_LISTED = 100
_STRENGTH = {"exact": 0, "ngram": 1, "near": 2}
_SCALES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)


def step(delta: float) -> int:
    """-3 to 3: how deep a heat map's cell is tinted."""
    depth = sum(abs(delta) >= edge - 1e-9 for edge in STEPS)
    return depth if delta > 0 else -depth


def subjects_of(pairs: Sequence[Pair]) -> dict[str, tuple[str, str]]:
    """A stratum's name in `Change.group` -> (task_type, the stratum as pairs bear it)."""
    return {f"{p.task}/{p.stratum}": (p.task_type, p.stratum) for p in pairs if p.stratum is not None}


def heat_map(changes: Sequence[Change], subjects: Mapping[str, tuple[str, str]]) -> list[Context]:
    """Subjects by the ability they belong to, gains first; abilities by name."""
    parts: dict[str, list[Context]] = {}
    for c in sorted(changes, key=lambda c: (-c.delta, c.group)):
        if c.kind == "stratum":
            task_type, stratum = subjects.get(c.group, ("", c.group.split("/", 1)[-1]))
            cell = {
                "name": stratum.replace("_", " "),
                "stratum": stratum,
                "change": c,
                "step": step(c.delta),
                "direction": direction(c),
            }
            parts.setdefault(task_type, []).append(cell)
    return [{"name": name, "cells": cells} for name, cells in sorted(parts.items())]


def flip_matrix(pairs: Sequence[Pair]) -> Context | None:
    """Counts of items by right and wrong on either side. `other`: scores between 0 and 1, or none."""
    counts = {"kept": 0, "lost": 0, "gained": 0, "never": 0, "other": 0}
    names = {(1.0, 1.0): "kept", (1.0, 0.0): "lost", (0.0, 1.0): "gained", (0.0, 0.0): "never"}
    for p in pairs:
        sides = p.base.score, p.candidate.score
        known = names.get(sides, "other") if sides[0] is not None and sides[1] is not None else "other"  # type: ignore[arg-type]
        counts[known] += 1
    n = sum(counts.values()) - counts["other"]
    return {**counts, "n": n} if n else None


def view_gaps(found: Comparison, levels: Sequence[tuple[Change, str]]) -> list[Context]:
    """Ability minus chat, on both sides, of each of the groups `levels` (with its name) that both views have; of greedy
    answers where there are any."""
    if any(c.decode_id == GREEDY for c, _ in levels):
        levels = [(c, name) for c, name in levels if c.decode_id == GREEDY]
    chat = {(c.kind, c.group, c.metric, c.decode_id): c for c in found.changes if c.view == "chat"}
    rows = []
    for c, name in levels:
        other = chat.get((c.kind, c.group, c.metric, c.decode_id))
        if other is not None:
            rows.append(
                {
                    "name": name,
                    "path": c.group.split("/")[0] + "/" if c.kind == "task_type_2" and "/" in c.group else "",
                    "level": 2 if c.kind == "task_type_2" else 1,
                    "base": (c.base, other.base, c.base - other.base),
                    "candidate": (c.candidate, other.candidate, c.candidate - other.candidate),
                }
            )
    return rows


def rate_table(changes: Sequence[Change]) -> Context:
    """Tasks by what became of their answers; only kinds that occur, only tasks where one does.

    `scale`: the share that a full bar stands for, one for the whole table.
    """
    tasks: dict[str, Change] = {}
    for c in changes:
        if c.kind == "task":
            tasks.setdefault(c.group, c)  # all metrics of a task were read off the same answers
    kinds = [
        k for k in _RATES if any(getattr(c.base_rates, k) or getattr(c.candidate_rates, k) for c in tasks.values())
    ]
    rows: list[Context] = []
    for task, c in tasks.items():
        cells = [(getattr(c.base_rates, k), getattr(c.candidate_rates, k)) for k in kinds]
        if any(a or b for a, b in cells):
            rows.append(
                {
                    "task": task,
                    "cells": [
                        {"kind": k, "base": a, "candidate": b, "many": _most(a, b) > MANY and k not in _HARMLESS}
                        for k, (a, b) in zip(kinds, cells, strict=True)
                    ],
                }
            )
    rows.sort(key=lambda r: -max(_most(cell["candidate"]) for cell in r["cells"]))
    largest = max((_most(cell["base"], cell["candidate"]) for r in rows for cell in r["cells"]), default=0.0)
    scale = next(s for s in _SCALES if largest <= s + 1e-9)
    return {"kinds": kinds, "rows": rows, "scale": scale, "clean": len(tasks) - len(rows), "tasks": len(tasks)}


def _most(*shares: float | None) -> float:
    """The largest; a share that was not looked for counts as none."""
    return max(s or 0.0 for s in shares)


def leak_table(found: Comparison, listed: Sequence[Change]) -> Context | None:
    """Changes with and without the items that stand in the training data; None where none was found.

    listed: the changes to show, in order; those that the leaks do not touch are left out.
    """
    if not found.leaks:
        return None
    without = {(c.kind, c.group, c.view, c.metric, c.decode_id): c for c in found.without_leaks}
    rows = []
    for c in listed:
        other = without.get((c.kind, c.group, c.view, c.metric, c.decode_id))
        if other is None or other.n != c.n:
            rows.append({"change": c, "rest": other, "level": 2 if c.kind == "task_type_2" else 1})
    ranked = sorted(found.leaks, key=lambda x: (_STRENGTH.get(x.how, 3), -x.overlap, str(x.key)))
    return {
        "n": len(found.leaks),
        "rows": rows,
        "items": [
            {
                "item": str(x.key),
                "how": x.how,
                "overlap": x.overlap,
                "where": x.where,
                "excerpt": one_line(x.excerpt, 160),
            }
            for x in ranked[:_LEAKS_LISTED]
        ],
    }


def views_of(pairs: Sequence[Pair]) -> dict[tuple[View, str], list[Pair]]:
    """Pairs by view and decoding, in the order they come."""
    found: dict[tuple[View, str], list[Pair]] = {}
    for p in pairs:
        found.setdefault((p.view, p.decode_id), []).append(p)
    return found


def moves(scores: Sequence[float | None]) -> float | None:
    """From the first known score to the last one; None with fewer than two."""
    known = [s for s in scores if s is not None and math.isfinite(s)]
    return known[-1] - known[0] if len(known) > 1 else None
