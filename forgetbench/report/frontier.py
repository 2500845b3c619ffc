"""The frontier of `forgetbench ab` as inline SVG, as a file of its own, as one HTML page and as JSON. Computes nothing.

As in `svg.py`: positions are percentages of the width, so that the drawing stretches without distorting marks or type;
no script, no `style` attributes. Heights are pixels, so that labels at the right can make room for one another.

Form says what the gate said (triangle: acceptable; square: reaches the target score and does not pass; cross: does not
reach it; circle: the no-op), a hollow mark says beaten. Colour repeats it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from string import ascii_uppercase
from typing import Any

from markupsafe import Markup, escape

from forgetbench import __version__
from forgetbench.arms.frontier import Frontier, Stand
from forgetbench.report import numbers, page
from forgetbench.report.frontier_words import described, headline, in_words, reading, verdicts, where
from forgetbench.report.frontier_words import title as title_of
from forgetbench.report.svg import Scale, scale_for

STYLES = ("report.css", "frontier.css")
_HEIGHT = 400.0
"""Of the field, in pixels."""
_TOP, _FOOT = 26, 44
_GAP = 17.0
"""Pixels between two labels."""
_MARKS = {
    "pass": '<path d="M0,-7 L6.5,5 L-6.5,5 Z"/>',
    "held": '<rect x="-5" y="-5" width="10" height="10"/>',
    "short": '<path d="M-5,-5 L5,5 M5,-5 L-5,5"/>',
    "noop": '<circle r="5"/>',
    "base": '<path d="M0,-7 L7,0 L0,7 L-7,0 Z"/>',
}


def letters(count: int) -> list[str]:
    """A, B, ... Z, AA, AB, ...: what marks bear in the picture and rows in the table."""
    single = list(ascii_uppercase)
    return (single + [a + b for a in single for b in single])[:count]


def kind_of(stand: Stand) -> str:
    """Which mark an arm has."""
    if stand.noop:
        return "noop"
    return "pass" if stand.acceptable else "held" if stand.reaches else "short"


def mark(kind: str, *, beaten: bool = False) -> Markup:
    """A mark alone, for legends and tables."""
    return Markup(
        f'<svg class="f-key" width="16" height="16" viewBox="-8 -8 16 16" aria-hidden="true" focusable="false">'
        f'<g class="{_css(kind, beaten)}">{_MARKS[kind]}</g></svg>'
    )


def _css(kind: str, beaten: bool) -> str:
    return f"a-mark a-{kind}{' a-beaten' if beaten else ''}"


class _Field:
    """Where a pair of changes lies: x in per cent of the width, y in pixels."""

    def __init__(self, found: Frontier) -> None:
        spots = [spot for s in found.stands for path in s.paths for spot in path]
        level = [] if found.at is None else [found.at - found.base_target]
        # Intervals of three seeds can be many times as wide as what they are about: they are cut at the edge.
        self.xs = scale_for([*(s.target for s in spots), *level])
        self.ys = scale_for([s.general for s in spots])

    def x(self, value: float) -> str:
        return f"{self.xs.percent(value):g}%"

    def y(self, value: float) -> float:
        return round(_HEIGHT * (1.0 - self.ys.percent(value) / 100.0), 1)

    def line(self, css: str, start: tuple[float, float], end: tuple[float, float]) -> str:
        (x1, y1), (x2, y2) = start, end
        return f'<line class="{css}" x1="{self.x(x1)}" y1="{self.y(y1)}" x2="{self.x(x2)}" y2="{self.y(y2)}"/>'

    def at(self, x: float, y: float, inner: str) -> str:
        """A nested svg is what lets a path sit at a percentage."""
        return f'<svg x="{self.x(x)}" y="{self.y(y)}" overflow="visible">{inner}</svg>'


def drawing(found: Frontier) -> Markup:
    """The field with everything in it; it needs room at its left, right and foot (frontier.css)."""
    field = _Field(found)
    parts = [*_grid(field), *_level(found, field), *_labels(found, field), *_paths(found, field), *_front(found, field)]
    parts += [p for s in found.stands for p in _intervals(s, field)]
    parts += _marks(found, field)
    height = _TOP + _HEIGHT + _FOOT
    return Markup(
        f'<svg class="a-plot" width="100%" height="{height:g}" role="img" aria-label="{escape(described(found))}" '
        f'focusable="false"><svg x="0" y="{_TOP}" width="100%" height="{_HEIGHT:g}" overflow="visible">'
        f"{''.join(parts)}</svg></svg>"
    )


def _ticks(scale: Scale) -> list[tuple[float, str]]:
    return [(t, numbers.whole_points(t) if round(100 * t, 6) % 1 == 0 else numbers.points(t)) for t in scale.ticks]


def _grid(field: _Field) -> list[str]:
    parts = []
    for t, text in _ticks(field.xs):
        css = "f-zero" if t == 0 else "f-grid"
        parts.append(f'<line class="{css}" x1="{field.x(t)}" y1="0" x2="{field.x(t)}" y2="{_HEIGHT:g}"/>')
        at = f'x="{field.x(t)}" y="{_HEIGHT + 16:g}" text-anchor="middle"'
        parts.append(f'<text class="f-tick" {at}>{text}</text>')
    for t, text in _ticks(field.ys):
        css = "f-zero" if t == 0 else "f-grid"
        parts.append(f'<line class="{css}" x1="0" y1="{field.y(t)}" x2="100%" y2="{field.y(t)}"/>')
        parts.append(f'<text class="f-tick" x="-7" y="{field.y(t) + 4:g}" text-anchor="end">{text}</text>')
    foot = f'x="50%" y="{_HEIGHT + 36:g}" text-anchor="middle"'
    parts.append(f'<text class="a-axis" {foot}>target gained, points</text>')
    parts.append('<text class="a-axis" x="-38" y="-12">general ability, points</text>')
    return parts


def _paths(found: Frontier, field: _Field) -> list[str]:
    """Seeds along their checkpoints, from the base on (a no-op goes nowhere)."""
    parts = []
    for s in found.stands:
        css = f"a-path a-of-{kind_of(s)}"
        for path in () if s.noop else s.paths:
            places = [(0.0, 0.0), *((spot.target, spot.general) for spot in path)]
            parts += [field.line(css, a, b) for a, b in itertools.pairwise(places)]
            parts += [f'<circle class="a-dot" cx="{field.x(x)}" cy="{field.y(y)}" r="1.8"/>' for x, y in places[1:]]
    return parts


def _front(found: Frontier, field: _Field) -> list[str]:
    means = mean_points(found)
    places = [means[key] for key in found.front]
    return [field.line("a-front", a, b) for a, b in itertools.pairwise(places)]


def mean_points(found: Frontier) -> dict[tuple[str, str], tuple[float, float]]:
    """(arm, label) -> (target, general) of the means over seeds; the base is ('', 'base')."""
    means = {("", "base"): (0.0, 0.0)}
    for s in found.stands:
        for spots in zip(*s.paths, strict=True):
            n = len(spots)
            means[s.arm, spots[0].label] = (sum(p.target for p in spots) / n, sum(p.general for p in spots) / n)
    return means


def _level(found: Frontier, field: _Field) -> list[str]:
    if found.at is None:
        return []
    x = found.at - found.base_target
    share = field.xs.percent(x)
    anchor, shift = ("end", -5) if share > 60 else ("start", 5)
    text = f'<text class="a-axis" x="{field.x(x)}" dx="{shift}" y="-12" text-anchor="{anchor}">'
    return [
        f'<line class="a-level" x1="{field.x(x)}" y1="-8" x2="{field.x(x)}" y2="{_HEIGHT:g}"/>',
        f"{text}matched at {numbers.points(x)}</text>",
    ]


def _intervals(stand: Stand, field: _Field) -> list[str]:
    x, y = stand.target.value, stand.general.value
    css = f"a-bar a-of-{kind_of(stand)}"
    across, up = stand.target.both, stand.general.both
    return [field.line(css, (across.low, y), (across.high, y)), field.line(css, (x, up.low), (x, up.high))]


def _marks(found: Frontier, field: _Field) -> list[str]:
    parts = [field.at(0.0, 0.0, f'<g class="{_css("base", False)}">{_MARKS["base"]}</g>')]
    for s in found.stands:
        kind = kind_of(s)
        css = _css(kind, bool(found.beaten_by(s.arm)))
        told = f"<title>{escape(in_words(s))}</title>"
        parts.append(field.at(s.target.value, s.general.value, f'<g class="{css}">{told}{_MARKS[kind]}</g>'))
    return parts


def _labels(found: Frontier, field: _Field) -> list[str]:
    """At the right edge letters and names, moved apart where they would meet, each with a line to its mark."""
    rows = [(field.y(0.0), 0.0, "", "base")]
    for letter, s in zip(letters(len(found.stands)), found.stands, strict=True):
        rows.append((field.y(s.general.value), s.target.value, letter, s.arm))
    rows.sort(key=lambda r: (r[0], r[2]))
    parts = []
    for y, (own, x, letter, name) in zip(spread([r[0] for r in rows]), rows, strict=True):
        parts.append(f'<line class="a-lead" x1="{field.x(x)}" y1="{own}" x2="100%" y2="{y:g}"/>')
        told = f'<tspan class="a-letter">{letter or name}</tspan>'
        if letter:
            told += f'<tspan class="a-name" dx="5">{escape(_cut(name))}</tspan>'
        parts.append(f'<text class="a-label" x="100%" dx="5" y="{y + 4:g}">{told}</text>')
    return parts


def _cut(name: str, most: int = 20) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def spread(wanted: Sequence[float], gap: float = _GAP, low: float = 0.0, high: float = _HEIGHT) -> list[float]:
    """Heights at least `gap` apart, in the order of `wanted` (ascending) and near it; more than fit go below `high`.

    Labels that meet are gathered into blocks, each centred on the mean of what its members want.
    """
    blocks: list[tuple[float, int]] = []  # middle of the first label if the block lay where it wants, members
    for y in wanted:
        blocks.append((y, 1))
        while len(blocks) > 1 and blocks[-2][0] + blocks[-2][1] * gap > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + (b - n * gap) * m) / (n + m), n + m)]
    placed: list[float] = []
    for start, n in blocks:
        placed += [start + i * gap for i in range(n)]
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], high - (len(placed) - 1 - i) * gap)
    for i, y in enumerate(placed):
        placed[i] = max(y, low + i * gap)
    return [round(y, 1) for y in placed]


def standalone(found: Frontier, title: str = "") -> str:
    """The picture as an SVG file that follows the reader's light or dark setting."""
    style = page.assets(["frontier.css"])
    width, left, right, above = 860, 62, 176, 34 if title else 8
    height = above + _TOP + _HEIGHT + _FOOT
    head = f'<text class="a-title" x="16" y="22">{escape(title)}</text>' if title else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="a-alone" width="{width}" height="{height:g}" '
        f'viewBox="0 0 {width} {height:g}"><style>{escape(style)}</style>'
        f'<rect class="a-ground" width="100%" height="100%"/>{head}'
        f'<svg x="{left}" y="{above}" width="{width - left - right}" height="{height - above:g}" overflow="visible">'
        f"{drawing(found)}</svg></svg>\n"
    )


