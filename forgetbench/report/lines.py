"""Small drawings for table cells as inline SVG: the line along a chain, two views of a score, two rates.

As in `svg.py`: the figures stand in the cells beside them, so a drawing is hidden from screen readers; shapes
differ where colours do; no `style` attributes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT, _PAD = 132, 30, 5
_DIAMOND = '<path class="l-chat" d="M0,-5.5 L5.5,0 L0,5.5 L-5.5,0 Z"/>'


def _svg(css: str, width: str, height: int, parts: Sequence[str], box: str = "") -> Markup:
    return Markup(
        f'<svg class="{css}" width="{width}" height="{height}"{box} aria-hidden="true" focusable="false">'
        + "".join(parts)
        + "</svg>"
    )


def _place(score: float) -> float:
    """y of a score between 0 and 1; the axis is the same in every row, so that rows can be compared."""
    return round(_HEIGHT - _PAD - min(1.0, max(0.0, score)) * (_HEIGHT - 2 * _PAD), 1)


def spark(scores: Sequence[float | None]) -> Markup:
    """One ability along base, v1, v2, from 0 (lower rule) to 1 (upper rule).

    A score that is not known leaves its place empty; the line leads on dashed from the one before it.
    """
    step = (_WIDTH - 2 * _PAD) / max(1, len(scores) - 1)
    points = [
        (round(_PAD + i * step, 1), _place(s)) if s is not None and math.isfinite(s) else None
        for i, s in enumerate(scores)
    ]
    parts = [f'<line class="l-rule" x1="0" y1="{y}" x2="{_WIDTH}" y2="{y}"/>' for y in (_place(0.0), _place(1.0))]
    known = [(i, p) for i, p in enumerate(points) if p is not None]
    for (i, (x1, y1)), (j, (x2, y2)) in itertools.pairwise(known):
        css = "l-line" if j == i + 1 else "l-line l-bridge"
        parts.append(f'<line class="{css}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    last = known[-1][0] if known else -1
    for i, (x, y) in known:
        parts.append(f'<circle class="{"l-last" if i == last else "l-dot"}" cx="{x}" cy="{y}" r="3"/>')
    return _svg("l-spark", str(_WIDTH), _HEIGHT, parts, f' viewBox="0 0 {_WIDTH} {_HEIGHT}"')


def dumbbell(ability: float, chat: float) -> Markup:
    """Two views of one score between 0 and 1: a ring for ability, a diamond for chat, a bar between them."""
    a, b = (round(100 * min(1.0, max(0.0, x)), 1) for x in (ability, chat))
    middle = 11
    parts = [
        f'<line class="l-rule" x1="0%" y1="{middle}" x2="100%" y2="{middle}"/>',
        f'<line class="l-gap{" l-behind" if chat < ability else ""}" x1="{a}%" y1="{middle}" x2="{b}%" y2="{middle}"/>',
        f'<circle class="l-ability" cx="{a}%" cy="{middle}" r="4.2"/>',
        # A nested svg is what lets a path sit at a percentage.
        f'<svg x="{b}%" y="{middle}" overflow="visible">{_DIAMOND}</svg>',
    ]
    return _svg("l-dumbbell", "100%", 22, parts)


def bars(base: float | None, candidate: float | None, scale: float) -> Markup:
    """Two shares as bars, the base's above and thinner; a full bar is `scale`."""
    before, after = (round(100 * min(1.0, max(0.0, (x or 0.0) / scale)), 1) for x in (base, candidate))
    parts = [
        f'<rect class="l-before" x="0" y="2" width="{before}%" height="4"/>',
        f'<rect class="l-after" x="0" y="7" width="{after}%" height="7"/>',
        '<line class="l-foot" x1="0.5" y1="0" x2="0.5" y2="16"/>',
    ]
    return _svg("l-bars", "100%", 16, parts)


def ring() -> Markup:
    """The mark of the ability view, for legends."""
    return _key('<circle class="l-ability" r="4.2"/>')


def diamond() -> Markup:
    """The mark of the chat view, for legends."""
    return _key(_DIAMOND)


def _key(shape: str) -> Markup:
    return Markup(
        '<svg class="f-key" width="13" height="13" viewBox="-6.5 -6.5 13 13" aria-hidden="true"'
        f' focusable="false">{shape}</svg>'
    )
