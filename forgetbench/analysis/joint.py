"""Expected loss E[(p_b - p_s)+] and gain E[(p_s - p_b)+] of items whose success rates are only sampled.

Single flips overstate forgetting, since an item at p = .5 flips half of the time although nothing was lost. Here
the joint distribution of (p_b, p_s) over items is estimated by nonparametric maximum likelihood and the loss read
off it. Sources: Kiefer and Wolfowitz (1956), "Consistency of the maximum likelihood estimator in the presence of
infinitely many incidental parameters"; Laird (1978), "Nonparametric maximum likelihood estimation of a mixing
distribution", JASA 73:805, for EM on a grid; the mixture of binomials goes back to Lord (1969). The measure and its
bias under no change (about +.014): the project's notes on metrics, section 1.

Data are a table of counts: cell (i, j) holds the items with i of K_b successes in the base and j of K_s in the
candidate. Nothing else matters, so the bootstrap resamples the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.forgetting import MomentBound
from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

GRID = 21
"""Grid points of each rate: 0, .05, ... 1. With K = 10 samples a finer grid moves a loss by less than .003 (tests)."""
STEPS = 200
"""EM steps. The likelihood is flat near its top: more of them move a loss by less than .003 (tests)."""
DRAWS = 200


class Expected(NamedTuple):
    """Expected loss and gain per item, as shares of 1, with what bounds them."""

    loss: float
    """Likelihood estimate, never below the moment bound. Above 0 also where nothing was lost: see `null`."""
    gain: float
    loss_interval: Interval
    gain_interval: Interval
    bound: MomentBound
    """F* and BT*: lower bounds of loss and gain."""
    null: float
    """What loss and gain come to on average where both sides have the same rates: the estimate's bias there."""


def table_of(successes: tuple[Integers, Integers], samples: tuple[int, int]) -> Integers:
    """(K_b + 1, K_s + 1) items by successes of both sides; `successes`: (n,) of base and of candidate.

    Raises ValueError where K < 2 (rates and noise cannot be told apart) or a count is outside 0 to K.
    """
    base, candidate = (np.asarray(s, dtype=np.int64) for s in successes)
    if min(samples) < 2:
        raise ValueError("expected loss needs at least 2 samples of each side")
    if base.shape != candidate.shape or base.ndim != 1 or not base.size:
        raise ValueError("both sides need the successes of the same items, one or more")
    if min(base.min(), candidate.min()) < 0 or base.max() > samples[0] or candidate.max() > samples[1]:
        raise ValueError("successes outside 0 to the number of samples")
    width = samples[1] + 1
    table: Integers = np.bincount(base * width + candidate, minlength=(samples[0] + 1) * width)
    return table.reshape(samples[0] + 1, width)


def joint_fit(tables: Floats, *, grid: int = GRID, steps: int = STEPS) -> Floats:
    """Maximum-likelihood weights (..., grid, grid) over (p_b, p_s) for tables (..., K_b + 1, K_s + 1)."""
    base, candidate = (_likelihood(size - 1, grid) for size in tables.shape[-2:])
    shares = tables / tables.sum(axis=(-2, -1), keepdims=True)
    weights = np.full((*tables.shape[:-2], grid, grid), 1.0 / grid**2)
    for _ in range(steps):
        expected = base @ weights @ candidate.T
        # Every cell is possible under every inner grid point, so that expected > 0.
        weights = weights * (base.T @ (shares / expected) @ candidate)
    return weights


def losses(weights: Floats) -> tuple[Floats, Floats]:
    """(loss, gain) of each joint distribution (..., grid, grid)."""
    points = np.linspace(0.0, 1.0, weights.shape[-1])
    lost = np.maximum(points[:, None] - points[None, :], 0.0)
    return (weights * lost).sum(axis=(-2, -1)), (weights * lost.T).sum(axis=(-2, -1))


