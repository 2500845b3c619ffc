from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, binomtest, ttest_rel

from forgetbench.analysis.bootstrap import cluster_sums, studentised_draws
from forgetbench.analysis.paired import ClusterEstimator, ScoreEstimator, estimator, interval
from forgetbench.analysis.significance import (
    benjamini_hochberg,
    holm,
    mcnemar_exact,
    mcnemar_midp,
    non_inferiority,
    paired_t,
)
from forgetbench.analysis.tango import Table, score_bound, score_statistic

pytestmark = pytest.mark.unit

tables = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 200)).map(
    lambda t: Table(t[0], t[1], t[0] + t[1] + t[2])
)


@pytest.mark.parametrize(("f", "g"), [(0, 0), (1, 0), (3, 3), (7, 1), (45, 20), (300, 260)])
def test_mcnemar_against_scipy(f: int, g: int) -> None:
    exact = binomtest(f, f + g).pvalue if f + g else 1.0
    assert mcnemar_exact(f, g) == pytest.approx(exact, abs=1e-12)
    seen = float(binom.pmf(min(f, g), f + g, 0.5))
    assert mcnemar_midp(f, g) == pytest.approx(1.0 if f == g else exact - seen, abs=1e-12)


def test_published_airway_table() -> None:
    """Bentur et al.'s airway data as Fagerland, Lydersen and Laake (2014) analyse it: 1 and 7 discordant of 21."""
    low, high = (score_bound(Table(1, 7, 21), z) for z in (1.959964, -1.959964))
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)
    assert round(mcnemar_exact(7, 1), 4) == 0.0703
    assert round(mcnemar_midp(7, 1), 4) == 0.0391


def _likelihood_statistic(t: Table, delta: float) -> float:
    """The same test from its definition: maximise the trinomial likelihood along P(0->1) = q + delta."""
    low, high = max(0.0, -delta), (1.0 - delta) / 2.0

    def loss(q: float) -> float:
        terms = ((t.forgotten, q), (t.gained, q + delta), (t.n - t.forgotten - t.gained, 1 - 2 * q - delta))
        return -sum(c * math.log(max(p, 1e-300)) for c, p in terms if c)

    q = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x)
    return (t.gained - t.forgotten - t.n * delta) / math.sqrt(t.n * (2 * q + delta - delta**2))


@pytest.mark.parametrize("delta", [-0.3, -0.05, -0.01, 0.02, 0.2])
@pytest.mark.parametrize("t", [Table(3, 9, 60), Table(1, 0, 40), Table(20, 20, 164), Table(5, 60, 400)])
def test_tango_statistic_from_the_likelihood(t: Table, delta: float) -> None:
    assert score_statistic(t, delta) == pytest.approx(_likelihood_statistic(t, delta), abs=2e-4)


@pytest.mark.parametrize("z", [1.6448536, -1.959964])
@pytest.mark.parametrize("t", [Table(3, 9, 60), Table(20, 20, 164), Table(5, 60, 400)])
def test_tango_bound_by_independent_root_finding(t: Table, z: float) -> None:
    root = brentq(lambda d: _likelihood_statistic(t, d) - z, -0.9, 0.9, xtol=1e-9)
    assert score_bound(t, z) == pytest.approx(root, abs=2e-5)


@given(tables)
@settings(max_examples=60, deadline=None)
def test_tango_bounds_mirror_when_sides_swap(t: Table) -> None:
    swapped = Table(t.forgotten, t.gained, t.n)
    assert score_bound(t, 1.645) == pytest.approx(-score_bound(swapped, -1.645), abs=1e-9)
    assert -1.0 <= score_bound(t, 1.96) <= (t.gained - t.forgotten) / t.n <= score_bound(t, -1.96) <= 1.0


