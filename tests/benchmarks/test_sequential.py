"""The simulation behind docs/sequential.md: it stops where the program stops, and its laws are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.sequential import Cell, boundaries, fastest, law, level_cells, peeked, simulate, streams, too_high
from benchmarks.sequential_table import document
from forgetbench.analysis.betting import first_boundary

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "cell", [Cell(541, 0.1, -0.05), Cell(541, 0.2, -0.025, samples=10), Cell(1_319, 0.3, 0.0)], ids=str
)
def test_a_cell_has_the_change_and_the_discordance_that_it_says(cell: Cell) -> None:
    values, chances = law(cell)
    assert chances.min() >= 0.0
    assert chances.sum() == pytest.approx(1.0)
    assert chances @ values == pytest.approx(cell.delta, abs=1e-12)
    drawn = np.concatenate([d.ravel() for d in streams(cell, 400, 1)])
    assert drawn.mean() == pytest.approx(cell.delta, abs=4 * drawn.std() / math.sqrt(drawn.size))
    if cell.samples == 1:
        assert chances @ values**2 == pytest.approx(cell.psi)


def test_many_streams_stop_where_each_would() -> None:
    cell = Cell(541, 0.1, -0.04)
    (d,) = streams(cell, 60, 5)
    passes, fails = boundaries(d, cell.margin)
    for row, at_pass, at_fail in zip(d, passes, fails, strict=True):
        stop = first_boundary(row, np.ones(cell.n), margin=cell.margin)
        expected = "PASS" if at_pass < at_fail else "FAIL" if at_fail < at_pass else None
        assert stop == (expected, min(int(min(at_pass, at_fail)) + 1, cell.n))


def test_the_fastest_test_is_walds_where_it_is_known() -> None:
    """All or nothing: every item lost against half a margin; the growth of the best bet is the divergence."""
    cell = Cell(1_319, 1.0, -0.9)
    p = 0.95  # chance of a loss; the nearest law under the hypothesis has mean -.015, so a loss of .5075
    q = 0.5075
    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    values, chances = law(cell)
    found = fastest(cell, float(chances @ values**2) - cell.delta**2)
    assert found == pytest.approx(math.log(20) / divergence / cell.n, rel=1e-3)


def test_levels_hold_with_a_tenth_of_the_streams() -> None:
    for cell in (c for c in level_cells() if c.n == 541):
        rates = simulate(cell, 200)
        wrong = rates.passed if cell.delta == -cell.margin else rates.failed
        assert not too_high(wrong, 200), rates


def test_looking_at_a_fixed_test_is_found_out() -> None:
    assert too_high(peeked(1_319, 0.1, 20, 200), 200)


def test_the_table_says_what_was_missed() -> None:
    levels = [simulate(Cell(541, 0.1, delta), 20) for delta in (-0.05, -0.025)]
    gsm8k = [simulate(Cell(1_319, 0.1, delta), 20) for delta in (0.0, -0.05)]
    text = document(
        levels, gsm8k, gsm8k, [(0.1, 0.0, 0.01)], 0.2, [], ["a rate"], command="c", count=20, orders=1, seconds=1.0
    )
    assert "MISSED: a rate" in text
    assert "fastest possible 34.8 %" in text
    assert "| 541 | 5 | 1 | 10% |" in text
