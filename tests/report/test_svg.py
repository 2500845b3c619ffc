"""The drawing says what the figures say, and stays inside its cell."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.report import svg

pytestmark = pytest.mark.unit

changes = st.floats(-1, 1, allow_nan=False)


@given(st.lists(changes | st.none() | st.just(math.nan), max_size=20))
def test_scale_holds_zero_and_every_value_with_few_ticks(values: list[float | None]) -> None:
    scale = svg.scale_for(values)
    assert 2 <= len(scale.ticks) <= 8
    assert 0.0 in scale.ticks
    for v in values:
        if v is not None and not math.isnan(v):
            assert scale.low <= v <= scale.high
            assert 0 <= scale.percent(v) <= 100


def test_row_places_marks_by_value() -> None:
    scale = svg.Scale(-0.1, 0.1, (-0.1, 0.0, 0.1))
    drawn = svg.row(scale, delta=-0.05, low=-0.08, high=-0.02, lower=-0.075, direction="lost", margin=0.02)
    tree = ElementTree.fromstring(drawn)
    bar = next(e for e in tree if e.get("class") == "f-bar f-lost")
    assert (bar.get("x1"), bar.get("x2")) == ("10.0%", "40.0%")
    zone = next(e for e in tree if e.get("class") == "f-zone")
    assert zone.get("width") == "40.0%"
    assert next(e for e in tree if e.get("class") == "f-at").get("x") == "25.0%"
    assert "style=" not in drawn


def test_shapes_differ_by_direction() -> None:
    shapes = {d: re.sub(r"f-\w+", "", svg.mark(d)) for d in ("gained", "lost", "same")}
    assert len(set(shapes.values())) == 3


def test_unknown_interval_and_no_margin_draw_no_bar_and_no_zone() -> None:
    drawn = svg.row(svg.scale_for([]), delta=0.0, low=math.nan, high=math.nan, direction="same")
    assert "f-bar" not in drawn
    assert "f-zone" not in drawn
    assert "nan" not in drawn


def test_advisory_margin_tints_nothing() -> None:
    drawn = svg.row(svg.scale_for([0.1]), delta=0, low=-0.1, high=0.1, direction="same", margin=0.05, required=False)
    assert "f-advisory" in drawn
    assert "f-zone" not in drawn
