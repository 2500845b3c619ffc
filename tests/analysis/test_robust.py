"""The plain intervals and tests against scipy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, false_discovery_control, permutation_test, ttest_1samp

from forgetbench.analysis.bootstrap import cluster_sums
from forgetbench.analysis.paired import ClusterEstimator
from forgetbench.analysis.permutation import sign_flip
from forgetbench.analysis.robust import cluster_robust, percentile
from forgetbench.analysis.significance import benjamini_hochberg, holm, mcnemar_exact

pytestmark = pytest.mark.unit


def test_t_interval_is_scipys() -> None:
    d = np.random.default_rng(0).normal(0.1, 1.0, 60)
    lattice = cluster_sums(d, np.arange(60)).lattice()
    for level in (0.8, 0.95, 0.99):
        theirs = ttest_1samp(d, 0.0).confidence_interval(level)
        ours = cluster_robust(lattice, level)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_clusters_of_copies_are_one_item_each() -> None:
    d = np.random.default_rng(1).normal(0.0, 1.0, 50)
    alone = cluster_robust(cluster_sums(d, np.arange(50)).lattice())
    copied = cluster_robust(cluster_sums(np.repeat(d, 6), np.repeat(np.arange(50), 6)).lattice())
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    one = cluster_robust(cluster_sums(d, np.zeros(50, dtype=np.int64)).lattice())
    assert (one.low, one.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("kinds", ["lattice", "continuous"])
def test_percentile_interval_is_scipys(kinds: str) -> None:
    rng = np.random.default_rng(2)
    d = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.15, 0.75, 0.1]) if kinds == "lattice" else rng.normal(0, 1, 300)
    theirs = bootstrap((d,), np.mean, method="percentile", n_resamples=20_000, rng=3).confidence_interval
    ours = percentile(cluster_sums(d, np.arange(300)).lattice(), draws=20_000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006 if kinds == "lattice" else 0.004)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_sign_flip_of_single_samples_is_mcnemars_exact_test(lost: int, won: int, same: int) -> None:
    d = np.r_[-np.ones(lost), np.ones(won), np.zeros(same + 1)]
    found = sign_flip(d)
    assert found.exact
    assert found.p_value == pytest.approx(mcnemar_exact(lost, won), abs=1e-12)
    if lost + won:
        assert found.p_loss == pytest.approx(binomtest(won, lost + won, alternative="less").pvalue, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_sign_flip_is_scipys_permutation_test(seed: int) -> None:
    """scipy goes through all 2^12 signs."""
    d = np.random.default_rng(seed).integers(-5, 6, 12) / 10
    ours = sign_flip(d)
    for alternative, p in (("two-sided", ours.p_value), ("less", ours.p_loss)):
        theirs = permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative, vectorized=True
        )
        assert p == pytest.approx(theirs.pvalue, abs=1e-9)


def test_drawn_signs_agree_with_all_of_them() -> None:
    rng = np.random.default_rng(5)
    d = rng.normal(-0.05, 0.3, 14)  # continuous: no lattice
    drawn = sign_flip(d, draws=40_000)
    theirs = permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True)
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(theirs.pvalue, abs=0.012)
    assert sign_flip(np.full(40, -0.123456789) + rng.normal(0, 1e-3, 40), draws=999).p_value == 1 / 1000  # never 0


def test_clusters_flip_as_one() -> None:
    d = np.r_[-np.ones(6), np.ones(2)]
    assert sign_flip(d, np.array([0, 0, 0, 1, 1, 1, 2, 2])).p_value == pytest.approx(0.5)  # |+-3 +-3 +-2| >= 4: 4 of 8
    assert sign_flip(np.zeros(5)).p_value == 1.0
    with pytest.raises(ValueError, match="no paired items"):
        sign_flip(np.zeros(0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(deadline=None)
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(false_discovery_control(p_values).tolist(), abs=1e-12)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=6))
@settings(deadline=None)
def test_holm_is_the_closed_bonferroni_test(p_values: list[float]) -> None:
    """By its definition: the largest, over all subsets that hold the hypothesis, of the subset's Bonferroni p."""
    m = len(p_values)
    adjusted = []
    for i in range(m):
        subsets = [[j for j in range(m) if mask >> j & 1] for mask in range(1 << m) if mask >> i & 1]
        adjusted.append(max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets))
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.integers(0, 40), min_size=5, max_size=5).filter(lambda c: sum(c) > 1), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_counts_and_items_give_one_estimator(counts: list[int], seed: int) -> None:
    values = np.array([-1.0, -0.4, 0.0, 0.3, 1.0])
    items = np.random.default_rng(seed).permutation(np.repeat(values, counts))
    one = ClusterEstimator(items, np.arange(items.size), draws=300)
    other = ClusterEstimator.of_counts(values, np.array(counts), draws=300)
    assert (one.n, one.n_clusters, one.delta) == (other.n, other.n_clusters, pytest.approx(other.delta))
    assert one.unit_variance == pytest.approx(other.unit_variance)
    for alpha in (0.01, 0.1):
        assert (one.lower(alpha), one.upper(alpha)) == pytest.approx((other.lower(alpha), other.upper(alpha)))
    assert one.guard_p_at_least(-0.1) <= one.p_at_least(-0.1)
    assert one.guard_p_at_most(-0.1) <= one.p_at_most(-0.1)
