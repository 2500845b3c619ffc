"""Spectra against numpy's full SVD, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.drift.measures import effective_rank, factored_values, spectrum_of, stable_rank, sum_of_squares
from forgetbench.drift.types import Spectrum

pytestmark = pytest.mark.unit


def spectrum(matrix: np.ndarray) -> Spectrum:
    return spectrum_of(matrix, sum_of_squares(matrix))


def figures(found: Spectrum) -> tuple[float, float, float]:
    return found.spectral.value, found.stable_rank.value, found.effective_rank.value


def random(seed: int, m: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32)


@pytest.mark.parametrize(("m", "n"), [(30, 30), (80, 12), (12, 80), (2, 9)])
def test_small_matrices_are_exact(m: int, n: int) -> None:
    matrix = random(m, m, n)
    sigma = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    found = spectrum(matrix)
    assert found.method == "exact"
    assert found.captured == 1.0
    assert found.spectral.value == pytest.approx(sigma[0], rel=1e-12)
    assert found.stable_rank.value == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-12)
    p = sigma / sigma.sum()
    assert found.effective_rank.value == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), rel=1e-12)
    for bounds in (found.spectral, found.stable_rank, found.effective_rank):
        assert bounds.low == bounds.value == bounds.high


def test_known_ranks() -> None:
    equal = np.ones(7)
    assert stable_rank(equal) == pytest.approx(7)
    assert effective_rank(equal) == pytest.approx(7)
    assert effective_rank(np.array([3.0, 0.0, 0.0])) == pytest.approx(1)
    assert stable_rank(np.zeros(3)) == effective_rank(np.zeros(3)) == 0.0


def test_sum_of_squares_neither_overflows_nor_loses_small_terms() -> None:
    assert sum_of_squares(np.full((3, 1000), 1e25, dtype=np.float32)) == pytest.approx(3e53, rel=1e-6)
    many = np.full(1 << 23, 1e-3, dtype=np.float32)
    assert sum_of_squares(many) == pytest.approx((1 << 23) * 1e-6, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 20), st.integers(2, 20), st.floats(1e-4, 1e4))
def test_invariances(seed: int, m: int, n: int, scale: float) -> None:
    matrix = random(seed, m, n)
    rng = np.random.default_rng(seed)
    spectral, stable, effective = figures(spectrum(matrix))
    assert 1.0 - 1e-9 <= stable <= min(m, n) + 1e-9
    assert 1.0 - 1e-9 <= effective <= min(m, n) + 1e-9
    scaled = figures(spectrum((matrix.astype(np.float64) * scale).astype(np.float32)))
    assert scaled == pytest.approx((spectral * scale, stable, effective), rel=1e-5)
    assert figures(spectrum(matrix[rng.permutation(m)])) == pytest.approx((spectral, stable, effective), rel=1e-9)
    assert figures(spectrum(matrix.T.copy())) == pytest.approx((spectral, stable, effective), rel=1e-9)
    turn = np.linalg.qr(rng.standard_normal((m, m)))[0]
    turned = (turn @ matrix).astype(np.float32)
    assert figures(spectrum(turned)) == pytest.approx((spectral, stable, effective), rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 40), st.integers(2, 30))
def test_factors_give_the_dense_products_values(seed: int, m: int, r: int, n: int) -> None:
    """Also where r exceeds both sides, or factors are rank-deficient."""
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((m, r)), rng.standard_normal((r, n))
    if seed % 3 == 0:
        left[:, -1] = left[:, 0]
    dense = np.linalg.svd(left @ right, compute_uv=False)
    found = np.zeros(min(m, n))
    values = factored_values(left, right)[: min(m, n)]
    found[: values.size] = values
    np.testing.assert_allclose(found, dense, atol=1e-9 * dense[0])