def expected_change(
    table: Integers, *, level: float = 0.95, draws: int = DRAWS, seed: int = 0, grid: int = GRID, steps: int = STEPS
) -> Expected:
    """Loss and gain with intervals, from a table of counts (`table_of`).

    The interval is calibrated under the null: tables are drawn from rates that are the same on both sides (fitted
    to both together), and what the estimate shows there is its bias. The lower end lies the bootstrap's spread
    below the estimate less that bias, and is 0 unless the estimate exceeds what no change gives in all but
    (1 - level)/2 of the draws; the upper end is the bootstrap's percentile. The point is not moved: where every
    item lost a little the bias is nearly nothing, where items flicker it is that of the null.
    """
    rng = np.random.default_rng(seed)
    n = int(table.sum())
    tail = (1.0 - level) / 2.0
    raw = [float(x) for x in losses(joint_fit(table.astype(np.float64), grid=grid, steps=steps))]
    same = np.concatenate(losses(joint_fit(_null_tables(table, draws, rng, grid, steps), grid=grid, steps=steps)))
    null, edge = float(same.mean()), float(np.quantile(same, 1.0 - tail))
    again = rng.multinomial(n, (table / n).ravel(), size=draws).reshape(draws, *table.shape).astype(np.float64)
    moved = losses(joint_fit(again, grid=grid, steps=steps))
    bound = moment_bound_of(table)
    found = []
    for value, resampled, floor in zip(raw, moved, bound, strict=True):
        low, high = (float(q) for q in np.quantile(resampled, [tail, 1.0 - tail]))
        # Resampled estimates hold the bias twice, so that their spread counts and not where they lie.
        low = max(0.0, value - null - (float(resampled.mean()) - low)) if value > edge else 0.0
        point = max(value, floor)
        found.append((point, Interval(min(low, point), max(high, point), level, "joint likelihood, bootstrap")))
    (loss, loss_interval), (gain, gain_interval) = found
    return Expected(loss, gain, loss_interval, gain_interval, bound, null)


def moment_bound_of(table: Integers) -> MomentBound:
    """F* and BT* of a table whose sides may have different numbers of samples (`forgetting.moment_bound`)."""
    k_base, k_candidate = (size - 1 for size in table.shape)
    rate_b = np.arange(k_base + 1)[:, None] / k_base
    rate_s = np.arange(k_candidate + 1)[None, :] / k_candidate
    noise = rate_b * (1.0 - rate_b) / (k_base - 1) + rate_s * (1.0 - rate_s) / (k_candidate - 1)
    share = table / table.sum()
    d = rate_b - rate_s
    second, first = float((share * (d**2 - noise)).sum()), float((share * d).sum())
    return MomentBound((second + first) / 2.0, (second - first) / 2.0)


def _null_tables(table: Integers, draws: int, rng: np.random.Generator, grid: int, steps: int) -> Floats:
    """Tables drawn from the best fit in which both sides have the same rate: (draws, K_b + 1, K_s + 1)."""
    k_base, k_candidate = (size - 1 for size in table.shape)
    total = np.arange(k_base + 1)[:, None] + np.arange(k_candidate + 1)[None, :]
    pooled = np.bincount(total.ravel(), weights=table.ravel()) / table.sum()
    law = _likelihood(k_base + k_candidate, grid)
    weights = np.full(grid, 1.0 / grid)
    for _ in range(steps):
        weights = weights * (law.T @ (pooled / (law @ weights)))
    cells = (_likelihood(k_base, grid) * weights) @ _likelihood(k_candidate, grid).T
    cells = cells.ravel() / cells.sum()
    return rng.multinomial(int(table.sum()), cells, size=draws).reshape(draws, *table.shape).astype(np.float64)


def _likelihood(samples: int, grid: int) -> Floats:
    """(samples + 1, grid): P(count | rate), the grid's ends moved in by a hair so that no cell is impossible."""
    from scipy.stats import binom

    points = np.linspace(0.0, 1.0, grid).clip(1e-9, 1.0 - 1e-9)
    return np.asarray(binom.pmf(np.arange(samples + 1)[:, None], samples, points[None, :]), dtype=np.float64)
