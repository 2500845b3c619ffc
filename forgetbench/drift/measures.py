"""Size and shape of a change dW from its singular values: pure functions of matrices and factors.

Sources: relative Frobenius norm, and the entropy rank: Roy and Vetterli (2007), "The effective rank: a measure of
effective dimensionality"; stable (numerical) rank: Rudelson and Vershynin (2007), "Sampling from large matrices".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forgetbench.drift import lowrank
from forgetbench.drift.types import Bounds, Method, Spectrum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.drift.adapter import LowRank

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]

FULL_SVD = 1024
"""Up to this shorter side every singular value is computed."""
_CHUNK = 1 << 22
ROUNDING = 1e-7
"""About float32's spacing at 1, relative."""


def sum_of_squares(values: Floats) -> float:
    """Of all entries, summed in float64 so that neither size nor a large entry spoils it."""
    flat = values.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        total += float(part @ part)
    return total


def effective_rank(sigma: Doubles) -> float:
    """exp(H(sigma / sum sigma)), natural log; 0 where all are 0. sigma: (n,), in any order, not negative."""
    known = sigma[sigma > 0.0]
    if not known.size:
        return 0.0
    p = known / known.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def stable_rank(sigma: Doubles) -> float:
    """sum sigma^2 / max sigma^2; 0 where all are 0."""
    top = float(sigma.max(initial=0.0))
    return float(((sigma / top) ** 2).sum()) if top > 0.0 else 0.0


def spectrum_of(change: Floats, squares: float, *, full: int = FULL_SVD, seed: int = 0) -> Spectrum:
    """The spectrum of a matrix (m, n) that is not all zeros: exact up to a shorter side of `full`, else by block
    Krylov with its error. `squares`: its |dW|_F^2 (`sum_of_squares`)."""
    if min(change.shape) > full:
        return from_krylov(lowrank.krylov(change, seed=seed), squares)
    sigma = np.linalg.svd(change.astype(np.float64), compute_uv=False)
    return from_values(sigma, "exact")


def from_values(sigma: Doubles, method: Method) -> Spectrum:
    """All singular values are known."""
    return Spectrum(
        spectral=_exactly(float(sigma.max(initial=0.0))),
        stable_rank=_exactly(stable_rank(sigma)),
        effective_rank=_exactly(effective_rank(sigma)),
        captured=1.0,
        method=method,
    )


def from_krylov(found: lowrank.Krylov, squares: float) -> Spectrum:
    """`squares`: |dW|_F^2, summed over all entries: exact, so that what the found directions lack of it is known."""
    spectral = lowrank.spectral_norm(found, squares)
    stable = Bounds(squares / spectral.value**2, squares / spectral.high**2, squares / spectral.low**2)
    captured = min(1.0, float(found.ritz.sum()) / squares)
    return Spectrum(spectral, stable, lowrank.effective_rank(found, squares), captured, "krylov")


def factored_values(left: Floats, right: Floats) -> Doubles:
    """Singular values of left @ right without forming it: (min(m, r, n),), falling.

    left: (m, r), right: (r, n). With left = Q_l R_l and right^T = Q_r R_r they are those of R_l R_r^T, which is no
    larger than r by r.
    """
    outer = np.linalg.qr(left.astype(np.float64)).R
    inner = np.linalg.qr(right.astype(np.float64).T).R
    sigma: Doubles = np.linalg.svd(outer @ inner.T, compute_uv=False)
    return sigma


def above_rounding(sigma: Doubles, added: LowRank, removed: LowRank, rows: int) -> Doubles:
    """Singular values of the difference of two low-rank changes, (n,): what lies below `ROUNDING` of the larger change,
    over its first `rows` rows, is 0: factors in float32 do not tell it from nothing."""
    sizes = [factored_values(c.left[:rows], c.right).max(initial=0.0) for c in (added, removed)]
    return np.where(sigma > ROUNDING * max(sizes), sigma, 0.0)


def _exactly(value: float) -> Bounds:
    return Bounds(value, value, value)
