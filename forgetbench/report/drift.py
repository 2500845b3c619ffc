"""What `drift` found as a heat map, as one HTML file, and as JSON. Computes nothing.

The heat map is inline SVG with positions in per cent, as the report's other drawings are (`svg`): it stretches
without distorting type, needs no script, and takes its ink from the page, light or dark. Depth of ink is the change
relative to the matrix's own size: it says where, not whether that is bad, so it wears neither of the report's two hues.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup, escape

from forgetbench import __version__
from forgetbench.drift.reading import percent, times
from forgetbench.drift.types import Bounds, Drift, NewDirections, TensorDrift
from forgetbench.report import page

STYLES = ("report.css", "drift.css")
_PALEST, _DEEPEST = 0.05, 0.92
_LETTER = 6.3
"""Pixels that a letter of a column's label takes; labels that do not fit a phone stand upright."""
_PHONE = 330.0


def heat_maps(found: Drift) -> list[dict[str, Any]]:
    """One for each stack of layers: `name`, `svg`, `scale` (the change that the deepest ink stands for). Kinds that
    are no matrices (norms, biases) are left to the tables."""
    stacks: dict[str, list[TensorDrift]] = {}
    for t in found.tensors:
        if t.place.layer is not None and len(t.shape) > 1:
            stacks.setdefault(t.place.stack, []).append(t)
    return [
        {"name": stack, "svg": _heat_map(stack, members), "scale": _scale(members), "swatches": _swatches(members)}
        for stack, members in stacks.items()
    ]


def render(found: Drift) -> str:
    """The page as text: no script, nothing loaded."""
    style = page.assets(STYLES)
    environment = page.environment()
    environment.filters.update(percent=share, rank=rank, bounds=bounds, size=size, times=times, directions=directions)
    return environment.get_template("drift.html.j2").render(
        found=found,
        maps=heat_maps(found),
        style=Markup(style),
        policy=page.content_security_policy(style),
        version=__version__,
        columns=columns(),
    )


def document(found: Drift) -> dict[str, Any]:
    """Everything as plain JSON values, with the figures that follow from others."""
    told = asdict(found)
    for row, t in zip(told["tensors"], found.tensors, strict=True):
        row |= {"relative": t.relative, "parameters": t.parameters}
    for row, rows in zip(told["tokens"], found.tokens, strict=True):
        row["ratio"] = rows.ratio
    return told


def share(value: float | None) -> str:
    """A share as per cent; a base of zeros has none."""
    return "from zero" if value is None else percent(value)


def size(value: float | None) -> str:
    """A norm with three significant figures."""
    return "" if value is None else f"{value:.3g}"


