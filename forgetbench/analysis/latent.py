"""The F_LC interval of multiple choice: what was forgotten once lucky guesses are allowed for, with its confidence.

Sources: F_true is arXiv 2510.17776's; F_LC and why only its interval is reported: the project's notes on metrics,
section 1. With k options, F = P(1 -> 0) and W = P(0 -> 0),

    U = W / (1 - 1/k)^2,   F_LC = F / (1 - 1/k) - U / k,   truth in [max(0, F_LC), F / (1 - 1/k)]:

the lower end if base and candidate guess independently, the upper if they share their guesses. Both ends are means
over items of one number each, which holds for items with different k too, so that either has an ordinary
one-sided bound; the set between the outer bounds holds the truth with the stated confidence (Imbens and Manski 2004,
"Confidence intervals for partially identified parameters", lemma 1, without its shortening).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.paired import DRAWS, ClusterEstimator
from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class LatentChange(NamedTuple):
    """All as shares of the items that have choices."""

    low: float
    """max(0, F_LC)."""
    high: float
    """F / (1 - 1/k)."""
    point: float
    """F_LC, unclipped."""
    true_rate: float
    """F_true of arXiv 2510.17776, unclipped."""
    interval: Interval
    """Holds the forgotten share with probability `level`, whatever the guesses have in common."""
    n: int


def latent_change(
    base: Floats,
    candidate: Floats,
    choices: Floats,
    clusters: NDArray[np.int64],
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> LatentChange | None:
    """From scores (n,) of one 0/1 sample (or success rates), options per item (nan: none). None: no item has choices.

    Raises ValueError for an item with fewer than 2 options.
    """
    asked = ~np.isnan(choices)
    if not asked.any():
        return None
    b, s, k, groups = base[asked], candidate[asked], choices[asked], clusters[asked]
    if k.min() < 2:
        raise ValueError("an item with fewer than 2 options cannot be guessed")
    missed = 1.0 - 1.0 / k
    shared = b * (1.0 - s) / missed
    independent = shared - (1.0 - b) * (1.0 - s) / missed**2 / k
    outer = (1.0 - level) / 2.0
    point, high = float(independent.mean()), float(shared.mean())
    lower = _bound(independent, groups, draws, seed).lower(outer)
    upper = _bound(shared, groups, draws, seed).upper(outer)
    forgotten = float((b * (1.0 - s)).mean())
    guessed = float(((1.0 / (k - 1.0)).mean()) * (1.0 - b.mean()) * (1.0 - s.mean()))
    interval = Interval(max(0.0, lower), min(1.0, upper), level, "latent class, outer bounds")
    return LatentChange(max(0.0, point), high, point, forgotten - guessed, interval, int(asked.sum()))


def _bound(values: Floats, clusters: NDArray[np.int64], draws: int, seed: int) -> ClusterEstimator:
    # One item counts at most 1 / (1 - 1/k) <= 2: the scale that the score guard weighs an unseen item with.
    scale = max(1.0, float(np.abs(values).max()))
    return ClusterEstimator(values, clusters, scale=scale, draws=draws, seed=seed)
