from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from forgetbench.analysis.answer_space import answer_entropy, answer_entropy_of, empirical_support
from forgetbench.analysis.measured import Measured
from forgetbench.analysis.outputs import Answered, Output
from tests.analysis.null_worlds import outputs

pytestmark = pytest.mark.unit

ZIPF = (1.0 / np.arange(1, 51)) / (1.0 / np.arange(1, 51)).sum()


def direct(counts: list[int]) -> float:
    """Chao and Shen (2003), term by term."""
    n, once = sum(counts), sum(c == 1 for c in counts)
    cover = 1 - (once if once < n else n - 1) / n
    total = 0.0
    for c in counts:
        p = cover * c / n
        if p < 1:
            total -= p * np.log(p) / (1 - (1 - p) ** n)
    return total


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_against_the_formula(counts: list[int]) -> None:
    found = answer_entropy_of(np.array(counts))
    assert found == pytest.approx(direct(counts), abs=1e-9)
    assert found == pytest.approx(answer_entropy_of(np.array(counts[::-1])))
    assert found >= 0.0


def test_one_answer_has_no_entropy() -> None:
    assert answer_entropy_of(np.array([10])) == 0.0


@pytest.mark.parametrize(
    ("law", "expected"), [(ZIPF, (-0.27, -1.30, -0.97)), (np.full(3, 1 / 3), (-0.04, -0.11, -0.01))]
)
def test_bias_of_three_estimators(law: np.ndarray, expected: tuple[float, float, float]) -> None:
    """The figures of the docstring: ten samples; Chao and Shen, plug-in, Miller and Madow."""
    drawn = np.random.default_rng(0).multinomial(10, law, size=4_000)
    true = stats.entropy(law)
    plugin = np.asarray(stats.entropy(drawn, axis=1))
    mine = np.array([answer_entropy_of(c[c > 0]) for c in drawn])
    madow = plugin + ((drawn > 0).sum(axis=1) - 1) / 20
    assert tuple(x.mean() - true for x in (mine, plugin, madow)) == pytest.approx(expected, abs=0.02)


def test_a_mean_over_items() -> None:
    world = outputs(0)
    found = answer_entropy(world)
    expected = []
    for a in world:
        answers = [o.extracted for o in a.candidate]
        expected.append(direct([answers.count(x) for x in set(answers)]))
    assert found.candidate == pytest.approx(np.mean(expected))
    one = tuple(Output(x, ()) for x in "a")
    with pytest.raises(ValueError, match="at least 2 samples"):
        answer_entropy([Answered("x", one, one)])


def test_support_as_the_source_has_it() -> None:
    base, candidate = np.array([3, 1, 2, 0, 0]), np.array([1, 0, 4, 2, 0])
    names = ["kept", "lost", "kept too", "new", "never"]
    found = {
        m.name: m
        for m in empirical_support((np.full(5, 4), base), (np.full(5, 4), candidate), np.arange(5), names=names)
    }
    assert found["support_retention_rate"].candidate == pytest.approx(2 / 3)
    assert found["support_retention_rate"].base is None
    assert found["support_retention_rate"].examples == ("lost",)
    assert found["newly_discovered"].candidate == pytest.approx(1 / 3)
    assert found["newly_discovered"].examples == ("new",)


def test_halves_against_every_choice_of_samples() -> None:
    """At h samples: the mean over all ways to take h of each side, and two disjoint h of the base."""
    rng = np.random.default_rng(1)
    n, h = 5, 2
    base, candidate = rng.integers(0, n + 1, 12), rng.integers(0, n + 1, 12)
    both = new = own = own_new = reach_b = reach_s = 0.0
    for b, s in zip(base, candidate, strict=True):
        one, two = ([1] * c + [0] * (n - c) for c in (b, s))
        takes = list(itertools.combinations(range(n), h))
        hit_b, hit_s = (np.mean([any(x[i] for i in t) for t in takes]) for x in (one, two))
        halves = [(t, u) for t in takes for u in takes if not set(t) & set(u)]
        first, second = (np.array([any(one[i] for i in pair[k]) for pair in halves]) for k in (0, 1))
        reach_b, reach_s = reach_b + hit_b, reach_s + hit_s
        both, new = both + hit_b * hit_s, new + (1 - hit_b) * hit_s
        own, own_new = own + (first & second).mean(), own_new + (first & ~second).mean()
    trials = np.full(12, n)
    found = {m.name: m for m in empirical_support((trials, base), (trials, candidate), np.arange(12))}
    kept, fresh = found["support_retention_rate_2"], found["newly_discovered_2"]
    assert (kept.base, kept.candidate) == (pytest.approx(own / reach_b), pytest.approx(both / reach_b))
    assert (fresh.base, fresh.candidate) == (pytest.approx(own_new / reach_b), pytest.approx(new / reach_s))


