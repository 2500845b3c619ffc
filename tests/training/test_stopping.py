"""When a run ends and with which checkpoint, from lines alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.errors import Exit
from forgetbench.training import stopping
from forgetbench.training.stopping import Rules, Trained

pytestmark = pytest.mark.unit
FINAL = Path("final")


def _judged(**states: str) -> list[dict[str, Any]]:
    return [
        {"kind": "retention", "step": int(k[1:]), "state": v, "deltas": {}, "reason": ""} for k, v in states.items()
    ]


def _held(losses: dict[int, float]) -> list[dict[str, Any]]:
    return [{"kind": "held_out", "step": s, "per_token": v, "per_sample": -v} for s, v in losses.items()]


GATED = Rules(judged_every=2)


@pytest.mark.parametrize(
    ("states", "step", "stopped", "exit_code"),
    [
        ({"s2": "PASS", "s4": "PASS"}, 4, False, Exit.PASS),
        ({"s2": "PASS", "s4": "INCONCLUSIVE"}, 2, False, Exit.PASS),
        ({"s2": "PASS", "s4": "FAIL"}, 2, True, Exit.REGRESSION),
        ({"s2": "FAIL"}, None, True, Exit.REGRESSION),
        ({"s2": "INCONCLUSIVE", "s4": "INCONCLUSIVE"}, None, False, Exit.INCONCLUSIVE),
        ({"s2": "INCONCLUSIVE", "s4": "FAIL"}, None, True, Exit.REGRESSION),
    ],
)
def test_the_last_accepted_checkpoint_is_the_result(
    states: dict[str, str], step: int | None, stopped: bool, exit_code: Exit
) -> None:
    lines = _judged(**states)
    assert stopping.chosen(lines, GATED) == step
    assert (stopping.stops(lines, GATED) is not None) == stopped
    found = stopping.outcome(lines, GATED, 4, FINAL)
    assert (found.step, found.exit_code, found.final) == (step, exit_code, None if step is None else FINAL)
    assert ("no acceptable checkpoint" in found.why) == (step is None)


def test_a_run_that_goes_on_ends_with_what_was_accepted_later() -> None:
    rules = Rules(judged_every=2, on_fail="go_on")
    lines = _judged(s2="PASS", s4="FAIL", s6="PASS", s8="FAIL")
    assert stopping.stops(lines, rules) is None
    found = stopping.outcome(lines, rules, 8, FINAL)
    assert (found.step, found.exit_code) == (6, Exit.PASS)
    assert stopping.outcome(_judged(s2="FAIL"), rules, 2, FINAL).exit_code is Exit.REGRESSION


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_patience_counts_evaluations_since_the_first_lowest_loss(values: list[int], patience: int) -> None:
    rules = Rules(patience=patience)
    lines = _held({10 * i: float(v) for i, v in enumerate(values, 1)})
    at = values.index(min(values))
    assert stopping.chosen(lines, rules) == 10 * (at + 1)
    assert (stopping.stops(lines, rules) is not None) == (len(values) - 1 - at >= patience)


def test_the_held_out_loss_is_of_the_kind_that_is_minimised_and_no_number_is_none() -> None:
    lines = _held({1: 2.0, 2: 1.0, 3: math.nan})
    assert stopping.chosen(lines, Rules(patience=1)) == 2
    assert stopping.chosen(lines, Rules(patience=1, measure="per_sample")) == 1
    assert stopping.chosen(_held({1: math.nan}), Rules(patience=1)) is None


def test_of_accepted_checkpoints_that_with_the_lowest_held_out_loss_is_the_result() -> None:
    rules = Rules(judged_every=2, patience=3)
    lines = [*_judged(s2="PASS", s4="PASS", s6="INCONCLUSIVE"), *_held({2: 3.0, 3: 0.5, 4: 4.0, 6: 1.0})]
    found = stopping.outcome(lines, rules, 6, FINAL)
    assert found.step == 2
    assert "lowest held-out loss" in found.why


def test_without_rules_the_last_step_is_the_result_whatever_was_logged() -> None:
    lines = [*_held({1: 1.0, 2: 9.0})]
    assert stopping.outcome(lines, Rules(), 7, FINAL) == Trained(FINAL, 7, 7, "7 steps")
    assert stopping.stops(lines, Rules()) is None


def test_the_last_step_is_judged_whatever_the_interval() -> None:
    assert [s for s in range(1, 12) if Rules(judged_every=4).judges(s, 11)] == [4, 8, 11]
    assert not Rules().judges(11, 11)


def test_an_explosion_is_far_above_the_median_of_the_last_steps() -> None:
    usual = [1.0] * 19
    assert stopping.explosion(1e9, usual, 100) is None, "too early to say what is usual"
    usual.append(3.0)
    assert stopping.explosion(99, usual, 100) is None
    found = stopping.explosion(250, usual, 100)
    assert found is not None
    assert "250" in found
    assert "250 times the median of the last 20 steps (1)" in found
    assert stopping.explosion(250, usual, None) is None
    for norm in (math.inf, math.nan):
        assert stopping.explosion(norm, [], None) == f"the gradient norm is {norm}"
    assert stopping.explosion(60, [5.0] * 101 + [0.5] * 100, 100) is not None, "only the last 100 count"
    assert stopping.explosion(60, [61.0] * 50 + [0.5] * 100, 100) is None, "a norm like it did no harm before"


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert stopping.read_result(tmp_path) is None
    for trained in (
        Trained(tmp_path / "final", 4, 6, "why", Exit.REGRESSION),
        Trained(None, None, 6, "no acceptable checkpoint", Exit.INCONCLUSIVE),
    ):
        stopping.write_result(tmp_path, trained)
        assert stopping.read_result(tmp_path) == trained
    (tmp_path / stopping.RESULT).write_text('{"final": ')
    assert stopping.read_result(tmp_path) is None
