from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration_loss import SCENARIOS, loss_coverage
from forgetbench.analysis.forgetting import moment_bound
from forgetbench.analysis.joint import expected_change, joint_fit, losses, moment_bound_of, table_of

pytestmark = pytest.mark.unit


def drawn(p: np.ndarray, q: np.ndarray, k: int = 10, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return table_of((rng.binomial(k, p), rng.binomial(k, q)), (k, k))


def test_certain_items_give_the_flips_themselves() -> None:
    """Rates of 0 and 1 have no noise: loss, F* and F are one."""
    base, candidate = np.array([10] * 60 + [0] * 40), np.array([10] * 40 + [0] * 55 + [10] * 5)
    found = expected_change(table_of((base, candidate), (10, 10)), draws=50)
    assert (found.loss, found.gain) == pytest.approx((0.20, 0.05), abs=1e-6)
    assert found.bound == pytest.approx((0.20, 0.05))
    assert found.loss_interval.low > 0.10
    assert found.loss_interval.high < 0.31


def test_a_uniform_loss_is_found_where_the_moment_bound_sees_half() -> None:
    """The notes' example: every rate .1 lower gives F* .055."""
    p = np.random.default_rng(1).uniform(0.1, 1, 20_000)
    table = drawn(p, p - 0.1)
    loss, gain = (float(x) for x in losses(joint_fit(table.astype(float))))
    assert loss == pytest.approx(0.10, abs=0.012)
    assert gain < 0.012
    assert moment_bound_of(table).loss == pytest.approx(0.055, abs=0.003)


def test_flicker_is_no_loss() -> None:
    """Nothing changed, yet 17 % of the single answers flip one way: the estimate is a tenth of that."""
    p = np.random.default_rng(2).uniform(0, 1, 400)
    found = expected_change(drawn(p, p), draws=60)
    assert found.loss < 0.04
    assert found.loss_interval.low == 0.0
    assert found.null == pytest.approx(0.02, abs=0.015)


def test_likelihood_is_a_maximum_along_the_steps() -> None:
    table = drawn(np.full(200, 0.6), np.full(200, 0.4)).astype(float)
    from scipy.stats import binom

    law = binom.pmf(np.arange(11)[:, None], 10, np.linspace(0, 1, 21)[None, :])
    heights = []
    for steps in (1, 5, 25, 125):
        weights = joint_fit(table, steps=steps)
        assert weights.sum() == pytest.approx(1.0)
        heights.append(float((table * np.log(law @ weights @ law.T)).sum()))
    assert heights == sorted(heights)
    marginal = joint_fit(table, steps=2_000).sum(axis=1)
    assert np.abs(np.linspace(0, 1, 21) - 0.6)[marginal > 0.2].max() <= 0.1


@pytest.mark.parametrize("other", [{"steps": 2_000}, {"grid": 41}])
def test_grid_and_steps_hardly_matter(other: dict[str, int]) -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(0.5, 0.5, 400)
    table = drawn(p, np.where(rng.random(400) < 0.1, 0.0, p)).astype(float)
    usual, changed = (np.array(losses(joint_fit(table, **options))) for options in ({}, other))
    assert np.abs(usual - changed).max() < 0.003


def test_moment_bound_is_the_one_of_forgetting() -> None:
    rng = np.random.default_rng(4)
    base, candidate = rng.binomial(8, rng.random(300)), rng.binomial(8, rng.random(300))
    found = moment_bound_of(table_of((base, candidate), (8, 8)))
    assert found == pytest.approx(moment_bound(base / 8, candidate / 8, 8))


def test_different_numbers_of_samples() -> None:
    p = np.random.default_rng(5).beta(0.5, 0.5, 3_000)
    rng = np.random.default_rng(6)
    table = table_of((rng.binomial(4, p), rng.binomial(10, p * 0.8)), (4, 10))
    assert table.shape == (5, 11)
    assert float(losses(joint_fit(table.astype(float)))[0]) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("successes", "samples"),
    [(([1], [1]), (1, 5)), (([], []), (2, 2)), (([3], [1]), (2, 2)), (([-1], [1]), (2, 2)), (([1], [1, 2]), (2, 2))],
)
def test_what_has_no_estimate(successes: tuple[list[int], list[int]], samples: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        table_of((np.array(successes[0], dtype=np.int64), np.array(successes[1], dtype=np.int64)), samples)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_small_version_of_the_coverage(scenario: str) -> None:
    """docs/calibration.md has more data sets; here a handful, of which at most one may miss."""
    found = loss_coverage(scenario, 8, 40)
    assert found.loss_coverage >= 0.85
    assert found.gain_coverage >= 0.85
    assert found.mean_bound <= found.mean_loss
