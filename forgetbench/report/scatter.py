"""Scatter of answers, tokens against seconds, with the line of each side, as inline SVG.

As in `svg.py`: positions are percentages, so that the drawing stretches with its column and marks keep their
form; shapes and dashes differ where colours do; no `style` attributes; the figures stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from forgetbench.report.speed import amount, unit_of

_HEIGHT = 260
_TOP, _FOOT = 12, 22
"""Room above for half a mark, below for the labels of the ticks, in pixels."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Points = Sequence[tuple[int, float]]


def round_ticks(highest: float, most: int) -> tuple[float, ...]:
    """Round numbers from 0 to the first one at or above `highest`, at most `most` + 1 of them."""
    if highest <= 0:
        return (0.0, 1.0)
    scale = 10.0 ** math.floor(math.log10(highest / most))
    step = next(s * scale for s in _STEPS if highest / (s * scale) <= most + 1e-9)
    return tuple(i * step for i in range(math.ceil(highest / step - 1e-9) + 1))


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.4g}%"


class _Frame:
    """Where a value lies: 0 at the lower left, the last ticks at the upper right."""

    def __init__(self, points: Sequence[Points], lines: Sequence[tuple[float, float] | None]) -> None:
        every = [p for side in points for p in side]
        self.x_ticks = round_ticks(float(max(x for x, _ in every)), 5)
        # One answer that waited long would press all others flat: it is drawn at the upper edge. Both lines fit.
        seconds = sorted(y for _, y in every)
        usual = seconds[math.ceil(0.98 * (len(seconds) - 1))]
        ends = [
            line[0] + line[1] * (max(x for x, _ in side) - 1)
            for side, line in zip(points, lines, strict=True)
            if side and line is not None
        ]
        self.y_ticks = round_ticks(max([usual, *ends]), 5)

    def x(self, value: float) -> float:
        return value / self.x_ticks[-1]

    def y(self, value: float) -> float:
        return 1.0 - value / self.y_ticks[-1]

    def line(self, first: float, per_token: float, low: int, high: int) -> tuple[float, float, float, float]:
        """Ends of a line between two lengths."""
        ends = ((x, first + per_token * (x - 1)) for x in (low, high))
        (x1, y1), (x2, y2) = ((self.x(x), self.y(y)) for x, y in ends)
        return x1, y1, x2, y2


def scatter(points: Sequence[Points], lines: Sequence[tuple[float, float] | None]) -> Markup:
    """Base and candidate: `points` (tokens, seconds) and `lines` (first token, per further token) or None."""
    if not any(points):
        return Markup("")
    frame = _Frame(points, lines)
    unit, factor = unit_of(frame.y_ticks[-1])
    labels = [
        f'<text class="f-tick" x="-6" y="{_percent(frame.y(t))}" dy="4" text-anchor="end">{_tick(t * factor)}'
        f"{f' {unit}' if t == frame.y_ticks[-1] else ''}</text>"
        for t in frame.y_ticks
    ]
    for i, t in enumerate(frame.x_ticks):
        anchor = "end" if i == len(frame.x_ticks) - 1 else "middle"
        labels.append(
            f'<text class="f-tick" x="{_percent(frame.x(t))}" y="100%" dy="17" text-anchor="{anchor}">{_tick(t)}</text>'
        )
    grid = [
        f'<line class="f-grid" x1="0" y1="{_percent(frame.y(t))}" x2="100%" y2="{_percent(frame.y(t))}"/>'
        for t in frame.y_ticks[1:]
    ]
    grid.append('<line class="l-foot" x1="0" y1="100%" x2="100%" y2="100%"/>')
    marks = []
    for css, side in zip(("s-base", "s-candidate"), points, strict=True):
        dots = "".join(
            f'<circle cx="{_percent(frame.x(x))}" cy="{_percent(frame.y(y))}" r="{2.6 if css == "s-base" else 2}"/>'
            for x, y in side
        )
        marks.append(f'<g class="{css}">{dots}</g>')
    for css, side, line in zip(("s-base", "s-candidate"), points, lines, strict=True):
        if line is not None and side:
            x1, y1, x2, y2 = (_percent(v) for v in frame.line(*line, min(x for x, _ in side), max(x for x, _ in side)))
            marks.append(f'<line class="s-line {css}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    # A nested svg is what leaves room around percentages; the labels at its left stand in the figure's padding.
    inner = (
        f'<svg class="s-field" x="0" y="{_TOP}" width="100%" height="{_HEIGHT - _TOP - _FOOT}" overflow="visible">'
        f"{''.join(grid)}{''.join(marks)}{''.join(labels)}</svg>"
    )
    return Markup(
        f'<svg class="s-plot" width="100%" height="{_HEIGHT}" aria-hidden="true" focusable="false">{inner}</svg>'
    )


def _tick(value: float) -> str:
    """A round number without needless decimals."""
    text = amount(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def side_mark(side: str) -> Markup:
    """A dot on its line, for legends."""
    css = f"s-{side}"
    return Markup(
        '<svg class="f-key" width="26" height="13" viewBox="-13 -6.5 26 13" aria-hidden="true" focusable="false">'
        f'<line class="s-line {css}" x1="-13" y1="0" x2="13" y2="0"/><g class="{css}"><circle r="3"/></g></svg>'
    )
