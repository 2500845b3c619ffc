"""The rules by which weights become one: functions of float32 arrays, which are tensors or slices of them.

All of them work entry by entry, so that a tensor may come in slices, but for two figures of a whole tensor that are
taken before: the angle of SLERP (`slerp_factors`) and the cut of TIES (`forgetbench.merging.cut`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

PARALLEL = 0.9995
"""|cosine| from which on SLERP is linear: sin(angle) in the denominator would be lost in rounding. Shoemake (1985)
names the case; this threshold is the customary one."""


def linear(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """sum_i w_i W_i / sum_i w_i. Wortsman et al. (2022), "Model soups", arXiv 2203.05482, section 2 (equal weights:
    the uniform soup). The weights' sum must not be 0."""
    return _mean(tensors, weights)


def interpolate(first: Floats, second: Floats, alpha: float) -> Floats:
    """(1 - alpha) W_0 + alpha W_1. WiSE-FT: Wortsman et al. (2021), "Robust fine-tuning of zero-shot models",
    arXiv 2109.01903, section 3."""
    return np.float32(1.0 - alpha) * first + np.float32(alpha) * second


def slerp_factors(dot: float, first_norm: float, second_norm: float, alpha: float) -> tuple[float, float]:
    """Factors of W_0 and W_1: sin((1 - alpha) o) / sin(o) and sin(alpha o) / sin(o), o the angle between them.

    Shoemake (1985), "Animating rotation with quaternion curves", section 3.3, on the flattened tensors, whose lengths
    stay as they are. Nearly parallel or opposite ones (|cos o| > `PARALLEL`) and zero ones are interpolated: 1 - alpha
    and alpha.
    """
    if first_norm == 0.0 or second_norm == 0.0:
        return 1.0 - alpha, alpha
    cosine = dot / (first_norm * second_norm)
    if abs(cosine) > PARALLEL:
        return 1.0 - alpha, alpha
    angle = math.acos(cosine)
    return math.sin((1.0 - alpha) * angle) / math.sin(angle), math.sin(alpha * angle) / math.sin(angle)


def weighed(first: Floats, second: Floats, factors: tuple[float, float]) -> Floats:
    """factors[0] W_0 + factors[1] W_1."""
    return np.float32(factors[0]) * first + np.float32(factors[1]) * second


def ties(base: Floats, trimmed: Sequence[Floats], weights: Sequence[float], lam: float) -> Floats:
    """base + lam * disjoint mean of task vectors that are trimmed already.

    Yadav et al. (2023), "TIES-Merging", arXiv 2306.01708, section 4, steps 2 and 3. Elect: the sign of
    sum_i w_i t_i, that is the one with the greater mass; + where the masses are equal. Disjoint mean: the weighted mean
    of the t_i that have this sign; 0 where there is none. The paper's weights are equal.
    """
    return base + _scaled(disjoint_mean(trimmed, weights), lam)


def disjoint_mean(vectors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Weighted mean of those entries whose sign is the elected one (see `ties`); 0 where there are none."""
    scaled = [np.float32(w) * v for v, w in zip(vectors, weights, strict=True)]
    positive = _sum(scaled) >= 0
    total: Floats = np.zeros_like(scaled[0])
    share: Floats = np.zeros_like(scaled[0])
    for vector, w in zip(scaled, weights, strict=True):
        agrees = np.where(positive, vector > 0, vector < 0)
        total += np.where(agrees, vector, np.float32(0))
        share += np.where(agrees, np.float32(w), np.float32(0))
    share[share == 0] = 1
    return total / share


def dare(base: Floats, dropped: Sequence[Floats], weights: Sequence[float], lam: float) -> Floats:
    """base + lam * sum_i w_i t_i / sum_i w_i of task vectors that went through `drop`.

    Yu et al. (2023), "Language Models are Super Mario", arXiv 2311.03099, section 3: DARE with task arithmetic.
    """
    return base + _scaled(_mean(dropped, weights), lam)


def drop(delta: Floats, kept: Mask, density: float) -> Floats:
    """m * t / density, m drawn entry by entry with P(m = 1) = density: drop and rescale, so that the expectation is t.

    Yu et al. (2023), arXiv 2311.03099, section 3.2, eq. 1 to 3; their drop rate p is 1 - density.
    """
    dropped: Floats = np.where(kept, delta * np.float32(1.0 / density), np.float32(0))
    return dropped


def _mean(tensors: Sequence[Floats], weights: Sequence[float]) -> Floats:
    total = _sum([np.float32(w) * t for t, w in zip(tensors, weights, strict=True)])
    return total / np.float32(sum(weights))


def _sum(tensors: Sequence[Floats]) -> Floats:
    total = tensors[0].copy()
    for tensor in tensors[1:]:
        total += tensor
    return total


def _scaled(values: Floats, factor: float) -> Floats:
    return values if factor == 1.0 else np.float32(factor) * values
