"""Coverage of the intervals and error rates of the gate: exact, or simulated with fixed seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from forgetbench.analysis.paired import Estimator, ScoreEstimator, estimator, interval
from forgetbench.analysis.tango import Table, score_statistic
from tests.analysis.made import flipped

pytestmark = pytest.mark.unit

Scores = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]
WANTED = 0.94


def coverage(fits: list[Estimator], true: float) -> tuple[float, float, float]:
    """Of the two-sided 95 % interval, the one-sided 95 % lower and upper bounds."""
    both = [(i := interval(f)).low <= true <= i.high for f in fits]
    return (
        float(np.mean(both)),
        float(np.mean([f.lower() <= true for f in fits])),
        float(np.mean([f.upper() >= true for f in fits])),
    )


@pytest.mark.parametrize("n", [164, 541, 1319])
@pytest.mark.parametrize(("psi", "delta"), [(0.05, 0.0), (0.1, 0.0), (0.1, -0.03), (0.2, 0.0), (0.2, -0.05)])
def test_score_interval_covers_exactly(n: int, psi: float, delta: float) -> None:
    """No simulation: the probability of every table, summed where the test of the truth does not reject."""
    lost, won = (psi - delta) / 2, (psi + delta) / 2
    counts = np.arange(n + 1)
    forgotten = binom.pmf(counts, n, lost)
    both = low = high = 0.0
    for f in counts[forgotten > 1e-8].tolist():
        gained = binom.pmf(counts[: n - f + 1], n - f, won / (1 - lost))
        for g in np.flatnonzero(gained > 1e-8).tolist():
            z, weight = score_statistic(Table(g, f, n), delta), float(forgotten[f] * gained[g])
            both += weight * (abs(z) <= 1.959964)
            low += weight * (z <= 1.644854)
            high += weight * (z >= -1.644854)
    assert min(both, low, high) >= WANTED
    assert both <= 0.965


def test_bounds_invert_the_test() -> None:
    """What the exact coverage rests on: the truth is inside the bounds just when its test does not reject."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        f, g = rng.integers(0, 30, 2).tolist()
        fit, true = ScoreEstimator(g, f, 164), float(rng.uniform(-0.2, 0.2))
        z = score_statistic(Table(g, f, 164), true)
        assert (fit.lower() <= true) == (z <= 1.6448536)
        assert (fit.upper() >= true) == (z >= -1.6448536)


def clustered(rng: np.random.Generator, groups: int, shared: float) -> Scores:
    """Clusters of 1 to 5 items; a share of the clusters flips as one. True change -.05, psi .1."""
    sizes = rng.integers(1, 6, groups)
    codes = np.repeat(np.arange(groups), sizes)
    base, candidate = flipped(rng, codes.size, 0.1, -0.05)
    whole, moved = flipped(rng, groups, 0.1, -0.05)
    as_one = (rng.random(groups) < shared)[codes]
    return np.where(as_one, whole[codes], base), np.where(as_one, moved[codes], candidate), codes


def sampled(rng: np.random.Generator, n: int, _: float) -> Scores:
    """K = 5 samples of items with rates between 0 and 1, of which 9 % lose all: true change -.05."""
    rates = rng.beta(0.5, 0.4, n)
    left = np.where(rng.random(n) < 0.05 / (5 / 9), 0.0, rates)
    return rng.binomial(5, rates) / 5, rng.binomial(5, left) / 5, np.arange(n)


def continuous(rng: np.random.Generator, n: int, _: float) -> Scores:
    """Small noise everywhere and a few large losses: skewed. True change -.05."""
    d = np.where(rng.random(n) < 0.1, -0.5, 0.0) + rng.normal(0, 0.03, n)
    return np.full(n, 0.6), 0.6 + d, np.arange(n)


@pytest.mark.parametrize(
    ("draw", "groups", "shared"),
    [
        (clustered, 40, 0.5),
        (clustered, 100, 1.0),
        (clustered, 300, 0.5),
        (sampled, 40, 0.0),
        (sampled, 164, 0.0),
        (continuous, 40, 0.0),
        (continuous, 164, 0.0),
    ],
)
def test_cluster_bootstrap_covers(draw: Any, groups: int, shared: float) -> None:
    rng = np.random.default_rng([groups, int(10 * shared), len(draw.__name__)])
    fits = []
    for seed in range(500):
        base, candidate, clusters = draw(rng, groups, shared)
        single = draw is clustered
        fits.append(estimator(base, candidate, clusters, single=single, draws=800, seed=seed))
    assert fits[0].method.startswith("cluster bootstrap")
    both, low, high = coverage(fits, -0.05)
    assert both >= WANTED
    assert min(low, high) >= WANTED - 0.01  # of 500 runs: a standard error of .01


def test_the_plain_percentile_bootstrap_does_not_cover() -> None:
    """Why there is a guard: 40 clusters and a skewed loss leave the percentile's lower bound at about 85 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        base, candidate, codes = clustered(rng, 40, 0.5)
        sums = np.bincount(codes, weights=candidate - base)
        sizes = np.bincount(codes)
        taken = rng.integers(0, 40, (400, 40))
        means = sums[taken].sum(axis=1) / sizes[taken].sum(axis=1)
        covered += float(np.quantile(means, 0.05)) <= -0.05
    assert covered / 400 < 0.92


@pytest.mark.parametrize("true", [0.0, -0.025])
@pytest.mark.parametrize(("n", "psi"), [(164, 0.2), (541, 0.1), (1319, 0.05)])
def test_false_block_rate_of_one_rule(n: int, psi: float, true: float) -> None:
    """The loss is within half the margin (.05): a block is an error, at most alpha of the time."""
    rng = np.random.default_rng([n, int(1000 * -true)])
    fits = [estimator(*flipped(rng, n, psi, true), np.arange(n), single=True) for _ in range(2_000)]
    assert float(np.mean([f.p_at_least(-0.025) <= 0.05 for f in fits])) <= 0.055


@pytest.mark.parametrize(("n", "psi"), [(541, 0.1), (1319, 0.05)])
def test_false_pass_rate_of_one_rule(n: int, psi: float) -> None:
    """The true loss is the whole margin: a pass is an error, at most alpha of the time."""
    rng = np.random.default_rng([n, 9])
    fits = [estimator(*flipped(rng, n, psi, -0.04), np.arange(n), single=True) for _ in range(2_000)]
    assert float(np.mean([f.lower() > -0.04 for f in fits])) <= 0.06
