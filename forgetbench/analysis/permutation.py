"""Sign-flip permutation test of a paired change: exact where the differences lie on a lattice.

Source: Fisher (1935), "The Design of Experiments", section 21; Good (2005), "Permutation, Parametric and Bootstrap
Tests of Hypotheses", section 3.2. If nothing changed, base and candidate of a cluster could be swapped, so that
each cluster's difference is as likely to have the other sign. That is the null: swapping changes nothing. A mean of
zero alone does not imply it.

With one 0/1 sample per item it is McNemar's exact test. With K samples the differences are multiples of 1/K, and the
distribution of their signed sum follows by convolution: no draws, no seed. Only continuous scores are drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.bootstrap import cluster_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 10_000
_WORK = 200_000_000
"""Additions that the exact distribution may cost: about 0.1 s; beyond them the signs are drawn."""
_SPLITS = 60
"""The unit of the lattice is sought among the smallest difference divided by 1 to this."""
_CLOSE = 1e-7
_CHUNK = 2_000_000


class SignFlip(NamedTuple):
    """p values of no change."""

    delta: float
    """Mean over items."""
    p_value: float
    """Two-sided."""
    p_loss: float
    """One-sided: how often chance gives a change as far down."""
    exact: bool


def sign_flip(d: Floats, clusters: NDArray[np.int64] | None = None, *, draws: int = DRAWS, seed: int = 0) -> SignFlip:
    """Test of d (n,), candidate - base; the sums of clusters are flipped as one. Raises ValueError for no items.

    Drawn p values are (k + 1) / (draws + 1), never 0 (Phipson and Smyth 2010).
    """
    if not len(d):
        raise ValueError("no paired items")
    groups = cluster_sums(np.asarray(d, dtype=np.float64), np.arange(len(d)) if clusters is None else clusters)
    moved = groups.sums[groups.sums != 0.0]
    delta = groups.lattice().mean
    if not moved.size:
        return SignFlip(delta, 1.0, 1.0, True)
    steps = _steps(np.abs(moved))
    if steps is not None:
        signed = int(np.sign(moved) @ steps)
        return SignFlip(delta, *_exact(steps, signed), True)
    return SignFlip(delta, *_drawn(moved, draws, seed), False)


def _steps(sizes: Floats) -> NDArray[np.int64] | None:
    """The sizes as whole multiples of one unit; None where there is no such unit, or too fine a one."""
    for split in range(1, _SPLITS + 1):
        scaled = sizes / (sizes.min() / split)
        if scaled.sum() * sizes.size > _WORK:
            return None
        whole: NDArray[np.int64] = np.rint(scaled).astype(np.int64)
        if np.abs(scaled - whole).max() < _CLOSE:
            return whole
    return None


def _exact(steps: NDArray[np.int64], signed: int) -> tuple[float, float]:
    """(two-sided, lower) p of the signed sum; the distribution of sum(steps where positive) built size by size."""
    from scipy.stats import binom

    total = int(steps.sum())
    law = np.zeros(total + 1)
    law[0] = 1.0
    filled = 1
    for size, count in zip(*np.unique(steps, return_counts=True), strict=True):
        grown = np.zeros(total + 1)
        for times, weight in enumerate(binom.pmf(np.arange(count + 1), count, 0.5).tolist()):
            start = int(size) * times
            grown[start : start + filled] += weight * law[:filled]
        law, filled = grown, filled + int(size * count)
    # The signed sum is 2 * (positive part) - total.
    positive = (signed + total) // 2
    lower = float(law[: positive + 1].sum())
    far = (abs(signed) + total) // 2
    two_sided = 1.0 if signed == 0 else 2.0 * float(law[far:].sum())
    return min(1.0, two_sided), min(1.0, lower)


def _drawn(moved: Floats, draws: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    observed = float(moved.sum())
    edge = abs(observed) * (1.0 - 1e-12)  # a tie lost to rounding would make p too small
    beyond = below = 0
    step = max(1, _CHUNK // moved.size)
    for start in range(0, draws, step):
        signs = rng.integers(0, 2, size=(min(step, draws - start), moved.size), dtype=np.int8)
        sums = (2.0 * signs - 1.0) @ moved
        beyond += int((np.abs(sums) >= edge).sum())
        below += int((sums <= observed + 1e-12 * abs(observed)).sum())
    return (beyond + 1) / (draws + 1), (below + 1) / (draws + 1)
