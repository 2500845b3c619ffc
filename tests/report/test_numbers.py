"""Figures are written the same way everywhere: points with a sign, unknown is never zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forgetbench.analysis.types import Interval
from forgetbench.report import numbers
from tests.report.sample import change_of, make_pairs

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0341, "+3.4"), (-0.05, "−5.0"), (0.0004, "0.0"), (-0.0004, "0.0"), (None, "–"), (float("nan"), "–")],
)
def test_points(value: float | None, text: str) -> None:
    assert numbers.points(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0001, "< 0.1"), (0.0523, "5.2"), (1.0, "100.0"), (None, "–")]
)
def test_rate(value: float | None, text: str) -> None:
    assert numbers.rate(value) == text


def test_p_and_interval() -> None:
    assert numbers.p_value(0.0002) == "< 0.001"
    assert numbers.p_value(0.0213) == "0.021"
    assert numbers.interval(Interval(-0.031, 0.004)) == "−3.1 to +0.4"
    assert numbers.interval(None) == "–"


def test_direction_reads_the_interval() -> None:
    change = change_of("g", "task", make_pairs("t", "a/b", 100, 0.5, 0.5))
    assert numbers.direction(replace(change, interval=Interval(0.01, 0.2))) == "gained"
    assert numbers.direction(replace(change, interval=Interval(-0.2, -0.01))) == "lost"
    assert numbers.direction(replace(change, interval=Interval(-0.2, 0.01))) == "same"
    assert numbers.direction(replace(change, interval=Interval(float("nan"), float("nan")))) == "same"
