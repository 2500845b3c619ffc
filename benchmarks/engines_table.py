"""Figures to rows: medians, ratios with their range, met or missed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach."""

    text: str
    limit: float | None = None
    at_least: bool = True

    def verdict(self, figure: float) -> str:
        if self.limit is None:
            return ""
        return "met" if (figure >= self.limit) is self.at_least or figure == self.limit else "MISSED"


@dataclass(frozen=True, slots=True)
class TableRow:
    measure: str
    bar: Bar
    figure: float | None
    """None: not measured, and `note` says why."""
    low: float | None = None
    high: float | None = None
    note: str = ""


def ratio_row(measure: str, bar: Bar, ours: Sequence[float], theirs: Sequence[float], note: str = "") -> TableRow:
    """Their median time over ours; the range is that of pairs of runs that stood side by side."""
    pairs = [b / a for a, b in zip(ours, theirs, strict=True)]
    figure = statistics.median(theirs) / statistics.median(ours)
    times = f"{statistics.median(theirs):.1f} s against {statistics.median(ours):.1f} s"
    return TableRow(measure, bar, figure, min(pairs), max(pairs), f"{times}{note}")


def render(rows: Sequence[TableRow]) -> str:
    lines = ["| measure | bar | figure | range | | notes |", "|---|---|---|---|---|---|"]
    for row in rows:
        figure = "not measured" if row.figure is None else f"{row.figure:.3g}"
        span = "" if row.low is None or row.high is None else f"{row.low:.3g} to {row.high:.3g}"
        verdict = "" if row.figure is None else row.bar.verdict(row.figure)
        lines.append(f"| {row.measure} | {row.bar.text} | {figure} | {span} | {verdict} | {row.note} |")
    return "\n".join(lines) + "\n"


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float = 1e-3) -> str | None:
    """None where both sides gave every item the same scores, else a line that says which differs first.

    Scores of 0 and 1 are equal or not; the tolerance is for mc2, a sum of probabilities of float32 logits.
    """
    if set(ours) != set(theirs):
        odd = sorted(set(ours) ^ set(theirs))
        return f"{len(odd)} items are on one side only, such as {odd[0]}"
    for key in sorted(ours):
        if set(ours[key]) != set(theirs[key]):
            return f"{key}: metrics {sorted(ours[key])} and {sorted(theirs[key])}"
        for name, value in ours[key].items():
            other = theirs[key][name]
            if not abs(value - other) <= tolerance:  # also where one is not a number
                return f"{key}: {name} is {value} here and {other} in lm-eval"
    return None