def document(found: Frontier, failed: Mapping[str, str]) -> dict[str, Any]:
    """Everything as plain JSON values, with the figures that follow from others."""
    told = asdict(found)
    for row, s in zip(told["stands"], found.stands, strict=True):
        row |= {"acceptable": s.acceptable, "beaten_by": list(found.beaten_by(s.arm))}
    return {
        **told,
        "acceptable": list(found.acceptable),
        "unbeaten": list(found.unbeaten),
        "failed": dict(failed),
        "headline": headline(found),
        "reading": reading(found, failed),
    }


def render(found: Frontier, *, title: str, seeds: Sequence[int], failed: Mapping[str, str], banner: str = "") -> str:
    """The page as text: no script, nothing loaded. `seeds`: of the paths. `failed`: arms left out, with why."""
    style = page.assets(STYLES)
    environment = page.environment()
    environment.filters.update(points=numbers.points, score=numbers.score, interval=numbers.interval, rate=numbers.rate)
    environment.globals.update(mark=mark, where=where, verdicts=verdicts, kind_of=kind_of)
    return environment.get_template("frontier.html.j2").render(
        found=found,
        rows=list(zip(letters(len(found.stands)), found.stands, strict=True)),
        pairs=[v for i, v in enumerate(found.versus) if not any(_same(v, w) for w in found.versus[:i])],
        seeds=list(seeds),
        title=title,
        banner=banner,
        verdict=title_of(found),
        headline=headline(found),
        reading=reading(found, failed),
        picture=drawing(found),
        style=Markup(style),
        policy=page.content_security_policy(style),
        version=__version__,
    )


def _same(a: Any, b: Any) -> bool:
    return {a.arm, a.other} == {b.arm, b.other}
