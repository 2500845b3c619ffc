"""Block Krylov against the spectrum that a matrix was made with: the intervals hold what they say they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forgetbench.drift import lowrank
from forgetbench.drift.measures import effective_rank, from_krylov, spectrum_of, sum_of_squares

pytestmark = pytest.mark.unit

M, N = 700, 500
ORDER = np.arange(1, N + 1)
SPECTRA = {
    "flat": np.ones(N),
    "random": np.linalg.svd(np.random.default_rng(5).standard_normal((M, N)), compute_uv=False),
    "root": ORDER**-0.5,
    "harmonic": 1.0 / ORDER,
    "three halves": ORDER**-1.5,
    "steep": ORDER**-2.0,
    "exponential": np.exp(-ORDER / 30.0),
    "slow exponential": np.exp(-ORDER / 200.0),
    "low rank and noise": np.where(ORDER <= 8, 20.0, 1.0),
    "low rank": np.where(ORDER <= 8, 1.0, 0.0),
    "rank 200 and dust": np.where(ORDER <= 200, 1.0, 1e-4),
    "one direction": np.where(ORDER <= 1, 1.0, 0.0),
}


@pytest.fixture(scope="module")
def frames() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.standard_normal((M, N)))[0]
    right = np.linalg.qr(rng.standard_normal((N, N)))[0]
    return left, right


def made(frames: tuple[np.ndarray, np.ndarray], sigma: np.ndarray) -> np.ndarray:
    left, right = frames
    return ((left * sigma) @ right.T).astype(np.float32)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_intervals_hold_the_truth(frames: tuple[np.ndarray, np.ndarray], name: str, seed: int) -> None:
    sigma = np.sort(SPECTRA[name])[::-1]
    matrix = made(frames, sigma)
    found = from_krylov(lowrank.krylov(matrix, seed=seed), sum_of_squares(matrix))
    spectral, stable, effective = found.spectral, found.stable_rank, found.effective_rank
    rounding = 1e-5
    assert spectral.low * (1 - rounding) <= sigma[0] <= spectral.high * (1 + rounding)
    assert spectral.high <= 1.1 * spectral.low  # worth stating
    assert spectral.value == pytest.approx(sigma[0], rel=0.01)
    truth = float((sigma**2).sum() / sigma[0] ** 2)
    assert stable.low * (1 - rounding) <= truth <= stable.high * (1 + rounding)
    assert effective.low * (1 - 1e-3) <= effective_rank(sigma) <= effective.high * (1 + 1e-3)
    assert effective.low <= effective.value <= effective.high


@pytest.mark.parametrize(("name", "width"), [("flat", 1.13), ("random", 1.15), ("root", 1.2), ("low rank", 1.01)])
def test_intervals_are_narrow_where_a_full_fine_tune_lies(
    frames: tuple[np.ndarray, np.ndarray], name: str, width: float
) -> None:
    matrix = made(frames, np.sort(SPECTRA[name])[::-1])
    found = from_krylov(lowrank.krylov(matrix), sum_of_squares(matrix)).effective_rank
    assert found.high / found.low < width


def test_ritz_values_stay_below_and_the_tail_is_exact(frames: tuple[np.ndarray, np.ndarray]) -> None:
    sigma = SPECTRA["harmonic"]
    matrix = made(frames, sigma)
    found = lowrank.krylov(matrix)
    top = found.ritz[::-1]
    assert (top <= sigma[: top.size] ** 2 * (1 + 1e-5)).all()
    inside = np.linalg.qr(found.right)[0]
    outside = float(((matrix - matrix @ inside @ inside.T) ** 2).sum())
    assert sum_of_squares(matrix) - found.ritz.sum() == pytest.approx(outside, rel=1e-3)


def test_resolved_vectors_are_singular_vectors(frames: tuple[np.ndarray, np.ndarray]) -> None:
    sigma = SPECTRA["root"]
    found = lowrank.krylov(made(frames, sigma))
    known = lowrank.resolved(found)
    assert known.sum() >= 10
    cosines = np.abs(frames[1].T @ found.right[:, known])
    assert cosines.max(axis=0).min() > 0.99


def test_wide_is_tall_turned_and_scale_does_not_matter(frames: tuple[np.ndarray, np.ndarray]) -> None:
    matrix = made(frames, SPECTRA["harmonic"])
    tall, wide = lowrank.krylov(matrix), lowrank.krylov(np.ascontiguousarray(matrix.T))
    assert wide.transposed
    assert not tall.transposed
    np.testing.assert_allclose(tall.ritz, wide.ritz, rtol=1e-3, atol=1e-9)
    for scale in (1e-20, 1e15):
        small = matrix * np.float32(scale)
        found = from_krylov(lowrank.krylov(small), sum_of_squares(small))
        assert found.spectral.value == pytest.approx(scale, rel=1e-4)
        assert math.isfinite(found.effective_rank.high)


def test_the_same_seed_gives_the_same_figures(frames: tuple[np.ndarray, np.ndarray]) -> None:
    matrix = made(frames, SPECTRA["random"])
    squares = sum_of_squares(matrix)
    assert spectrum_of(matrix, squares, full=100) == spectrum_of(matrix, squares, full=100)
    assert spectrum_of(matrix, squares, full=100).method == "krylov"
    with pytest.raises(ValueError, match="128 directions"):
        lowrank.krylov(matrix[:, :100])
