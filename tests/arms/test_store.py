"""Grades on disk: what holds, what does not. Under a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forgetbench.arms import store
from forgetbench.arms.score import Cell, Grade

pytestmark = pytest.mark.unit

CELL = Cell("chat", "x/a", ("k0", "k1"), ("k0", "k0"), np.asarray([1.0, np.nan]), np.asarray([0.0, 0.25]))
GRADE = Grade((CELL,), "INCONCLUSIVE", "inconclusive: why")


def test_a_grade_comes_back_as_it_was(tmp_path: Path) -> None:
    store.save(tmp_path, tmp_path / "arm", "step 3", "c", "d", GRADE)
    found = store.load(tmp_path, tmp_path / "arm", "step 3", "c", "d")
    assert found is not None
    assert (found.state, found.reason) == (GRADE.state, GRADE.reason)
    (cell,) = found.cells
    assert (cell.view, cell.task_type, cell.keys, cell.clusters) == (
        CELL.view,
        CELL.task_type,
        CELL.keys,
        CELL.clusters,
    )
    np.testing.assert_array_equal(cell.base, CELL.base)
    np.testing.assert_array_equal(cell.candidate, CELL.candidate)


def test_what_it_was_made_with_has_to_be_the_same(tmp_path: Path) -> None:
    arm = tmp_path / "arm"
    store.save(tmp_path, arm, "step 3", "c", "d", GRADE)
    assert store.load(tmp_path, arm, "step 3", "other", "d") is None
    assert store.load(tmp_path, arm, "step 3", "c", "other") is None
    assert store.load(tmp_path, arm, "step 4", "c", "d") is None
    assert store.load(tmp_path, arm, "step 3", "c", None) is not None  # the checkpoint was removed to save room


@pytest.mark.parametrize("damage", ["", "{", '{"context": "c"}'])
def test_half_a_grade_is_none(tmp_path: Path, damage: str) -> None:
    arm = tmp_path / "arm"
    store.save(tmp_path, arm, "step 3", "c", "d", GRADE)
    (arm / "grades" / "step_3.json").write_text(damage)
    assert store.load(tmp_path, arm, "step 3", "c", "d") is None


def test_items_that_were_changed_are_noticed(tmp_path: Path) -> None:
    arm = tmp_path / "arm"
    store.save(tmp_path, arm, "step 3", "c", "d", GRADE)
    (items,) = (tmp_path / "items").iterdir()
    items.write_text(items.read_text().replace("k1", "k2"))
    assert store.load(tmp_path, arm, "step 3", "c", "d") is None
