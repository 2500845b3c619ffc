"""The posterior of an item's rates: against loops and closed forms, its symmetries, and its stated error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from forgetbench.analysis.joint import joint_fit, table_of
from forgetbench.causes.posterior import GRID, STRENGTH, fit_prior, points, posteriors, stability
from forgetbench.causes.types import Count, Options, Stability

pytestmark = pytest.mark.unit
OPTIONS = Options()


def labelled(pb: np.ndarray, ps: np.ndarray, seed: int, n: int = 20) -> list[Stability]:
    rng = np.random.default_rng(seed)
    base = [Count(int(k), n) for k in rng.binomial(n, pb)]
    candidate = [Count(int(k), n) for k in rng.binomial(n, ps)]
    each = posteriors(fit_prior(base, candidate), base, candidate)
    return [stability(p, b, c, "lost", OPTIONS) for p, b, c in zip(each, base, candidate, strict=True)]


def flipped(pb: np.ndarray, ps: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Those whose greedy answers, taken for draws, were lost."""
    rng = np.random.default_rng(seed)
    kept = (rng.random(pb.size) < pb) & (rng.random(ps.size) >= ps)
    return pb[kept], ps[kept]


def test_a_flat_prior_gives_the_binomial_likelihood_by_a_loop() -> None:
    base, candidate = Count(17, 20), Count(3, 10)
    (found,) = posteriors(fit_prior([], []), [base], [candidate])
    grid = np.clip(points(), 1e-3, 1 - 1e-3)
    wanted = np.empty((GRID, GRID))
    for i, p in enumerate(grid):
        for j, q in enumerate(grid):
            wanted[i, j] = binom.pmf(17, 20, p) * binom.pmf(3, 10, q)
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=1e-12)
    s = stability(found, base, candidate, "lost", OPTIONS)
    held = sum(found[i, j] for i in range(GRID) for j in range(GRID) if i >= 12 and j <= 5)
    lower = sum(found[i, j] for i in range(GRID) for j in range(GRID) if i - j > 5)
    assert s.p_consistent == pytest.approx(held)
    assert s.p_lower == pytest.approx(lower)
    assert s.base_rate == pytest.approx(float(found.sum(axis=1) @ points()))


def test_many_items_of_one_kind_are_fitted_as_by_the_joint_likelihood() -> None:
    rng = np.random.default_rng(3)
    pb = np.concatenate([np.full(3000, 0.9), np.full(3000, 0.5)])
    ps = np.concatenate([np.full(3000, 0.1), np.full(3000, 0.5)])
    kb, ks = rng.binomial(10, pb), rng.binomial(10, ps)
    mine = fit_prior([Count(int(k), 10) for k in kb], [Count(int(k), 10) for k in ks])
    theirs = joint_fit(table_of((kb, ks), (10, 10)).astype(float), grid=GRID, steps=100)
    np.testing.assert_allclose(mine, theirs, atol=6000 / (6000 + STRENGTH) * 0.01)


def test_pass_at_half_of_the_samples_is_blind_to_a_fall() -> None:
    base, candidate = Count(18, 20), Count(6, 20)
    (found,) = posteriors(fit_prior([], []), [base], [candidate])
    s = stability(found, base, candidate, "lost", OPTIONS)
    assert s.pass_k == 10
    assert s.pass_base == 1.0
    assert s.pass_candidate > 0.97
    assert s.label == "weakened"


@pytest.mark.parametrize("shape", ["u", "hill", "half"])
@pytest.mark.parametrize("seed", [0, 1])
def test_on_no_change_at_most_one_flip_in_200_is_called_a_loss(shape: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = {"u": rng.beta(0.5, 0.5, 20_000), "hill": rng.beta(2, 2, 12_000), "half": np.full(8_000, 0.5)}[shape]
    labels = [s.label for s in labelled(*flipped(p, p, seed), seed)]
    assert len(labels) > 1500
    assert sum(x in ("consistent", "weakened") for x in labels) <= 0.005 * len(labels)
    assert labels.count("flicker") >= 0.9 * len(labels)


@pytest.mark.parametrize("size", [400, 6000])
def test_labels_keep_their_stated_probability_on_a_mixture(size: int) -> None:
    rng = np.random.default_rng(size)
    quarter = size // 4
    kinds = [
        (rng.beta(20, 1, quarter), rng.beta(1, 30, quarter)),
        (rng.beta(20, 1, quarter), rng.beta(8, 12, quarter)),
        (rng.random(quarter), rng.random(quarter)),
    ]
    same = rng.beta(2, 2, quarter)
    pb = np.concatenate([*(k[0] for k in kinds), same])
    ps = np.concatenate([*(k[1] for k in kinds), same])
    pb, ps = flipped(pb, ps, size)
    labels = np.array([s.label for s in labelled(pb, ps, size)])
    truth = {
        "consistent": (pb >= OPTIONS.high) & (ps <= OPTIONS.low),
        "weakened": pb - ps > OPTIONS.small,
        "flicker": np.abs(pb - ps) <= OPTIONS.small,
    }
    for name, is_true in truth.items():
        given_label = is_true[labels == name]
        assert given_label.size >= 5
        assert given_label.mean() >= OPTIONS.sure - 2 * np.sqrt(0.09 / given_label.size), name


COUNTS = st.integers(1, 30).flatmap(lambda n: st.builds(Count, st.integers(0, n), st.just(n)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=8))
def test_exchanging_the_sides_turns_lost_into_gained(counts: list[tuple[Count, Count]]) -> None:
    base, candidate = [b for b, _ in counts], [c for _, c in counts]
    one = posteriors(fit_prior(base, candidate), base, candidate)
    other = posteriors(fit_prior(candidate, base), candidate, base)
    np.testing.assert_allclose(one.sum(axis=(1, 2)), 1.0)
    for p, q, b, c in zip(one, other, base, candidate, strict=True):
        lost, gained = stability(p, b, c, "lost", OPTIONS), stability(q, c, b, "gained", OPTIONS)
        assert lost.p_consistent == pytest.approx(gained.p_consistent, abs=1e-9)
        assert lost.p_lower == pytest.approx(gained.p_lower, abs=1e-9)
        assert lost.loss.low <= lost.base_rate - lost.candidate_rate + 1e-9 or lost.p_small < 1
        assert lost.base_rate == pytest.approx(gained.candidate_rate, abs=1e-9)


def test_a_side_without_samples_is_refused() -> None:
    (found,) = posteriors(fit_prior([], []), [Count(1, 2)], [Count(0, 0)])
    with pytest.raises(ValueError, match="pass@1"):
        stability(found, Count(1, 2), Count(0, 0), "lost", OPTIONS)
