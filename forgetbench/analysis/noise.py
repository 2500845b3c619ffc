"""How much of a comparison's noise comes from the items, and how much from drawing one answer to each.

Source: "Measuring all the noises of LLM evals" (arXiv 2512.21326), section 3: the law of total variance for the
paired difference of one sample each,

    Var(A - B) = Var_x(E[A - B | x]) + E_x(Var(A - B | x)) = data + prediction

from K >= 2 samples a side. Per item the sample variance s^2 (divisor K - 1) is unbiased for the noise of one
answer; the variance of the items' mean differences holds data + prediction / K, so that the second is taken off.
More samples shrink only the prediction noise: se(K) = sqrt((data + prediction / K) / n).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Noise(NamedTuple):
    """Variances per item of the difference candidate - base, in squared score units."""

    data: float
    """Between items; unbiased, hence possibly below zero by chance."""
    prediction: float
    """Of one answer from each side, averaged over items."""
    n: int

    @property
    def share(self) -> float:
        """Share of a single-sample comparison's variance that is prediction noise, in [0, 1]; 0 without noise."""
        data = max(self.data, 0.0)
        return self.prediction / (data + self.prediction) if self.prediction > 0.0 else 0.0

    def unit_variance(self, samples: float) -> float:
        """n times the variance of the mean difference with so many samples of each item and side."""
        return max(self.data, 0.0) + self.prediction / samples

    def se(self, samples: float) -> float:
        """Standard error of the mean difference with so many samples of each item and side."""
        return math.sqrt(self.unit_variance(samples) / self.n)


def noise_of_samples(base: Floats, candidate: Floats) -> Noise:
    """From the samples themselves: base (n, K_b), candidate (n, K_s), any range, K >= 2 a side, n >= 2."""
    if base.ndim != 2 or candidate.ndim != 2 or base.shape[0] != candidate.shape[0]:
        raise ValueError("samples must be (items, samples) with the same items on both sides")
    samples = base.shape[1], candidate.shape[1]
    if min(samples) < 2:
        raise ValueError("the noise of single answers needs at least 2 samples of each side")
    means = base.mean(axis=1), candidate.mean(axis=1)
    variances = base.var(axis=1, ddof=1), candidate.var(axis=1, ddof=1)
    return _noise(means[1] - means[0], variances, samples)


def noise_of_rates(base: Floats, candidate: Floats, base_samples: int, candidate_samples: int) -> Noise:
    """From success rates (n,) of 0/1 samples: s^2 = K/(K-1) * rate * (1 - rate)."""
    if min(base_samples, candidate_samples) < 2:
        raise ValueError("the noise of single answers needs at least 2 samples of each side")
    sides = ((base, base_samples), (candidate, candidate_samples))
    variances = tuple(k / (k - 1) * rates * (1.0 - rates) for rates, k in sides)
    return _noise(candidate - base, (variances[0], variances[1]), (base_samples, candidate_samples))


def _noise(d: Floats, variances: tuple[Floats, Floats], samples: tuple[int, int]) -> Noise:
    if d.size < 2:
        raise ValueError("the variance between items needs at least 2 items")
    single = [float(v.mean()) for v in variances]
    still = sum(v / k for v, k in zip(single, samples, strict=True))
    return Noise(float(d.var(ddof=1)) - still, sum(single), int(d.size))
