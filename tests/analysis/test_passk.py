"""pass@k against counting subsets, against published samples' definition, and its interval's coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from forgetbench.analysis.passk import mean_pass_at_k, pass_at_k, pass_at_k_change

pytestmark = pytest.mark.unit


def test_against_every_subset() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            samples = [1] * c + [0] * (n - c)
            for k in range(1, n + 1):
                subsets = list(itertools.combinations(samples, k))
                counted = sum(any(s) for s in subsets) / len(subsets)
                [value] = pass_at_k(np.array([n]), np.array([c]), k)
                assert value == pytest.approx(counted, abs=1e-12)


def test_against_binomials_of_large_numbers() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(100, 1000, 50)
    c = rng.integers(0, n + 1)
    for k in (1, 10, 100):
        expected = [1 - math.comb(int(a - b), k) / math.comb(int(a), k) for a, b in zip(n, c, strict=True)]
        assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)


def test_unbiased() -> None:
    """The mean over samples of n is the chance that one of k passes, for k below n."""
    p, n, k = 0.3, 6, 3
    rng = np.random.default_rng(1)
    c = rng.binomial(n, p, 200_000)
    assert pass_at_k(np.full_like(c, n), c, k).mean() == pytest.approx(1 - (1 - p) ** k, abs=0.003)


@pytest.mark.parametrize(
    ("n", "c", "k"), [([5], [6], 1), ([5], [-1], 1), ([5, 2], [1, 1], 3), ([5], [1], 0), ([], [], 1), ([5, 5], [1], 1)]
)
def test_what_has_no_estimate(n: list[int], c: list[int], k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(np.array(n, dtype=np.int64), np.array(c, dtype=np.int64), k)


def test_interval_covers() -> None:
    """164 items with a chance of their own each, 10 samples: 95 % intervals hold the true mean about as often."""
    rng = np.random.default_rng(2)
    held, rounds = 0, 200
    truth = 1 - float(((1 - np.linspace(0, 1, 20_001)) ** 5).mean())  # chances uniform, k = 5
    for seed in range(rounds):
        chances = rng.random(164)
        c = rng.binomial(10, chances)
        found = mean_pass_at_k(np.full(164, 10), c, 5, seed=seed)
        assert found.low <= found.value <= found.high
        held += found.low <= truth <= found.high
    assert 0.90 <= held / rounds <= 0.99


def test_ends_of_the_range_and_order() -> None:
    from scipy.stats import binomtest

    for passed in (0, 4):
        found = mean_pass_at_k(np.full(10, 4), np.full(10, passed), 2)
        exact = binomtest(10 * passed // 4, 10).proportion_ci(0.95, "exact")
        assert found[1:4] == pytest.approx((passed / 4, exact.low, exact.high))
    n, c = np.array([4, 4, 8, 8]), np.array([0, 1, 2, 8])
    one = mean_pass_at_k(n, c, 2, clusters=np.array([0, 0, 1, 2]))
    assert one == mean_pass_at_k(n[::-1], c[::-1], 2, clusters=np.array([2, 1, 0, 0]))
    assert one.value == mean_pass_at_k(n, c, 2).value


def test_paired_change_of_pass_at_k() -> None:
    """Sharper answers: pass@1 rises while pass@5 falls. The change is paired: far narrower than two intervals."""
    rng = np.random.default_rng(3)
    rates = rng.uniform(0.2, 0.5, 300)
    sharp = np.where(rng.random(300) < rates + 0.1, 0.95, 0.02)
    trials = np.full(300, 10)
    base, candidate = (trials, rng.binomial(10, rates)), (trials, rng.binomial(10, sharp))
    first, fifth = (pass_at_k_change(base, candidate, k) for k in (1, 5))
    assert first.interval.low > 0.0
    assert fifth.interval.high < 0.0
    assert max(first.p_value, fifth.p_value) < 0.01
    assert fifth.delta == pytest.approx(fifth.candidate - fifth.base)
    assert fifth.base == pytest.approx(mean_pass_at_k(*base, 5).value)
    same = pass_at_k_change(base, base, 5)
    assert (same.delta, same.p_value) == (0.0, 1.0)
    assert same.interval.low < 0.0 < same.interval.high
    with pytest.raises(ValueError, match="same items"):
        pass_at_k_change(base, (trials[:5], trials[:5]), 1)


@pytest.mark.parametrize(("n", "p"), [(30, 0.9), (30, 0.1), (50, 0.93), (20, 0.8), (164, 0.95)])
def test_interval_of_one_side_covers_near_the_ends(n: int, p: float) -> None:
    """Items that always or never pass; summed over every number of them. The bootstrap alone: 84 % at n = 30."""
    from scipy.stats import binom

    covered = 0.0
    for passed in range(n + 1):
        chance = float(binom.pmf(passed, n, p))
        if chance > 1e-4:
            found = mean_pass_at_k(np.full(n, 4), np.repeat([4, 0], [passed, n - passed]), 4)
            covered += chance * (found.low <= p <= found.high)
    assert covered >= 0.949


def test_clusters_that_pass_whole_cover() -> None:
    rng = np.random.default_rng(5)
    labels, held = np.repeat(np.arange(30), 5), 0
    for seed in range(200):
        passed = np.repeat(rng.random(30) < 0.9, 5) * 4
        found = mean_pass_at_k(np.full(150, 4), passed, 4, clusters=labels, seed=seed)
        held += found.low <= 0.9 <= found.high
    assert held >= 188


def test_one_item_more_that_passes_never_lowers_a_bound() -> None:
    found = [mean_pass_at_k(np.full(40, 4), np.repeat([4, 0], [m, 40 - m]), 4) for m in range(41)]
    for one, more in itertools.pairwise(found):
        assert one.low <= more.low
        assert one.high <= more.high
    assert found[40].low > found[39].low


def test_one_cluster_tells_nothing() -> None:
    assert mean_pass_at_k(np.array([10]), np.array([5]), 1)[1:4] == (0.5, 0.0, 1.0)
    assert mean_pass_at_k(np.array([10, 10]), np.array([10, 10]), 1, clusters=np.zeros(2))[2:4] == (0.0, 1.0)
