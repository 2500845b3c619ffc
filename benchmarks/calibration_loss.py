"""Coverage of the intervals of expected loss and gain (`forgetbench/analysis/joint.py`), by simulation.

400 items, 10 samples a side; rates of the base from Beta(1/2, 1/2), which is U-shaped as real ones are. What happens to
them differs by scenario; the truth is the scenario's own E[(p_b - p_s)+], not the sample's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.joint import expected_change, table_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ITEMS, SAMPLES = 400, 10


class LossResult(NamedTuple):
    scenario: str
    loss: float
    gain: float
    datasets: int
    mean_loss: float
    """Mean estimate."""
    mean_gain: float
    mean_bound: float
    """Mean of F*."""
    loss_coverage: float
    gain_coverage: float


def _nothing(rates: Floats, rng: np.random.Generator) -> Floats:
    return rates


def _some_lost(rates: Floats, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(rates.size) < 0.1, 0.0, rates)


def _all_lower(rates: Floats, rng: np.random.Generator) -> Floats:
    return np.maximum(rates - 0.1, 0.0)


def _both_ways(rates: Floats, rng: np.random.Generator) -> Floats:
    u = rng.random(rates.size)
    return np.where(u < 0.1, 0.0, np.where(u > 0.95, 1.0, rates))


SCENARIOS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "nothing changed": _nothing,
    "10 % of the items lost whole": _some_lost,
    "every rate lower by .1": _all_lower,
    "10 % lost, 5 % gained": _both_ways,
}


def loss_coverage(scenario: str, datasets: int, draws: int) -> LossResult:
    change = SCENARIOS[scenario]
    rng = np.random.default_rng([len(scenario), datasets])
    many = rng.beta(0.5, 0.5, 1_000_000)
    after = change(many, rng)
    loss, gain = float(np.maximum(many - after, 0.0).mean()), float(np.maximum(after - many, 0.0).mean())
    found, held = [], []
    for seed in range(datasets):
        rates = rng.beta(0.5, 0.5, ITEMS)
        counts = rng.binomial(SAMPLES, rates), rng.binomial(SAMPLES, change(rates, rng))
        fit = expected_change(table_of(counts, (SAMPLES, SAMPLES)), draws=draws, seed=seed)
        found.append((fit.loss, fit.gain, fit.bound.loss))
        held.append(
            (
                fit.loss_interval.low <= loss <= fit.loss_interval.high,
                fit.gain_interval.low <= gain <= fit.gain_interval.high,
            )
        )
    means, shares = np.mean(found, axis=0), np.mean(held, axis=0)
    return LossResult(scenario, loss, gain, datasets, *means.tolist(), *shares.tolist())
