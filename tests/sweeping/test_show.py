"""What is said of a sweep: the finding, and everything that weakens it (1 s)."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest

from forgetbench.gate.types import State
from forgetbench.sweeping.bisect import Axis, Loss, bracket, contradictions
from forgetbench.sweeping.run import Result, Trial
from forgetbench.sweeping.show import document, sentences, table

pytestmark = pytest.mark.unit
AXIS = Axis(1e-6, 1e-2)


def trial(value: float | None, state: State, loss: float = 1.0) -> Trial:
    losses = {"copy": Loss(loss, loss - 0.5, loss + 0.5)}
    return Trial(f"lr-{value}", value, Path("out"), state, f"the reason at {value}", losses, "copy", 0.5, 0.0)


def result(*trials: Trial, is_open: bool = False) -> Result:
    points = [t.point for t in trials]
    found = bracket(AXIS, points), contradictions(AXIS, points)
    return Result("lr", AXIS, trials, None, trial(None, "FAIL", 90.0), *found, is_open)


def test_a_limit_between_two_values() -> None:
    found = result(trial(1e-6, "PASS", 0), trial(1e-2, "FAIL", 40), trial(1e-4, "PASS", 2))
    told = sentences(found)
    assert told[0] == "lr = 0.0001 is the farthest value found within the margin; 0.01 is not"
    assert "3 alpha" in told[-1]
    assert len(told) == 2


def test_an_undecided_limit_is_told_apart_from_a_bad_one() -> None:
    told = sentences(result(trial(1e-6, "PASS", 0), trial(1e-2, "INCONCLUSIVE", 4), is_open=True))
    assert any("0.01 is undecided, not proven bad" in line for line in told)
    assert any("the budget of points ended" in line for line in told)


def test_points_that_deny_the_assumption_are_named() -> None:
    told = sentences(result(trial(1e-6, "PASS", 4), trial(1e-2, "PASS", 0)))
    assert any("nearer to the safe end than 0.01, lost more of copy" in line for line in told)
    told = sentences(result(trial(1e-6, "PASS", 0), trial(1e-5, "FAIL", 1), trial(1e-4, "PASS", 1)))
    assert any("lr = 1e-05" in line and "failed where the farther one passed" in line for line in told)


@pytest.mark.parametrize(("state", "word"), [("FAIL", "beyond the margin"), ("INCONCLUSIVE", "undecided")])
def test_no_acceptable_value(state: State, word: str) -> None:
    found = result(trial(1e-6, state))
    assert (found.state, found.best) == (state, None)
    told = sentences(found)
    assert told[0] == f"no acceptable value: lr = 1e-06, the safe end, is {word} already"
    assert "the reason at 1e-06" in told[1]


def test_the_table_has_a_row_for_each_run_in_the_order_of_values() -> None:
    from rich.console import Console

    found = result(trial(1e-6, "PASS", 0), trial(1e-2, "FAIL", 40), trial(1e-4, "PASS", 2))
    console = Console(width=120, record=True, file=StringIO())
    console.print(table(found))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert [row[0] for row in rows[1:]] == ["target", "1e-06", "0.0001", "0.01"]
    assert rows[3][1] == "<"
    assert rows[4][-5:] == ["copy", "40.0", "39.5", "to", "40.5"]


def test_the_object_is_plain_json() -> None:
    found = result(trial(1e-6, "PASS", 0), trial(1e-2, "FAIL", 40))
    told = json.loads(json.dumps(document(found, 0), allow_nan=False))
    assert (told["value"], told["within"], told["beyond"], told["exit_code"]) == (1e-6, 1e-6, 1e-2, 0)
    assert told["trials"][1]["losses"] == {"copy": {"value": 40.0, "low": 39.5, "high": 40.5}}
    assert told["bounds"]["kept"] is None
    assert told["bounds"]["gained"]["state"] == "FAIL"