@given(tables.filter(lambda t: 2 * (t.gained + t.forgotten) <= t.n), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_concordant_pairs_never_widen(t: Table, extra: int) -> None:
    """Where at least half of the pairs agree, more that agree only narrow the interval."""
    more = Table(t.gained, t.forgotten, t.n + extra)
    width = [score_bound(x, -1.96) - score_bound(x, 1.96) for x in (t, more)]
    assert width[1] <= width[0] + 1e-9


@pytest.mark.parametrize(("n", "low"), [(10, -0.2129), (51, -0.0504), (52, -0.0494), (300, -0.00894)])
def test_identical_answers_certify_only_what_n_supports(n: int, low: float) -> None:
    fit = ScoreEstimator(0, 0, n)
    z = 1.6448536
    assert fit.lower(0.05) == pytest.approx(-(z**2) / (n + z**2), abs=1e-6)
    assert fit.lower(0.05) == pytest.approx(low, abs=6e-5)
    assert fit.p_value() == 1.0
    assert fit.upper(0.05) == pytest.approx(-fit.lower(0.05))


@pytest.mark.parametrize("null", [-0.025, -0.01])
@pytest.mark.parametrize("n", [60, 164])
def test_exact_size_of_the_blocking_test(n: int, null: float) -> None:
    """P(p_at_least(null) <= .05) by summing the trinomial, where the true change is just `null`."""
    rejects = {
        (f, g): ScoreEstimator(g, f, n).p_at_least(null) <= 0.05
        for f in range(n + 1)
        for g in range(max(0, min(n - f, f)) + 1)  # only f > g can reject
    }
    f, g = np.array([k for k, hit in rejects.items() if hit]).T
    for psi in (-null, -1.2 * null, -2 * null, 0.1, 0.3):
        lost, won = (psi - null) / 2, max((psi + null) / 2, 0.0)
        size = float((binom.pmf(f, n, lost) * binom.pmf(g, n - f, won / (1 - lost))).sum())
        assert size <= 0.05


def test_p_values_agree_with_the_estimators() -> None:
    assert non_inferiority(5, 5, 400, 0.05) == pytest.approx(
        0.5 * math.erfc(score_statistic(Table(5, 5, 400), -0.05) / math.sqrt(2))
    )
    rng = np.random.default_rng(3)
    d = rng.choice([-1.0, 0.0, 0.5], 300, p=[0.1, 0.8, 0.1])
    fit = ClusterEstimator(d, np.arange(300) // 2, draws=2_000)
    for alpha in (0.01, 0.05, 0.2):
        upper, lower = fit.upper(alpha), fit.lower(alpha)
        assert fit.p_at_least(upper + 0.003) < alpha < fit.p_at_least(upper - 0.003)
        assert fit.p_at_most(lower - 0.003) < alpha < fit.p_at_most(lower + 0.003)


def test_paired_t_against_scipy_and_brute_force() -> None:
    rng = np.random.default_rng(0)
    base, candidate = rng.random(50), rng.random(50)
    d = candidate - base
    ours, theirs = paired_t(d), ttest_rel(candidate, base)
    assert ours.t == pytest.approx(float(theirs.statistic))
    assert ours.p_value == pytest.approx(float(theirs.pvalue))
    clusters = rng.integers(0, 12, 50)
    groups = len(set(clusters.tolist()))
    total = 0.0
    for i, j in product(range(50), range(50)):  # Miller 2024: sum over all pairs inside a cluster
        if clusters[i] == clusters[j]:
            total += (d[i] - d.mean()) * (d[j] - d.mean())
    assert paired_t(d, clusters).se == pytest.approx(math.sqrt(total * groups / (groups - 1)) / 50)


def test_lattice_bootstrap_is_the_plain_bootstrap() -> None:
    """The same t* as resampling clusters one at a time, up to the noise of the draws."""
    rng = np.random.default_rng(1)
    values = rng.choice([-1.0, 0.0, 1.0], 120, p=[0.2, 0.7, 0.1])
    groups = cluster_sums(values, np.arange(120) // 3)
    lattice = groups.lattice()
    assert lattice.groups == 40
    assert lattice.counts.size < 10
    fast = studentised_draws(lattice, 20_000, seed=5)
    slow = []
    extra = float((groups.sums[groups.sums != 0] ** 2).mean())
    for _ in range(4_000):
        taken = rng.integers(0, 40, 40)
        s, m = groups.sums[taken], groups.sizes[taken]
        mean = s.sum() / m.sum()
        slow.append((mean - lattice.mean) / (math.sqrt(((s - mean * m) ** 2).sum() + extra) / m.sum()))
    for q in (0.025, 0.05, 0.5, 0.95, 0.975):
        assert float(np.quantile(fast, q)) == pytest.approx(float(np.quantile(slow, q)), abs=0.12)
    squares = lattice.residual_squares + extra
    assert lattice.regularised_se == pytest.approx(math.sqrt(squares * 40 / 39) / 120)


def test_draws_of_uneven_clusters_are_the_plain_bootstrap() -> None:
    """Twelve clusters of 1 to 30 items, continuous scores: every term of se* counts."""
    rng = np.random.default_rng(8)
    sizes = np.array([1, 1, 2, 2, 3, 4, 5, 8, 10, 15, 20, 30])
    codes = np.repeat(np.arange(12), sizes)
    groups = cluster_sums(rng.normal(-0.2, 0.5, codes.size) + rng.normal(0, 0.3, 12)[codes], codes)
    lattice, extra = groups.lattice(), float((groups.sums**2).mean())
    fast = studentised_draws(lattice, 40_000, seed=1)
    taken = rng.integers(0, 12, (40_000, 12))
    s, m = groups.sums[taken], groups.sizes[taken]
    mean = s.sum(axis=1) / m.sum(axis=1)
    se = np.sqrt(((s - mean[:, None] * m) ** 2).sum(axis=1) + extra) / m.sum(axis=1)
    slow = (mean - lattice.mean) / se
    for q in (0.05, 0.1, 0.5, 0.9, 0.95):
        assert float(np.quantile(fast, q)) == pytest.approx(float(np.quantile(slow, q)), abs=0.05)


@pytest.mark.parametrize("uneven", [False, True])
def test_index_draws_agree_with_lattice_draws(uneven: bool) -> None:
    """Continuous values take the other path through the draws; rounding them to a lattice hardly moves them."""
    rng = np.random.default_rng(2)
    d = rng.normal(-0.02, 0.2, 600)
    clusters = rng.integers(0, 150, 600) if uneven else np.arange(600) // 2
    exact = ClusterEstimator(d, clusters, draws=20_000)
    rounded = ClusterEstimator(np.round(d * 2) / 2, clusters, draws=20_000)
    spread = exact.upper() - exact.lower()
    width = rounded.upper() - rounded.lower()
    assert spread == pytest.approx(width * math.sqrt(exact.unit_variance / rounded.unit_variance), rel=0.1)


@given(st.lists(st.sampled_from([-1.0, -0.4, 0.0, 0.0, 0.2, 1.0]), min_size=3, max_size=40), st.randoms())
@settings(max_examples=40, deadline=None)
def test_order_and_side_change_nothing(values: list[float], random: object) -> None:
    clusters = np.arange(len(values)) // 2
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    d = np.array(values)
    fit = ClusterEstimator(d, clusters, draws=300)
    shuffled = ClusterEstimator(d[order], clusters[order], draws=300)
    assert shuffled.lower() == pytest.approx(fit.lower(), abs=1e-9)
    assert shuffled.p_value() == pytest.approx(fit.p_value(), abs=1e-9)
    swapped = ClusterEstimator(-d, clusters, draws=300)
    assert swapped.delta == pytest.approx(-fit.delta)
    assert fit.lower() <= fit.delta <= fit.upper()


def test_choice_of_the_estimator() -> None:
    base, candidate = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])
    alone = np.arange(4)
    assert isinstance(estimator(base, candidate, alone, single=True), ScoreEstimator)
    assert isinstance(estimator(base, candidate, alone // 2, single=True), ClusterEstimator)
    assert isinstance(estimator(base, candidate, alone, single=False), ClusterEstimator)
    with pytest.raises(ValueError, match="no paired items"):
        estimator(base[:0], candidate[:0], alone[:0], single=True)


@pytest.mark.parametrize("groups", [2, 40, 300])
def test_identical_continuous_scores_are_no_certainty(groups: int) -> None:
    scores = np.random.default_rng(0).random(groups)
    fit = estimator(scores, scores, np.arange(groups), single=False)
    two = interval(fit)
    z = 1.6448536
    assert fit.lower() <= -(z**2) / (groups + z**2)
    assert two.low < 0.0 < two.high
    assert fit.p_value() == 1.0
    assert (fit.lower() > -0.05) == (groups == 300)


def test_one_cluster_says_nothing() -> None:
    fit = estimator(np.ones(50), np.zeros(50), np.zeros(50, dtype=np.int64), single=True)
    assert (fit.lower(), fit.upper()) == (-1.0, 1.0)
    assert fit.p_at_least(-0.02) == fit.p_at_most(0.02) == fit.p_value() == 1.0


def test_copies_of_items_do_not_add_evidence() -> None:
    """Ten copies of each item, clustered: about the interval of the items alone, not one of a third of its width."""
    d = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 200, p=[0.1, 0.85, 0.05])
    alone = ClusterEstimator(d, np.arange(200), draws=4_000)
    copied = ClusterEstimator(np.repeat(d, 10), np.repeat(np.arange(200), 10), draws=4_000)
    assert copied.lower() == pytest.approx(alone.lower(), abs=0.004)
    assert copied.upper() == pytest.approx(alone.upper(), abs=0.004)


def test_scores_beyond_one_keep_their_scale() -> None:
    rng = np.random.default_rng(4)
    base = rng.integers(1, 11, 300).astype(float)
    candidate = np.clip(base + rng.choice([-1, 0, 1], 300), 1, 10)
    fit = estimator(base, candidate, np.arange(300), single=False)
    assert fit.delta == pytest.approx(float((candidate - base).mean()))
    assert 0.05 < fit.upper() - fit.lower() < 0.5


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
@settings(deadline=None)
def test_holm_steps_down(p_values: list[float], alpha: float) -> None:
    """Reject the smallest while p <= alpha / (number left)."""
    rejected = set()
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        if p_values[i] * (len(order) - rank) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected
