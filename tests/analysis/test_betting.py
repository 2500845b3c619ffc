"""Bets: exact wealth, bounds that invert the tests, and levels that hold at any stopping time (by simulation)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from forgetbench.analysis.betting import BettingEstimator, bets, first_boundary, log_wealth
from forgetbench.analysis.significance import mcnemar_exact

pytestmark = pytest.mark.unit

Floats = NDArray[np.float64]


def _items(n: int, psi: float, delta: float, seed: int) -> Floats:
    """(n,) differences: psi of the items change sides, the mean is delta."""
    draw = np.random.default_rng(seed).random(n)
    return np.where(draw < (psi - delta) / 2, -1.0, np.where(draw < psi, 1.0, 0.0))


def _ones(d: Floats) -> Floats:
    return np.ones(d.size)


def test_wealth_is_the_mean_of_the_bets_products() -> None:
    d, mu, grid = [0.0, -1.0, 1.0, 0.3], -0.03, (0.2, 0.4)
    expected = []
    for t in range(1, 5):
        expected.append(sum(math.prod(1 + bet * (x - mu) for x in d[:t]) for bet in grid) / 2)
    found = log_wealth(np.asarray(d), np.ones(4), mu, grid)
    assert np.allclose(np.exp(found), expected, rtol=1e-12)


def test_a_cluster_is_one_bet_on_its_sum() -> None:
    """Three items of which two stand together; the largest cluster has two."""
    found = log_wealth(np.asarray([-1.0, 1.0]), np.asarray([2.0, 1.0]), 0.1, (0.3,), largest=2.0)
    assert math.exp(found[-1]) == pytest.approx((1 + 0.3 * (-1.2 / 2)) * (1 + 0.3 * (0.9 / 2)))


def test_no_unit_takes_all_the_wealth() -> None:
    for mu in (-0.9, 0.0, 0.9):
        assert log_wealth(np.asarray([-1.0]), np.ones(1), mu, (50.0,))[0] == pytest.approx(math.log(0.05))


def test_expected_wealth_is_one_at_the_edge_of_the_hypothesis() -> None:
    """Exactly, over the lattice: a fair game whatever the bet."""
    for mu, psi in ((-0.03, 0.1), (0.015, 0.2)):
        chances = {-1.0: (psi - mu) / 2, 0.0: 1 - psi, 1.0: (psi + mu) / 2}
        mean = sum(p * math.exp(log_wealth(np.asarray([x]), np.ones(1), mu, bets(0.03))[0]) for x, p in chances.items())
        assert mean == pytest.approx(1.0, abs=1e-12)


def test_bounds_invert_the_tests_and_never_widen() -> None:
    d = _items(600, 0.2, -0.05, 3)
    fit = BettingEstimator(d, _ones(d), margin=0.03)
    for alpha in (0.025, 0.05, 0.2):
        lower, upper = fit.lower(alpha), fit.upper(alpha)
        assert lower < upper
        assert fit.p_at_most(lower - 1e-6) <= alpha < fit.p_at_most(lower + 1e-6)
        assert fit.p_at_least(upper + 1e-6) <= alpha < fit.p_at_least(upper - 1e-6)
    steps = [BettingEstimator(d[:n], _ones(d[:n]), margin=0.03) for n in (50, 100, 300, 600)]
    lowers, uppers = [s.lower() for s in steps], [s.upper() for s in steps]
    assert lowers == sorted(lowers)
    assert uppers == sorted(uppers, reverse=True)


def test_mirrored_differences_give_mirrored_bounds() -> None:
    d = _items(300, 0.3, -0.1, 5)
    one, other = (BettingEstimator(x, _ones(d), margin=0.05) for x in (d, -d))
    assert one.lower() == -other.upper()
    assert one.p_at_most(-0.03) == other.p_at_least(0.03)
    assert one.p_value() == other.p_value()


def test_a_pass_excludes_the_margin_and_a_fail_half_of_it() -> None:
    """The same boundary, read as a test and as a bound."""
    for seed, delta, psi in ((1, 0.0, 0.05), (2, -0.15, 0.2)):
        d = _items(1319, psi, delta, seed)
        stop = first_boundary(d, _ones(d), margin=0.03)
        fit = BettingEstimator(d[: stop.units], _ones(d[: stop.units]), margin=0.03)
        before = BettingEstimator(d[: stop.units - 1], _ones(d[: stop.units - 1]), margin=0.03)
        if stop.leg == "PASS":
            assert fit.lower() > -0.03 >= before.lower()
        else:
            assert stop.leg == "FAIL"
            assert fit.upper() < -0.015 <= before.upper()


def test_the_first_boundary_wins_and_later_items_change_nothing() -> None:
    d = np.concatenate([_items(800, 0.05, 0.0, 1), -np.ones(400)])
    stop = first_boundary(d, _ones(d), margin=0.03)
    assert stop.leg == "PASS"
    assert stop.units < 800


def test_nothing_is_decided_below_the_least_number_of_items() -> None:
    d = -np.ones(300)
    assert first_boundary(d, _ones(d), margin=0.03).units < 20
    assert first_boundary(d, _ones(d), margin=0.03, least=250) == ("FAIL", 250)
    assert first_boundary(d[:100], _ones(d[:100]), margin=0.03, least=250) == (None, 100)


def test_differences_that_no_bet_allows_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        BettingEstimator(np.asarray([2.0]), np.ones(1), margin=0.03)
    with pytest.raises(ValueError, match="no unit be larger"):
        BettingEstimator(np.asarray([2.0]), np.asarray([2.0]), margin=0.03, largest=1.0)


def _rates(n: int, psi: float, delta: float, reps: int, *, margin: float = 0.03, alpha: float = 0.05) -> Floats:
    """(3,) share of streams that pass, that fail, and mean share of the items used."""
    made = np.zeros(3)
    for seed in range(reps):
        d = _items(n, psi, delta, 10_000 + seed)
        stop = first_boundary(d, _ones(d), margin=margin, pass_alpha=alpha, fail_alpha=alpha)
        made += (stop.leg == "PASS", stop.leg == "FAIL", stop.units / n)
    return made / reps


@pytest.mark.parametrize("psi", [0.05, 0.2])
def test_looking_after_every_item_errs_at_most_alpha(psi: float) -> None:
    """2,000 streams at the edge of each hypothesis, where the level is reached if anywhere (benchmarks/sequential.py
    has the whole table); 3 standard errors of a share of .05 are .015."""
    n, reps = 541, 2_000
    assert _rates(n, psi, -0.03, reps)[0] <= 0.05 + 0.015
    assert _rates(n, psi, -0.015, reps)[1] <= 0.05 + 0.015


def test_a_fixed_test_looked_at_as_often_would_err_far_more() -> None:
    """So that the simulation above can fail: a z test after every tenth item."""
    n, false_passes = 541, 0
    for seed in range(300):
        d = _items(n, 0.2, -0.03, 10_000 + seed)
        t = np.arange(1, n + 1)
        mean = np.cumsum(d) / t
        se = np.sqrt(np.maximum(np.cumsum(d**2) / t - mean**2, 1e-9) / t)
        false_passes += bool(((mean + 0.03) / se > 1.645)[49::10].any())
    assert false_passes / 300 > 0.12


def test_half_of_the_set_decides_no_change_at_ten_percent_discordance() -> None:
    passed, failed, used = _rates(1319, 0.1, 0.0, 400)
    assert passed >= 0.8
    assert failed <= 0.02
    assert used <= 0.6


def test_a_plain_loss_is_found_by_both() -> None:
    d = _items(1319, 0.1, -0.08, 4)
    lost, gained = int((d < 0).sum()), int((d > 0).sum())
    assert mcnemar_exact(lost, gained) < 1e-6
    stop = first_boundary(d, _ones(d), margin=0.03)
    assert stop.leg == "FAIL"
    assert stop.units < 0.5 * d.size
