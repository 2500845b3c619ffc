"""New directions: planted ones are found, known ones are not taken for new, doubt is counted as open."""

from __future__ import annotations

import numpy as np
import pytest

from forgetbench.drift.directions import Directions, directions_of, new_directions
from forgetbench.drift.types import NewDirections

pytestmark = pytest.mark.unit


def base(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix with well-parted singular values in the first 3/4 of its rows' space, and that space's frame."""
    rng = np.random.default_rng(3)
    frame = np.linalg.qr(rng.standard_normal((m, m)))[0]
    right = np.linalg.qr(rng.standard_normal((n, n)))[0]
    k = min(m, n)
    sigma = 10.0 * 0.97 ** np.arange(k)
    return ((frame[:, :k] * sigma) @ right[:, :k].T).astype(np.float32), frame


@pytest.mark.parametrize(("m", "n", "full"), [(40, 60, 1024), (60, 40, 1024), (300, 260, 100), (260, 300, 100)])
def test_a_matrix_has_no_directions_new_to_itself(m: int, n: int, full: int) -> None:
    matrix, _ = base(m, n)
    one = directions_of(matrix, full=full)
    found = new_directions(one, one)
    assert (found.new, found.open, found.asked) == (0, 0, 10)
    scaled = new_directions(one, directions_of(-3 * matrix, full=full))
    assert (scaled.new, scaled.open) == (0, 0)


@pytest.mark.parametrize("full", [1024, 100])
@pytest.mark.parametrize("planted", [1, 3])
def test_planted_directions_are_found(full: int, planted: int) -> None:
    """Spread over many of the base's vectors (no cosine above .3), or outside of all of them."""
    matrix, frame = base(400, 250)
    rng = np.random.default_rng(0)
    tuned = matrix.astype(np.float64)
    for i in range(planted):
        left = frame[:, 250 + i] if i % 2 else np.linalg.qr(rng.standard_normal((400, 1)))[0][:, 0]
        right = rng.standard_normal(250)
        tuned += (20.0 + 5 * i) * np.outer(left, right / np.linalg.norm(right))
    found = new_directions(directions_of(matrix, full=full), directions_of(tuned.astype(np.float32), full=full))
    if full == 1024:
        assert (found.new, found.open) == (planted, 0)
    else:  # with part of the base's vectors only, some stay undecided, none is wrong
        assert found.new <= planted <= found.new + found.open


def test_counts_against_a_direct_loop() -> None:
    rng = np.random.default_rng(1)
    before, after = (rng.standard_normal((30, 50)).astype(np.float32) for _ in range(2))
    u, v = (np.linalg.svd(x.astype(np.float64))[0] for x in (before, after))
    expected = 0
    for j in range(10):
        if all(abs(float(u[:, i] @ v[:, j])) < 0.5 for i in range(30)):
            expected += 1
    found = new_directions(directions_of(before), directions_of(after))
    assert found.new == expected > 0
    assert found.open == 0


def test_what_was_not_computed_stays_open() -> None:
    identity = np.eye(6)
    part = Directions(identity[:, :2], np.array([True, True]), False)
    inside = Directions(identity[:, :1], np.array([True]), True)
    outside = Directions(identity[:, 5:], np.array([True]), True)
    unknown = Directions(identity[:, :1], np.array([False]), False)
    assert new_directions(part, inside) == NewDirections(0, 0, 1)
    assert new_directions(part, outside).open == 1
    assert new_directions(part._replace(complete=True), outside).new == 1
    assert new_directions(part, unknown).open == 1
