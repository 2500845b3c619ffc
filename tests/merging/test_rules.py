"""Each rule against the direct formula, and what must not change the result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.merging import rules
from forgetbench.merging.cut import cut, keep_count, trim
from tests.merging import direct

pytestmark = pytest.mark.unit
SEEDS = range(5)


def draw(seed: int, count: int, shape: tuple[int, ...] = (13, 7)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


def wide(tensors: list[np.ndarray]) -> list[np.ndarray]:
    return [t.astype(np.float64) for t in tensors]


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_is_the_weighted_mean(seed: int) -> None:
    tensors = draw(seed, 3)
    for weights in ((1.0, 1.0, 1.0), (0.2, 3.0, 0.5)):
        np.testing.assert_allclose(rules.linear(tensors, weights), direct.soup(wide(tensors), weights), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_slerp_turns_in_the_plane_of_both(seed: int, alpha: float) -> None:
    a, b = draw(seed, 2)
    dot, n, m = float((wide([a])[0] * b).sum()), float(np.linalg.norm(a)), float(np.linalg.norm(b))
    made = rules.weighed(a, b, rules.slerp_factors(dot, n, m, alpha))
    np.testing.assert_allclose(made, direct.slerp(*wide([a, b]), alpha), atol=2e-6)


def test_slerp_of_unit_vectors_stays_on_the_sphere() -> None:
    for alpha in np.linspace(0, 1, 11):
        a, b = (v / np.linalg.norm(v) for v in wide(draw(1, 2)))
        x, y = rules.slerp_factors(float((a * b).sum()), 1.0, 1.0, float(alpha))
        assert np.linalg.norm(x * a + y * b) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("dot", [1.0, 0.9996, -0.9996, -1.0])
def test_slerp_of_nearly_parallel_ones_is_linear(dot: float) -> None:
    assert rules.slerp_factors(dot, 1.0, 1.0, 0.3) == (0.7, 0.3)


def test_slerp_joins_its_linear_case_without_a_jump() -> None:
    inside = rules.slerp_factors(rules.PARALLEL - 1e-9, 1.0, 1.0, 0.3)
    np.testing.assert_allclose(inside, (0.7, 0.3), atol=1e-4)
    assert inside != (0.7, 0.3)


def test_slerp_with_a_tensor_of_zeros_is_linear() -> None:
    assert rules.slerp_factors(0.0, 0.0, 2.0, 0.25) == (0.75, 0.25)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 1.0])
def test_ties_is_trim_elect_and_disjoint_mean(seed: int, density: float) -> None:
    base, *tuned = draw(seed, 4)
    for weights, lam in (((1.0, 1.0, 1.0), 1.0), ((0.5, 2.0, 1.0), 0.7)):
        vectors = [direct.trimmed((t - base).astype(np.float64), density).astype(np.float32) for t in tuned]
        made = rules.ties(base, vectors, weights, lam)
        # Deltas in float32 as ours, so that both trim the same entries.
        exact = direct.ties(np.zeros(base.shape), wide([t - base for t in tuned]), density, lam, weights) + base
        np.testing.assert_allclose(made, exact, atol=1e-6)


def test_equal_masses_elect_plus() -> None:
    base = np.zeros(1, dtype=np.float32)
    assert rules.ties(base, [np.float32([2.0]), np.float32([-2.0])], (1.0, 1.0), 1.0)[0] == 2.0


@given(
    st.lists(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 1e-30, 3e7]), min_size=1, max_size=60),
    st.floats(0.01, 1.0),
    st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_the_cut_keeps_the_largest_in_any_slicing(values: list[float], density: float, step: int) -> None:
    whole = np.array(values, dtype=np.float32)
    parts = [whole[i : i + step] for i in range(0, whole.size, step)]
    where = cut(lambda: iter(parts), keep_count(whole.size, density))
    kept = []
    for part in parts:
        stays, where = trim(part, where)
        kept.append(stays)
    np.testing.assert_array_equal(np.concatenate(kept), direct.trimmed(whole.astype(np.float64), density))
    assert where.ties == 0


def test_the_cut_on_many_random_values() -> None:
    rng = np.random.default_rng(0)
    whole = (rng.standard_normal(200_000) * 10 ** rng.uniform(-30, 30, 200_000)).astype(np.float32)
    for keep in (1, 17, 100_000, 200_000):
        where = cut(lambda: iter(np.array_split(whole, 7)), keep)
        assert np.uint32(where.bits).view(np.float32) == np.sort(np.abs(whole))[-keep]


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_the_expectation(density: float) -> None:
    rng = np.random.default_rng(0)
    delta = np.float32([1.5])
    drawn = np.array([rules.drop(delta, rng.random(1) < density, density)[0] for _ in range(20_000)])
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(1.5) * np.float32(1 / density)}
    error = 1.5 * np.sqrt((1 - density) / density / 20_000)
    assert abs(drawn.mean() - 1.5) < 4 * error


@pytest.mark.parametrize("seed", SEEDS)
def test_dare_is_task_arithmetic_on_what_was_kept(seed: int) -> None:
    base, *tuned = draw(seed, 3)
    masks = [np.random.default_rng(seed + i).random(base.shape) < 0.3 for i in range(2)]
    dropped = [rules.drop(t - base, m, 0.3) for t, m in zip(tuned, masks, strict=True)]
    exact = base.astype(np.float64)
    for t, m, w in zip(tuned, masks, (0.25, 0.75), strict=True):
        exact = exact + 0.5 * w * m * (t.astype(np.float64) - base) / 0.3
    np.testing.assert_allclose(rules.dare(base, dropped, (1.0, 3.0), 0.5), exact, atol=1e-6)


def test_order_does_not_matter_where_weights_are_equal() -> None:
    base, a, b, c = draw(3, 4)
    np.testing.assert_array_equal(rules.linear([a, b], (1, 1)), rules.linear([b, a], (1, 1)))
    np.testing.assert_allclose(rules.linear([a, b, c], (1, 1, 1)), rules.linear([c, a, b], (1, 1, 1)), atol=1e-6)
    np.testing.assert_array_equal(
        rules.ties(base, [a - base, b - base], (1, 1), 1.0), rules.ties(base, [b - base, a - base], (1, 1), 1.0)
    )
    np.testing.assert_allclose(
        rules.ties(base, [a, b, c], (1, 1, 1), 1.0), rules.ties(base, [c, b, a], (1, 1, 1), 1.0), atol=1e-6
    )


@given(st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_alpha_from_one_side_is_one_minus_alpha_from_the_other(alpha: float, seed: int) -> None:
    a, b = draw(seed, 2, (5, 4))
    np.testing.assert_allclose(rules.interpolate(a, b, alpha), rules.interpolate(b, a, 1 - alpha), atol=1e-6)
    dot, n, m = float(a.ravel() @ b.ravel()), float(np.linalg.norm(a)), float(np.linalg.norm(b))
    there, back = rules.slerp_factors(dot, n, m, alpha), rules.slerp_factors(dot, m, n, 1 - alpha)
    np.testing.assert_allclose(there, back[::-1], atol=1e-9)


def test_a_weight_of_nothing_takes_a_model_out() -> None:
    base, a, b = draw(4, 3)
    np.testing.assert_array_equal(rules.ties(base, [a, b], (1, 0), 1.0), rules.ties(base, [a], (1,), 1.0))
    np.testing.assert_array_equal(rules.linear([a, b], (2, 0)), a)
