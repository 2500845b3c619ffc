"""The F_LC interval against a world where what was forgotten is known."""

from __future__ import annotations

import numpy as np
import pytest

from forgetbench.analysis.forgetting import chance_adjusted, latent_class
from forgetbench.analysis.latent import LatentChange, latent_change

pytestmark = pytest.mark.unit


def world(rng: np.random.Generator, n: int, k: np.ndarray, lost: float, shared: float) -> tuple[np.ndarray, ...]:
    """(base, candidate, truly forgotten): 60 % known, `lost` of all items forgotten, as many learned; who does not
    know guesses, and a share of the guesses is the same on both sides."""
    knew = rng.random(n) < 0.6
    knows = np.where(knew, rng.random(n) >= lost / 0.6, rng.random(n) < lost / 0.4)
    first, second = rng.random(n) < 1 / k, rng.random(n) < 1 / k
    second = np.where(rng.random(n) < shared, first, second)
    return (knew | first).astype(float), (knows | second).astype(float), knew & ~knows


def fit(base: np.ndarray, candidate: np.ndarray, k: np.ndarray, draws: int = 500) -> LatentChange:
    found = latent_change(base, candidate, k, np.arange(base.size), draws=draws)
    assert found is not None
    return found


def test_one_number_of_options_is_the_formula_of_the_notes() -> None:
    base, candidate, _ = world(np.random.default_rng(0), 2_000, np.full(2_000, 4.0), 0.05, 0.0)
    found = fit(base, candidate, np.full(2_000, 4.0))
    forgotten, wrong = float((base * (1 - candidate)).mean()), float(((1 - base) * (1 - candidate)).mean())
    low, high, point = latent_class(forgotten, wrong, 4)
    assert (found.low, found.high, found.point) == pytest.approx((low, high, point))
    assert found.true_rate == pytest.approx(chance_adjusted(forgotten, base.mean(), candidate.mean(), 4))
    assert found.interval.low < found.low < found.high < found.interval.high


@pytest.mark.parametrize("shared", [0.0, 0.6, 1.0])
def test_truth_lies_between_the_ends_whatever_the_guesses_share(shared: float) -> None:
    """Options differ by item. Independent guesses: the lower end is the truth itself; the same guess: the upper."""
    rng = np.random.default_rng(1)
    k = rng.choice([2.0, 4.0, 10.0], 400_000)
    base, candidate, gone = world(rng, k.size, k, 0.05, shared)
    # Lost and then guessed right is forgotten too, and only the upper end's assumption cannot see it apart.
    found = fit(base, candidate, k, draws=20)
    assert found.low - 0.002 <= gone.mean() <= found.high + 0.002
    if shared == 0.0:
        assert found.point == pytest.approx(gone.mean(), abs=0.002)


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_outer_bounds_cover(shared: float) -> None:
    rng = np.random.default_rng(2)
    k = np.full(300, 4.0)
    held = 0
    for _ in range(200):
        base, candidate, _ = world(rng, 300, k, 0.05, shared)
        found = fit(base, candidate, k, draws=200)
        held += found.interval.low <= 0.05 <= found.interval.high
    assert held >= 188


def test_identical_answers() -> None:
    base = (np.arange(400) % 10 < 7).astype(float)
    found = fit(base, base, np.full(400, 4.0))
    assert found.point == pytest.approx(-0.133, abs=0.001)  # the notes' figure at acc .70
    assert (found.low, found.high, found.interval.low) == (0.0, 0.0, 0.0)
    assert 0.0 < found.interval.high < 0.03


def test_items_without_choices() -> None:
    base = np.ones(4)
    none = np.full(4, np.nan)
    assert latent_change(base, base, none, np.arange(4)) is None
    some = latent_change(base, base, np.array([4, np.nan, 4, np.nan]), np.arange(4), draws=50)
    assert some is not None
    assert some.n == 2
    with pytest.raises(ValueError, match="fewer than 2 options"):
        latent_change(base, base, np.ones(4), np.arange(4))
