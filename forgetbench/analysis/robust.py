"""Two plain intervals of a paired mean, to be read beside the one that decides (`paired.py`). Pure functions.

Both are what other tools report. Neither is used for a verdict: with few items or few flips they cover less than
they say (docs/calibration.md has the rates).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.bootstrap import Lattice, mean_draws
from forgetbench.analysis.types import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def cluster_robust(lattice: Lattice, level: float = 0.95) -> Interval:
    """mean +- t * se, the se of Miller (2024, arXiv 2411.00640, section 2.2), t with clusters - 1 degrees of freedom.

    `lattice`: `cluster_sums(d, clusters).lattice()`. Liang and Zeger (1986, Biometrika 73:13) with the factor
    G/(G-1). One cluster alone: the whole line, since nothing can be said.
    """
    from scipy.special import stdtrit

    if lattice.groups < 2:
        return Interval(-math.inf, math.inf, level, "cluster-robust t")
    half = float(stdtrit(lattice.groups - 1, 1.0 - (1.0 - level) / 2.0)) * lattice.robust_se
    return Interval(lattice.mean - half, lattice.mean + half, level, "cluster-robust t")


def percentile(lattice: Lattice, level: float = 0.95, *, draws: int = 10_000, seed: int = 0) -> Interval:
    """Percentiles of the means of resampled clusters: Efron and Tibshirani (1993), section 13.3."""
    found = mean_draws(lattice, draws, seed)
    low, high = np.quantile(found, [(1.0 - level) / 2.0, 1.0 - (1.0 - level) / 2.0])
    return Interval(float(low), float(high), level, "percentile bootstrap")
