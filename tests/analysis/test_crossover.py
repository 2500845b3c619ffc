from __future__ import annotations

import numpy as np
import pytest

from forgetbench.analysis.crossover import crossing_of, crossover_reading, pass_curves, pass_measures
from forgetbench.analysis.passk import mean_pass_at_k, pass_at_k_change

pytestmark = pytest.mark.unit

Counts = tuple[np.ndarray, np.ndarray]


def sharpened(seed: int, n: int = 300) -> tuple[Counts, Counts]:
    """pass@1 rises while pass@10 falls."""
    rng = np.random.default_rng(seed)
    rates, trials = rng.uniform(0.2, 0.5, n), np.full(n, 10)
    sharp = np.where(rng.random(n) < rates + 0.15, 0.95, 0.01)
    return (trials, rng.binomial(10, rates)), (trials, rng.binomial(10, sharp))


def same_law(seed: int, n: int = 100) -> tuple[Counts, Counts]:
    rng = np.random.default_rng(seed)
    rates, trials = rng.beta(0.5, 0.5, n), np.full(n, 8)
    return (trials, rng.binomial(8, rates)), (trials, rng.binomial(8, rates))


def test_curves_are_those_of_passk() -> None:
    base, candidate = sharpened(0)
    found = pass_curves(base, candidate, ks=(1, 2, 5, 10))
    assert found.ks == (1, 2, 5, 10)
    for i, k in enumerate(found.ks):
        assert found.base[i] == mean_pass_at_k(*base, k)
        assert found.candidate[i] == mean_pass_at_k(*candidate, k)
        assert found.change[i] == pass_at_k_change(base, candidate, k)
    assert pass_curves(base, candidate).ks == tuple(range(1, 11))


def test_a_crossing_is_found_and_proven() -> None:
    found = pass_curves(*sharpened(1))
    deltas = [c.delta for c in found.change]
    first = next(k for k, d in zip(found.ks, deltas, strict=True) if d < 0)
    crossover = found.crossover
    assert deltas[0] > 0.0
    assert crossover.k == first
    assert crossover.low is not None
    assert crossover.high is not None
    assert crossover.low <= first <= crossover.high
    assert crossover.probability > 0.95
    assert crossover.proven
    assert crossover_reading(found).startswith(f"the candidate is ahead at k = 1 and behind from k = {first} on")
    measured = pass_measures(found, 300)
    assert [m.name for m in measured] == ["pass_at_1", "pass_at_10"]
    assert measured[0].difference > 0.0 > measured[1].difference
    assert measured[1].note.endswith("; proven")


def test_the_sides_swapped_cross_at_the_same_k() -> None:
    base, candidate = sharpened(2)
    one, two = pass_curves(base, candidate).crossover, pass_curves(candidate, base).crossover
    assert one == two


def test_a_candidate_that_is_worse_everywhere_does_not_cross() -> None:
    rng = np.random.default_rng(3)
    rates, trials = rng.uniform(0.2, 0.9, 300), np.full(300, 10)
    found = pass_curves((trials, rng.binomial(10, rates)), (trials, rng.binomial(10, rates * 0.6)))
    assert found.crossover.k is None
    assert found.crossover.probability < 0.01
    assert not found.crossover.proven
    assert crossover_reading(found) == "the curves do not cross up to k = 10"


def test_crossings_of_rows_against_a_loop() -> None:
    rng = np.random.default_rng(4)
    rows = rng.integers(-1, 2, (500, 5)).astype(float)
    for row, found in zip(rows, crossing_of(rows), strict=True):
        ahead = next((x for x in row if x), 0.0)
        expected = next((i for i, x in enumerate(row) if x and x == -ahead), -1)
        assert found == expected


def test_curves_that_begin_with_a_tie_name_the_side_that_is_ahead_after_it() -> None:
    """pass@1 is equal; the candidate is ahead at k = 2 and 3, behind from 4 on."""
    trials, base, candidate = np.full(4, 8), np.array([2, 2, 6, 2]), np.array([1, 5, 4, 2])
    found = pass_curves((trials, base), (trials, candidate))
    assert np.sign(np.round([c.delta for c in found.change[:5]], 9)).tolist() == [0, 1, 0, -1, -1]
    assert crossover_reading(found).startswith("the candidate is ahead at k = 2 and behind from k = 4 on")
    swapped = pass_curves((trials, candidate), (trials, base))
    assert crossover_reading(swapped).startswith("the base is ahead at k = 2 and behind from k = 4 on")


def test_equal_models_are_hardly_ever_proven_to_cross() -> None:
    found = [pass_curves(*same_law(seed), ks=(1, 8), draws=100).crossover for seed in range(40)]
    assert sum(c.proven for c in found) <= 1
    assert np.mean([c.probability for c in found]) > 0.1  # which is why the probability alone proves nothing


def test_order_and_clusters() -> None:
    base, candidate = sharpened(5, 60)
    order = np.random.default_rng(6).permutation(60)
    first = pass_curves(base, candidate, ks=(1, 5))
    second = pass_curves(*((t[order], c[order]) for t, c in (base, candidate)), ks=(1, 5))
    assert [c.delta for c in first.change] == pytest.approx([c.delta for c in second.change])
    clustered = pass_curves(base, candidate, ks=(1, 5), clusters=np.arange(60) // 10)
    assert clustered.change[0].delta == pytest.approx(first.change[0].delta)
    with pytest.raises(ValueError, match="ascend"):
        pass_curves(base, candidate, ks=(5, 1))
    with pytest.raises(ValueError, match="at least 11"):
        pass_curves(base, candidate, ks=(11,))
