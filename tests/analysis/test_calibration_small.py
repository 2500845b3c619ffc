"""A small version of `make calibration`: 8 of its 40 cells, fewer comparisons, the same limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.calibration import Result, Size, cells, changes, missed, simulate
from benchmarks.calibration_cells import Cell, blocked, guards, pool, population
from benchmarks.calibration_loss import loss_coverage
from benchmarks.calibration_table import document
from forgetbench.analysis.paired import ClusterEstimator, interval
from forgetbench.gate.policy import resolve_policy
from forgetbench.gate.verdict import decide
from tests.analysis.made import toy

pytestmark = [pytest.mark.unit, pytest.mark.slow]

SIZE = Size(families=200, covered=4_000, full=400, draws=400)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    found = [simulate(cell, delta, SIZE) for cell in cells(quick=True) for delta in changes(cell)]
    return [r for r in found if r is not None]


def test_every_limit_is_kept(results: list[Result]) -> None:
    assert len(results) == 24
    assert missed(results) == []


def test_false_passes_and_simultaneous_bounds(results: list[Result]) -> None:
    """A whole margin lost is passed at most alpha of the time."""
    noise = 3 * (0.05 * 0.95 / 400) ** 0.5
    assert max(r.passes for r in results if r.delta == -r.cell.margin) <= 0.05 + noise
    assert min(r.simultaneous for r in results) >= 0.95 - 3 * (0.05 * 0.95 / 200) ** 0.5


def test_a_miss_is_seen(results: list[Result]) -> None:
    good = results[0]
    assert "covers 93.90" in missed([replace(good, coverage=0.939)])[0]
    assert any("twenty: blocked by mistake" in x for x in missed([replace(good, block_twenty=0.12)]))
    assert any("one: blocked by mistake" in x for x in missed([replace(good, block_one=0.06)]))
    assert any("computed" in x for x in missed([replace(good, passes=good.passes_computed - 0.08)]))


def test_table_shows_every_cell(results: list[Result]) -> None:
    text = document(
        results, [loss_coverage("nothing changed", 2, 20)], ["a line"], command="x", draws=1, covered=3, full=2
    )
    assert text.count("| 1 | 1,319 | half the margin lost |") == 6
    assert "MISSED: a line" in text
    assert f"{100 * min(r.coverage for r in results):.1f} %" in text


@pytest.mark.parametrize("samples", [1, 10])
def test_shortcuts_say_what_the_estimators_say(samples: int) -> None:
    """The simulation asks the bootstrap only where it must: the answers are those of the bounds themselves."""
    cell = Cell(164, 0.2, samples)
    law = population(cell, -0.025)
    assert law is not None
    assert law.shares.sum() == pytest.approx(1.0)
    assert law.shares @ law.values == pytest.approx(-0.025)
    drawn = np.random.default_rng(0).multinomial(164, law.shares, size=120)
    for c in pool(cell, drawn, law.values, draws=300, nulls=(-0.08, -0.025, -0.05)):
        fit = c.fit  # type: ignore[attr-defined]
        both = interval(fit)
        for value in (-0.08, -0.025, 0.0):
            assert c.covers(value) == (both.low <= value <= both.high)
            assert c.holds(value, 0.05) == (fit.upper(0.05) >= value)
            assert c.rejects(value, 0.05) == (fit.p_at_least(value) <= 0.05)
        assert c.passes(0.05) == (fit.lower(0.05) > -0.05)
    if samples > 1:
        for row, known in zip(drawn, guards(cell, drawn, law.values, (-0.03, 0.0)), strict=True):
            fit = ClusterEstimator.of_counts(law.values, row, draws=10)
            for null, both_p in known.items():
                assert both_p == pytest.approx((fit.guard_p_at_least(null), fit.guard_p_at_most(null)), abs=1e-9)


@pytest.mark.parametrize(("forgotten", "gained"), [(20, 20), (40, 10), (24, 16), (30, 14), (6, 1), (60, 58)])
def test_blocked_is_the_gates_verdict(forgotten: int, gained: int) -> None:
    """One required rule with a margin of 5 points on a table of 541 items."""
    cell = Cell(541, 0.2, 1)
    counts = np.array([[forgotten, 541 - forgotten - gained, gained]])
    family = list(pool(cell, counts, np.array([-1.0, 0.0, 1.0]), draws=100))
    rules = {"name": "p", "rules": [{"name": "toy", "task": "toy", "margin": 5.0}]}
    from forgetbench.gate.policy import TaskFacts

    policy = resolve_policy(rules, {"toy": TaskFacts(541)})
    verdict = decide({"base": toy(forgotten, gained, 541)}, policy)
    assert (verdict.state == "FAIL") == blocked(family, -0.025, 0.05)
