"""Forest plot of changes as inline SVG: one small drawing per table row.

A row is a table row first (label, scores, change as text) and a drawing second, so that it reads aloud,
prints, and folds on a phone. Positions are percentages of the cell's width: the drawing stretches without
distorting marks or type, and needs no script. No `style` attributes: the page's security policy forbids them.

Colour never speaks alone: gained is a triangle pointing up, lost one pointing down, no proven change a ring,
and the row says the same in words and signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

ROW_HEIGHT = 27
_MARKS = {
    "gained": "M0,-5.5 L5.5,4.5 L-5.5,4.5 Z",
    "lost": "M0,5.5 L5.5,-4.5 L-5.5,-4.5 Z",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis of changes, in fractions of 1 (0.05 is 5 points)."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def percent(self, value: float) -> float:
        """Position in per cent of the width, held inside the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


def scale_for(values: Iterable[float | None]) -> Scale:
    """An axis that holds zero and all finite values, with at most 7 round ticks."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    low, high = min([0.0, *known]), max([0.0, *known])
    low, high = max(low, -1.0), min(high, 1.0)
    if high - low < 0.02:  # nothing moved: a narrow axis would make noise look like news
        low, high = min(low, -0.01), max(high, 0.01)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 6 or s == 0.5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)  # a bound on a tick needs no further one
    pad = step * 0.15  # room for the half of a mark that sits on the outermost tick
    ticks = tuple(round(i * step, 6) for i in range(first, last + 1))
    return Scale(ticks[0] - pad, ticks[-1] + pad, ticks)


def _number(value: float) -> str:
    if value == 0:
        return "0"
    text = f"{abs(value) * 100:.1f}".removesuffix(".0")
    return f"{'+' if value > 0 else chr(0x2212)}{text}"


def _line(x1: float, y1: str, x2: float, y2: str, css: str) -> str:
    return f'<line class="{css}" x1="{x1}%" y1="{y1}" x2="{x2}%" y2="{y2}"/>'


def axis(scale: Scale) -> Markup:
    """Tick labels in points. They stand in the same cell width as the rows below."""
    text = "".join(
        f'<text class="f-tick" x="{scale.percent(t)}%" y="12" text-anchor="middle">{_number(t)}</text>'
        for t in scale.ticks
    )
    return Markup(f'<svg class="f-axis" width="100%" height="16" aria-hidden="true" focusable="false">{text}</svg>')


def row(
    scale: Scale,
    *,
    delta: float,
    low: float,
    high: float,
    lower: float | None = None,
    direction: str,
    margin: float | None = None,
    required: bool = True,
) -> Markup:
    """One change with its interval; left of -margin the ground is tinted: that much loss is not acceptable.

    `lower` is the one-sided bound that PASS is decided on, drawn as a small tick on rows that have a rule.
    """
    middle = ROW_HEIGHT / 2
    parts: list[str] = []
    if margin is not None:
        edge = scale.percent(-margin)
        if required:
            parts.append(f'<rect class="f-zone" x="0" y="0" width="{edge}%" height="100%"/>')
        parts.append(_line(edge, "0", edge, "100%", "f-margin" if required else "f-margin f-advisory"))
    parts.extend(
        _line(scale.percent(t), "0", scale.percent(t), "100%", "f-zero" if t == 0 else "f-grid") for t in scale.ticks
    )
    if math.isfinite(low) and math.isfinite(high):
        parts.append(_line(scale.percent(low), f"{middle}", scale.percent(high), f"{middle}", f"f-bar f-{direction}"))
    if margin is not None and lower is not None and math.isfinite(lower):
        at = scale.percent(lower)
        parts.append(_line(at, f"{middle - 5}", at, f"{middle + 5}", f"f-bound f-{direction}"))
    if math.isfinite(delta):
        if direction in _MARKS:
            mark = f'<path class="f-mark f-{direction}" d="{_MARKS[direction]}"/>'
        else:
            mark = f'<circle class="f-mark f-{direction}" r="4.2"/>'
        # A nested svg is what lets a path sit at a percentage.
        parts.append(f'<svg class="f-at" x="{scale.percent(delta)}%" y="{middle}" overflow="visible">{mark}</svg>')
    return Markup(
        f'<svg class="f-row" width="100%" height="{ROW_HEIGHT}" aria-hidden="true" focusable="false">'
        + "".join(parts)
        + "</svg>"
    )


def mark(direction: str) -> Markup:
    """The same mark alone, for legends and lists."""
    if direction in _MARKS:
        shape = f'<path class="f-mark f-{direction}" d="{_MARKS[direction]}"/>'
    else:
        shape = f'<circle class="f-mark f-{direction}" r="4.2"/>'
    return Markup(
        '<svg class="f-key" width="13" height="13" viewBox="-6.5 -6.5 13 13" aria-hidden="true"'
        f' focusable="false">{shape}</svg>'
    )
