"""The papers' formulas written as plainly as can be, in float64 and on whole tensors: what the package is held to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def soup(tensors: Sequence[Doubles], weights: Sequence[float]) -> Doubles:
    return np.average(np.stack(tensors), axis=0, weights=list(weights))


def slerp(first: Doubles, second: Doubles, t: float) -> Doubles:
    """By the plane that both span: turn the first by t times the angle, without the formula of sines."""
    a, b = first.ravel(), second.ravel()
    u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    angle = math.acos(float(u @ v))
    across = v - (u @ v) * u
    across /= np.linalg.norm(across)
    unit = math.cos(t * angle) * u + math.sin(t * angle) * across  # on the great circle
    # Coordinates of that unit vector along u and v, given the lengths of a and b.
    x, y = np.linalg.lstsq(np.stack([u, v], axis=1), unit, rcond=None)[0]
    return (x * a + y * b).reshape(first.shape)


def trimmed(delta: Doubles, density: float) -> Doubles:
    flat = delta.ravel()
    order = sorted(range(flat.size), key=lambda i: (-abs(flat[i]), i))
    kept = np.zeros_like(flat)
    for i in order[: max(1, int(density * flat.size))]:
        kept[i] = flat[i]
    return kept.reshape(delta.shape)


def ties(base: Doubles, tuned: Sequence[Doubles], density: float, lam: float, weights: Sequence[float]) -> Doubles:
    vectors = [trimmed(t - base, density) for t in tuned]
    out = base.copy()
    for at in np.ndindex(base.shape):
        entries = [(float(v[at]), w) for v, w in zip(vectors, weights, strict=True)]
        up = sum(w * x for x, w in entries if x > 0)
        down = -sum(w * x for x, w in entries if x < 0)
        agreeing = [(x, w) for x, w in entries if (x > 0 if up >= down else x < 0)]
        if agreeing:
            out[at] += lam * sum(w * x for x, w in agreeing) / sum(w for _, w in agreeing)
    return out