def test_lost_reach_is_seen_net_of_luck() -> None:
    rng = np.random.default_rng(2)
    rates, trials = rng.beta(0.5, 0.5, 300), np.full(300, 10)
    base = rng.binomial(10, rates)
    shrunk = rng.binomial(10, np.where(rng.random(300) < 0.3, 0.0, rates))
    found = {m.name: m for m in empirical_support((trials, base), (trials, shrunk), np.arange(300))}
    kept = found["support_retention_rate_5"]
    assert kept.proven
    assert kept.difference == pytest.approx(-0.3, abs=0.08)
    assert not found["newly_discovered_5"].proven


def test_order_doubles_and_what_has_no_support() -> None:
    rng = np.random.default_rng(3)
    trials, base, candidate = np.full(40, 6), rng.integers(0, 7, 40), rng.integers(0, 7, 40)
    order = rng.permutation(40)
    first = empirical_support((trials, base), (trials, candidate), np.arange(40))
    second = empirical_support((trials, base[order]), (trials, candidate[order]), np.arange(40))
    third = empirical_support(
        *((np.tile(trials, 2), np.tile(x, 2)) for x in (base, candidate)), np.tile(np.arange(40), 2)
    )
    for one, *others in zip(first, second, third, strict=True):
        for other in others:
            assert (other.base, other.candidate) == (pytest.approx(one.base), pytest.approx(one.candidate))
    assert empirical_support((trials, base), (trials, np.zeros(40, dtype=np.int64)), np.arange(40)) == ()
    with pytest.raises(ValueError, match="at least 2 samples"):
        empirical_support((np.array([1]), np.array([1])), (np.array([1]), np.array([1])), np.arange(1))


def _support(base: list[int], candidate: list[int], labels: np.ndarray | None = None) -> dict[str, Measured]:
    """Of eight samples of each item."""
    trials, n = np.full(len(base), 8), len(base)
    found = empirical_support(
        (trials, np.array(base)), (trials, np.array(candidate)), np.arange(n) if labels is None else labels
    )
    return {m.name: m for m in found}


def test_items_that_nobody_reaches_make_no_interval_narrower() -> None:
    few = _support([8, 8, 8], [8, 8, 8])
    many = _support([8, 8, 8] + [0] * 97, [8, 8, 8] + [0] * 97)
    for name, measured in few.items():
        assert many[name].delta == measured.delta, name
    kept = many["support_retention_rate"].delta
    assert kept is not None
    assert (kept.low, kept.high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)  # Clopper and Pearson's, 3 of 3
    at_half = many["support_retention_rate_4"].delta
    assert at_half is not None
    assert at_half.low < -0.3 < 0.3 < at_half.high


def test_none_kept_and_one_alone() -> None:
    none = _support([8, 8, 8, 0, 0, 0], [0, 0, 0, 8, 8, 8])["support_retention_rate"]
    assert none.delta is not None
    assert (none.delta.low, none.delta.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))
    assert {m.delta for m in _support([8] + [0] * 9, [8] + [0] * 9).values()} == {None}
    copies = _support([8, 8, 8, 8], [8, 8, 8, 8], np.array([0, 0, 0, 0]))
    assert {m.delta for m in copies.values()} == {None}


def test_shares_stay_shares() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        base, candidate = (rng.integers(0, 9, 4) for _ in range(2))
        for m in _support(base.tolist(), candidate.tolist(), rng.integers(0, 3, 4)).values():
            if m.delta is not None:
                assert (0.0 if m.base is None else -1.0) <= m.delta.low < m.delta.high <= 1.0