def rank(value: float | None) -> str:
    """A rank: whole above 100, else three figures."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def bounds(value: Bounds | None, digits: str = "rank") -> str:
    """A figure, with its interval where it is not exact."""
    if value is None:
        return ""
    form = rank if digits == "rank" else size
    point, low, high = form(value.value), form(value.low), form(value.high)
    return point if low == high else f"{point} ({low} to {high})"


def directions(value: NewDirections | None) -> str:
    """`2 of 10`, and how many are open."""
    if value is None:
        return ""
    return f"{value.new} of {value.asked}" + (f", {value.open} open" if value.open else "")


def _scale(members: Sequence[TensorDrift]) -> float:
    return max((t.relative for t in members if t.relative is not None), default=0.0)


def _swatches(members: Sequence[TensorDrift]) -> list[tuple[Markup, str]]:
    """A key of five: ink and what it stands for."""
    top = _scale(members)
    found = []
    for i in range(5):
        value = top * i / 4
        box = f'<rect class="d-cell" width="18" height="12" fill-opacity="{_ink(value, top)}"/>'
        drawn = Markup(f'<svg class="d-key" width="18" height="12" aria-hidden="true">{box}</svg>')
        found.append((drawn, percent(value)))
    return found if top else found[:1]


def _ink(value: float, top: float) -> float:
    """Opacity of a cell; 0 only where nothing changed at all."""
    if value == 0.0 or top == 0.0:
        return 0.0
    return round(_PALEST + (_DEEPEST - _PALEST) * value / top, 3)


def _heat_map(stack: str, members: Sequence[TensorDrift]) -> Markup:
    layers = sorted({t.place.layer for t in members if t.place.layer is not None})
    kinds = sorted({t.place.kind for t in members}, key=_column)
    cells: dict[tuple[int, str], list[TensorDrift]] = {}
    for t in members:
        if t.place.layer is not None:
            cells.setdefault((t.place.layer, t.place.kind), []).append(t)
    top = _scale(members)
    height = 22 if len(layers) <= 12 else 15 if len(layers) <= 48 else 9
    every = 1 if len(layers) <= 12 else 4
    width = 100.0 / len(kinds)
    names = [_short(kind) for kind in kinds]
    upright = any(len(name) * _LETTER > _PHONE / len(kinds) for name in names)
    head = 20 + (max(len(n) for n in names) * _LETTER + 8 if upright else 18)
    parts = _headings(kinds, names, width, head, upright=upright)
    for row, layer in enumerate(layers):
        y = head + row * height
        if row % every == 0:
            parts.append(f'<text class="d-label" x="-8" y="{y + height / 2 + 4}" text-anchor="end">{layer}</text>')
        for column, kind in enumerate(kinds):
            parts.append(_cell(cells.get((layer, kind)), column * width, y, width, height, top))
    told = f"Change of each matrix relative to its size, {stack}, {len(layers)} layers by {len(kinds)} kinds"
    return Markup(
        f'<svg class="d-map" width="100%" height="{head + len(layers) * height:g}" role="img" '
        f'aria-label="{escape(told)}" focusable="false">{"".join(parts)}</svg>'
    )


def _headings(kinds: Sequence[str], names: Sequence[str], width: float, head: float, *, upright: bool) -> list[str]:
    """Column labels; the part of the name that neighbours share stands once above them."""
    parts: list[str] = []
    first = 0
    for i, kind in enumerate(kinds):
        x = f"{(i + 0.5) * width:.3f}%"
        name = escape(names[i])
        if upright:  # a nested svg is what lets a turned text sit at a percentage
            text = f'<text class="d-label" transform="rotate(-90)" y="4">{name}</text>'
            parts.append(f'<svg x="{x}" y="{head - 6:g}" overflow="visible">{text}</svg>')
        else:
            parts.append(f'<text class="d-label" x="{x}" y="{head - 6:g}" text-anchor="middle">{name}</text>')
        if i + 1 == len(kinds) or _module(kinds[i + 1]) != _module(kind):
            middle = f'x="{(first + i + 1) / 2 * width:.3f}%" y="12" text-anchor="middle"'
            parts.append(f'<text class="d-label d-module" {middle}>{escape(_module(kind))}</text>')
            first = i + 1
    return parts


def _cell(members: Sequence[TensorDrift] | None, x: float, y: float, width: float, height: int, top: float) -> str:
    place = f'x="{x:.3f}%" y="{y:g}" width="{width:.3f}%" height="{height}"'
    if not members:
        return ""
    delta = math.fsum(t.delta_norm**2 for t in members)
    base = math.fsum(t.base_norm**2 for t in members)
    value = math.sqrt(delta / base) if base else 0.0
    first = members[0]
    told = f"layer {first.place.layer}, {first.place.kind}: {share(value if base else None)}"
    if len(members) > 1:
        told += f" over {len(members)} tensors"
    elif first.spectrum is not None:
        told += (
            f"; |dW|₂ {bounds(first.spectrum.spectral, 'size')}, stable rank {bounds(first.spectrum.stable_rank)}, "
            f"effective rank {bounds(first.spectrum.effective_rank)}"
        )
    return f'<rect class="d-cell" {place} fill-opacity="{_ink(value, top)}"><title>{escape(told)}</title></rect>'


def _column(kind: str) -> tuple[int, str, int, str]:
    """Columns in the order in which a block computes: attention before MLP, q before k."""
    module, name = _module(kind), _short(kind)
    order = ("q", "k", "v", "o", "gate", "up", "down")
    return (0 if "att" in module else 1, module, order.index(name) if name in order else len(order), name)


def _module(kind: str) -> str:
    return kind.rpartition(".")[0].rpartition(".")[2]


def _short(kind: str) -> str:
    """`q` of `self_attn.q_proj`."""
    return kind.rpartition(".")[2].removesuffix("_proj")


def columns() -> Mapping[str, str]:
    """Heads of the tables of groups, with what each is, for the terminal and the page."""
    return {
        "change": "|dW|_F / |W|_F",
        "share": "of the whole |dW|_F^2",
        "largest |dW|₂": "largest singular value among its matrices",
        "stable rank": "median of |dW|_F^2 / |dW|_2^2",
        "effective rank": "median of exp(H(sigma / sum sigma))",
        "new directions": "leading left singular vectors that the base has nothing like",
    }
