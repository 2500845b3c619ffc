"""Weighted sums of changes: the limits of their terms carried over, correlation, and errors by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from forgetbench.analysis.paired import ScoreEstimator, estimator
from forgetbench.analysis.weighted import Term, WeightedEstimator, correlation

pytestmark = pytest.mark.unit


def score(weight: float, gained: int, forgotten: int, n: int, first: int = 0) -> Term:
    d = np.asarray([1.0] * gained + [-1.0] * forgotten + [0.0] * (n - gained - forgotten))
    return Term(weight, ScoreEstimator(gained, forgotten, n), d, np.arange(first, first + n))


def test_one_term_alone_is_its_own_test() -> None:
    term = score(1.0, 10, 30, 600)
    whole = WeightedEstimator([term])
    assert whole.delta == pytest.approx(term.fit.delta)
    assert whole.p_at_least(-0.01) == pytest.approx(term.fit.p_at_least(-0.01), rel=0.01)
    assert whole.p_at_most(-0.08) == pytest.approx(term.fit.p_at_most(-0.08), rel=0.01)
    # Its limits carry the continuity correction, so they lie a pair outside of Tango's plain ones.
    assert term.fit.lower() - 2.5 / 600 < whole.lower() < term.fit.lower()
    assert term.fit.upper() + 2.5 / 600 > whole.upper() > term.fit.upper()


def test_large_terms_agree_with_the_normal_approximation() -> None:
    terms = [score(0.6, 900, 1_100, 10_000), score(0.4, 700, 500, 8_000, first=10_000)]
    whole = WeightedEstimator(terms)
    se = np.sqrt(sum(t.weight**2 * t.d.var() / t.d.size for t in terms))
    assert whole.delta == pytest.approx(0.6 * -0.02 + 0.4 * 0.025)
    assert whole.lower() == pytest.approx(whole.delta - stats.norm.ppf(0.95) * se, abs=2e-4)
    assert whole.upper() == pytest.approx(whole.delta + stats.norm.ppf(0.95) * se, abs=2e-4)
    assert whole.p_at_least(0.002) == pytest.approx(stats.norm.cdf((whole.delta - 0.002) / se), rel=0.05)
    assert whole.unit_variance == pytest.approx(se**2 * 18_000, rel=1e-6)
    assert (whole.n, whole.n_clusters) == (18_000, 18_000)


def test_terms_without_any_change_still_have_width() -> None:
    whole = WeightedEstimator([score(0.5, 0, 0, 50), score(0.5, 0, 0, 50, first=50)])
    alone = WeightedEstimator([score(1.0, 0, 0, 50)])
    assert whole.delta == 0.0
    assert alone.lower() < whole.lower() < -0.02  # half of each, their errors independent
    assert whole.p_at_least(-0.001) > 0.3


def test_the_same_items_under_two_metrics_are_correlated() -> None:
    one, two = score(0.5, 20, 60, 500), score(0.5, 20, 60, 500)
    assert correlation([one, two]) == pytest.approx(np.ones((2, 2)))
    assert WeightedEstimator([one, two]).lower() == pytest.approx(WeightedEstimator([score(1.0, 20, 60, 500)]).lower())
    apart = WeightedEstimator([one, score(0.5, 20, 60, 500, first=500)])
    assert apart.lower() > WeightedEstimator([one, two]).lower() + 0.004
    against = Term(0.5, ScoreEstimator(60, 20, 500), -one.d, one.clusters)
    assert correlation([one, against])[0, 1] == 0.0  # would narrow the interval, and counts as none


def test_p_values_and_bounds_are_two_sides_of_one_thing() -> None:
    whole = WeightedEstimator([score(0.7, 10, 30, 400), score(0.3, 5, 5, 150, first=400)])
    for alpha in (0.01, 0.05, 0.2):
        assert whole.p_at_least(whole.upper(alpha)) == pytest.approx(alpha, rel=0.01)
        assert whole.p_at_most(whole.lower(alpha)) == pytest.approx(alpha, rel=0.01)
    assert whole.p_at_least(whole.delta) == whole.p_at_most(whole.delta) == whole.p_at_least(-0.9) == 1.0
    assert 0.0 < whole.p_value() <= 1.0
    assert [whole.lower(a) for a in (0.001, 0.05, 0.3)] == sorted(whole.lower(a) for a in (0.001, 0.05, 0.3))


@pytest.mark.parametrize("psi", [0.05, 0.2])
def test_errors_of_a_score_over_three_sets(psi: float) -> None:
    """At a true change of exactly -m and of exactly -m/2 the gate's two legs err in at most alpha of the runs."""
    rng = np.random.default_rng(7)
    weights, sizes, margin = (0.5, 0.3, 0.2), (164, 541, 300), 0.04
    for true, errs in ((-margin, _passes), (-margin / 2.0, _blocks)):
        wrong = 0
        for _ in range(_RUNS):
            terms = []
            for j, (w, n) in enumerate(zip(weights, sizes, strict=True)):
                lost, gained, _ = rng.multinomial(n, [(psi - true) / 2, (psi + true) / 2, 1 - psi])
                terms.append(score(w, int(gained), int(lost), n, first=1_000 * j))
            wrong += errs(WeightedEstimator(terms), margin)
        assert wrong / _RUNS <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / _RUNS)


_RUNS = 400


def _passes(fit: WeightedEstimator, margin: float) -> bool:
    return fit.lower(0.05) > -margin


def _blocks(fit: WeightedEstimator, margin: float) -> bool:
    return fit.upper(0.05) < -margin / 2.0


def test_continuous_and_clustered_terms() -> None:
    rng = np.random.default_rng(3)
    base, clusters = rng.random(300), np.arange(300) // 3
    candidate = np.clip(base + rng.normal(-0.05, 0.1, 300), 0.0, 1.0)
    fit = estimator(base, candidate, clusters, single=False, draws=2_000)
    whole = WeightedEstimator([Term(0.5, fit, candidate - base, clusters), score(0.5, 3, 3, 100, first=1_000)])
    assert whole.lower() < whole.delta < whole.upper()
    assert whole.n_clusters == 200
    assert whole.p_at_least(0.03) < 0.05 < whole.p_at_least(0.01)
