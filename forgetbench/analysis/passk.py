"""pass@k: how likely it is that one of k samples of an item passes.

Source: Chen et al. (2021), "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374), section 2.1
and figure 3: unbiased from n >= k samples, c of which passed, 1 - C(n-c, k) / C(n, k).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.measured import mean_share
from forgetbench.analysis.paired import ClusterEstimator, interval
from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

DRAWS = 4000


class PassAtK(NamedTuple):
    """Mean of pass@k over items, as a share of 1, with the interval over items."""

    k: int
    value: float
    low: float
    high: float
    n_items: int


def pass_at_k(trials: Integers, successes: Integers, k: int) -> Floats:
    """pass@k of each item, in [0, 1]; unbiased.

    trials, successes: shape (items,), 0 <= successes <= trials. Raises ValueError for anything else, and where an
    item has fewer than k samples: there is no unbiased estimate then.
    """
    n, c = np.asarray(trials), np.asarray(successes)
    if n.shape != c.shape or n.ndim != 1 or n.size == 0:
        raise ValueError("trials and successes are not two lists of one length")
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@{k} needs at least {k} samples of every item, the least is {n.min()}")
    if (c < 0).any() or (c > n).any():
        raise ValueError("successes outside 0 to trials")
    # C(n-c, k) / C(n, k) = prod over i < k of (n-c-i) / (n-i): no large numbers, and 0 as soon as n-c < k.
    i = np.arange(k)
    factors = np.maximum((n - c)[:, None] - i, 0) / (n[:, None] - i)
    missed: Floats = factors.prod(axis=1)
    return 1.0 - missed


def mean_pass_at_k(
    trials: Integers,
    successes: Integers,
    k: int,
    *,
    clusters: Integers | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PassAtK:
    """Mean over items with its interval over items or their clusters (`measured.mean_share`), the samples as they are.

    It covers the choice of items and, since every item brings its own samples along, their sampling too. One cluster
    alone: anything from 0 to 1.
    """
    values = pass_at_k(trials, successes, k)
    n = int(values.size)
    labels = np.arange(n) if clusters is None else np.asarray(clusters)
    found = mean_share(values, labels, level=level, draws=DRAWS, seed=seed)
    low, high = (found.low, found.high) if found else (0.0, 1.0)
    return PassAtK(k, math.fsum(values.tolist()) / n, low, high, n)


class PassChange(NamedTuple):
    """How pass@k changed from base to candidate, over the same items."""

    k: int
    base: float
    candidate: float
    delta: float
    interval: Interval
    p_value: float
    """Two-sided, of no change."""


def pass_at_k_change(
    base: tuple[Integers, Integers],
    candidate: tuple[Integers, Integers],
    k: int,
    *,
    clusters: Integers | None = None,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> PassChange:
    """Paired change of pass@k; each side is (trials, successes) of shape (items,), in the order of one another.

    A fine-tune may raise pass@1 and lower pass@k (arXiv 2504.10478): compare several k before calling it better.
    """
    values = [pass_at_k(*side, k) for side in (base, candidate)]
    if values[0].size != values[1].size:
        raise ValueError("both sides need the same items")
    labels = np.arange(values[0].size) if clusters is None else np.asarray(clusters)
    fit = ClusterEstimator(values[1] - values[0], labels, draws=draws, seed=seed)
    before, after = (float(v.mean()) for v in values)
    return PassChange(k, before, after, fit.delta, interval(fit, level), fit.p_value())
