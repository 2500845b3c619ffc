"""pass@k of both sides as inline SVG: two lines with their bands over k, on a scale of doublings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 8, 22

Point = tuple[float, float, float]
"""Value, low, high."""


def pass_curve(ks: Sequence[int], base: Sequence[Point], candidate: Sequence[Point]) -> Markup:
    """The figures stand in the table beside it; hidden from screen readers."""
    last = max(ks)
    span = math.log2(last) or 1.0

    def x(k: int) -> float:
        return round(_LEFT + (math.log2(k) / span if last > 1 else 0.5) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(share: float) -> float:
        return round(_TOP + (1.0 - min(1.0, max(0.0, share))) * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = []
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<line class="l-rule" x1="{_LEFT}" y1="{y(share)}" x2="{_WIDTH - _RIGHT}" y2="{y(share)}"/>')
        parts.append(
            f'<text class="f-tick" x="{_LEFT - 6}" y="{y(share) + 4}" text-anchor="end">{100 * share:.0f}</text>'
        )
    for k in ks:
        if k & (k - 1) == 0 or k == last:
            parts.append(f'<text class="f-tick" x="{x(k)}" y="{_HEIGHT - 5}" text-anchor="middle">{k}</text>')
    for css, points in (("before", base), ("after", candidate)):
        there = " ".join(f"{x(k)},{y(p[2])}" for k, p in zip(ks, points, strict=True))
        back = " ".join(f"{x(k)},{y(p[1])}" for k, p in reversed(list(zip(ks, points, strict=True))))
        line = " ".join(f"{x(k)},{y(p[0])}" for k, p in zip(ks, points, strict=True))
        parts.append(f'<polygon class="c-band c-{css}" points="{there} {back}"/>')
        parts.append(f'<polyline class="c-line c-{css}" points="{line}"/>')
        value = points[-1][0]
        shape = (
            f'<circle class="c-mark c-{css}" cx="{x(last)}" cy="{y(value)}" r="3.5"/>'
            if css == "before"
            else f'<rect class="c-mark c-{css}" x="{x(last) - 3.5}" y="{y(value) - 3.5}" width="7" height="7"/>'
        )
        parts.append(shape)
    return Markup(
        f'<svg class="c-curve" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )


def cause_bar(parts: Sequence[dict[str, object]]) -> Markup:
    """One bar cut by cause; widths in per cent. Each part's number stands in the list below it."""
    made = "".join(
        f'<rect class="k-{p["cause"]}" x="{p["start"]}%" y="0" width="{p["width"]}%" height="16"/>' for p in parts
    )
    return Markup(f'<svg class="k-bar" width="100%" height="16" aria-hidden="true" focusable="false">{made}</svg>')
