"""The lines that a comparison adds on expected loss, guesses and task_types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forgetbench.analysis.measures import measure_notes, warnings
from tests.analysis.made import compared, frame, sampled, table, toy

pytestmark = pytest.mark.unit


def _draw(rates: np.ndarray, seed: int, k: int = 5) -> list[list[float]]:
    return (np.random.default_rng(seed).random((rates.size, k)) < rates[:, None]).astype(float).tolist()


def test_sampled_tasks_tell_their_expected_loss() -> None:
    rates = np.random.default_rng(0).beta(0.5, 0.5, 200)
    left = np.where(np.arange(200) % 5 == 0, 0.0, rates)
    notes = compared(sampled(_draw(rates, 1)), sampled(_draw(left, 2))).notes
    (line,) = [n for n in notes if "expected loss" in n]
    assert line.startswith("toy (ability): expected loss ")
    loss = float(line.split("expected loss ")[1].split()[0])
    assert 6.0 < loss < 16.0  # the truth is 10
    assert "of the variance of single answers is noise" in line


def test_imported_rates_do_so_too_and_single_samples_do_not() -> None:
    rates = [0.2, 0.9, 0.5, 1.0] * 20
    right = [round(10 * r) for r in rates]
    columns = {"scores": "{}", "trials": 10.0, "decode_id": "T0.8/p1/K10"}
    side = frame(rates, successes=[float(r) for r in right], **columns)
    assert sum("expected loss" in n for n in compared(side, side).notes) == 1
    assert not any("expected loss" in n for n in toy(10, 5, 100).notes)
    clustered = frame(rates, successes=[float(r) for r in right], cluster=["a", "b"] * 40, **columns)
    assert not any("expected loss" in n for n in compared(clustered, clustered).notes)  # its items are not independent


def test_multiple_choice_tells_what_guesses_leave_open() -> None:
    (line,) = [n for n in toy(40, 20, 400, n_choices=4.0).notes if "guesses" in n]
    # F = .1, both wrong = 170/400: F_LC = .1/.75 - .425/.75^2/4 = -.056, F_true = .1 - .525 * .475 / 3.
    assert "0.0 to 13.3 % of the items forgotten once guesses are allowed for" in line
    assert "F_true 1.7 %" in line
    assert not any("guesses" in n for n in toy(40, 20, 400).notes)


def test_warnings_hold_the_false_discovery_rate() -> None:
    base, candidate = [], []
    types: list[str] = []
    for i, lost in enumerate((40, 12, 10, 9, 8)):
        b, s = table(lost, 10, 200)
        base += b
        candidate += s
        types += [f"reasoning/type{i}"] * 200
    found = compared(frame(base, task_type=types), frame(candidate, task_type=types))
    (line,) = warnings(found.changes)
    assert line in found.notes
    assert line.startswith("warning (ability): 1 of 5 task_types lost")
    assert line.endswith("reasoning/type0 -15.0")
    assert warnings(toy(60, 0, 200).changes) == []  # one task_type alone is the task itself
    # The same task_types sampled too: no line counts them twice, and without greedy answers the samples speak.
    again = [replace(c, decode_id="T0.7/p1/K3") for c in found.changes]
    assert warnings([*again, *found.changes]) == [line]
    assert warnings(again) == [line]
    gained = compared(frame(candidate, task_type=types), frame(base, task_type=types))
    assert warnings(gained.changes) == []


def test_nothing_to_say() -> None:
    assert measure_notes([], []) == []
    infra = frame([1.0, 0.0], outcome="infra_error", n_choices=4.0)
    assert not any("guesses" in n for n in compared(infra, infra).notes)
