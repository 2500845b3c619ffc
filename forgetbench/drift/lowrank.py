"""Singular values of a matrix too large for a full SVD: randomised block Krylov, with the error stated.

For A (m, n), n <= m, and M = A^T A the space spanned by Omega, M Omega, ..., M^(k-1) Omega is built from a random
block of b columns: block Lanczos with full reorthogonalisation. Sources: Musco and Musco (2015), "Randomized block
Krylov methods for stronger and faster approximate singular value decomposition"; Golub and Underwood (1977), "The
block Lanczos method for computing eigenvalues". A is read 2k times, b columns at a time.

What is certain, what is likely, what is estimated:
- Ritz values never exceed the squared singular values that they stand for (Cauchy interlacing), and |A|_F^2 less
  their sum is exactly the energy outside of the space.
- |A|_2: at least the largest Ritz value's root; at most as Kuczynski and Wozniakowski (1992), "Estimating the largest
  eigenvalue by the power and Lanczos algorithms with a random start", show for each of the b starts. All b would
  have to fail at once: less than one matrix in a million.
- Effective rank: sums of sigma and sigma log sigma are traces of functions of M, estimated by stochastic Lanczos
  quadrature (Ubaru, Chen, Saad 2017) with the same blocks: no further pass. A Gauss rule bounds each probe's value
  from above and a Gauss-Radau rule with a node at 0 from below, since the derivatives of both functions keep their
  signs (Golub and Meurant 1994, "Matrices, moments and quadrature"). The interval adds the probes' spread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.drift.types import Bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]

BLOCK = 16
STEPS = 8
FAILURE = 1e-6
"""How likely it may be that |A|_2 lies above its upper bound."""
T_QUANTILE = 2.131
"""97.5 % of Student's t with BLOCK - 1 = 15 degrees of freedom."""
MARGIN = 0.05
"""Relative widening of the effective rank's interval: what deflation and float32 products move it by at most, on
spectra from flat to steep (tests)."""
RESOLVED = 0.1
"""A singular vector counts as known below this sine of the angle to it: residual over gap (Davis and Kahan 1970)."""


class Krylov(NamedTuple):
    """r = steps * block directions of A (or of its transpose, where it is wider than high)."""

    ritz: Doubles
    """(r,), rising: approximate squares of singular values."""
    tridiagonal: Doubles
    """(r, r): V^T M V."""
    residuals: Doubles
    """(r,): |M v - theta v| of each Ritz vector."""
    right: Doubles
    """(n, r): Ritz vectors on the shorter side."""
    left: Floats
    """(m, r): A times them, not normalised."""
    transposed: bool
    block: int


def krylov(matrix: Floats, *, steps: int = STEPS, block: int = BLOCK, seed: int = 0) -> Krylov:
    """Leading directions of a matrix (m, n) that is not all zeros, in float32 products and float64 bases.

    Raises ValueError where steps * block exceeds the shorter side: use a full SVD there.
    """
    transposed = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if transposed else matrix
    m, n = tall.shape
    r = steps * block
    if r > n:
        raise ValueError(f"{r} directions of a matrix with a side of {n}")
    # In units of its own size nothing under- or overflows when squared.
    scale = max(float(tall.max()), -float(tall.min()))
    basis, image = np.empty((n, r)), np.empty((m, r), dtype=np.float32)
    fresh = np.random.default_rng(seed).standard_normal((n, block))
    for step in range(steps):
        columns = slice(step * block, (step + 1) * block)
        basis[:, columns] = _orthonormal(fresh, basis[:, : step * block])
        image[:, columns] = tall @ (basis[:, columns] / scale).astype(np.float32)
        fresh = (tall.T @ (image[:, columns] / np.float32(scale))).astype(np.float64)
    rest = fresh - basis @ (basis.T @ fresh)
    tridiagonal = _gram(image)
    ritz, vectors = np.linalg.eigh(tridiagonal)
    residuals = np.linalg.norm(rest @ vectors[-block:], axis=0)
    left = image @ vectors.astype(np.float32)
    left *= np.float32(scale)
    square = scale * scale
    return Krylov(
        ritz.clip(0.0) * square,
        tridiagonal * square,
        residuals * square,
        basis @ vectors,
        left,
        transposed,
        block,
    )


def resolved(found: Krylov) -> NDArray[np.bool_]:
    """(r,): which Ritz vectors are singular vectors, by residual over the gap to the next Ritz value."""
    gaps = np.minimum(np.diff(found.ritz, prepend=-np.inf), np.diff(found.ritz, append=np.inf))
    known: NDArray[np.bool_] = found.residuals <= RESOLVED * gaps
    return known


def spectral_norm(found: Krylov, squares: float) -> Bounds:
    """|A|_2 from below and above; `squares`: |A|_F^2."""
    r = found.ritz.size
    steps, n = r // found.block, found.right.shape[0]
    top = float(found.ritz[-1])
    # Each start fails with at most 1.648 sqrt(n) exp(-sqrt(eps) (2 steps - 1)), the starts are independent.
    one = FAILURE ** (1.0 / found.block)
    error = (math.log(1.648 * math.sqrt(n) / one) / (2 * steps - 1)) ** 2
    likely = top / (1.0 - error) if error < 1.0 else math.inf
    certain = top + max(0.0, squares - float(found.ritz.sum()))
    value = math.sqrt(top)
    return Bounds(value, value, math.sqrt(min(likely, certain)))


def effective_rank(found: Krylov, squares: float) -> Bounds:
    """exp(H(sigma / sum sigma)) with an interval; `squares`: |A|_F^2."""
    n, r, b = found.right.shape[0], found.ritz.size, found.block
    top = float(found.ritz[-1])
    leading = 0
    for known in resolved(found)[::-1]:
        if not known:
            break
        leading += 1
    t = found.tridiagonal / top
    rules = [_rule(t, leading, n, b), _rule(_radau(t, b), leading, n, b)]
    values = [value for value, _ in rules]
    spread = T_QUANTILE * max(error for _, error in rules) + math.log1p(MARGIN)
    outside = max(0.0, squares - float(found.ritz.sum())) / top
    ritz = found.ritz / top
    # The least and the most even spectrum that the found values and the energy outside allow.
    steep, even = ritz.copy(), np.append(ritz, np.full(n - r, outside / max(1, n - r)))
    steep[-1] += outside
    ends = sorted(_log_rank(np.ones(x.size), x) for x in (steep, even))
    low, high = max(min(values) - spread, ends[0]), min(max(values) + spread, ends[1])
    if low > high:  # rounding alone can part them: then the certain energy decides
        low, high = ends
    value = min(max(sum(values) / 2.0, low), high)
    return Bounds(math.exp(value), math.exp(low), math.exp(high))


def _rule(t: Doubles, leading: int, n: int, b: int) -> tuple[float, float]:
    """(log of the effective rank, its standard error over the probes) from one quadrature rule.

    A node's weight is how many singular values it stands for. The `leading` ones are singular values themselves and
    count once each; the others share the remaining n - leading among them as the probes say.
    """
    nodes, vectors = np.linalg.eigh(t)
    nodes = nodes.clip(0.0)
    probes = vectors[:b] ** 2
    rest = nodes.size - leading

    def value(shares: Doubles) -> float:
        weights = np.ones(nodes.size)
        weights[:rest] = (n - leading) * shares[:rest] / shares[:rest].sum()
        return _log_rank(weights, nodes)

    if not rest:
        return _log_rank(np.ones(nodes.size), nodes), 0.0
    left_out = np.array([value(np.delete(probes, i, 0).mean(0)) for i in range(b)])
    jackknife = math.sqrt((b - 1) / b * float(((left_out - left_out.mean()) ** 2).sum()))
    return value(probes.mean(0)), jackknife


def _radau(t: Doubles, b: int) -> Doubles:
    """The rule with a node of multiplicity b at 0: the last block becomes what the others determine."""
    r = t.shape[0] - b
    fixed = t.copy()
    fixed[r:, r:] = t[r:, :r] @ np.linalg.lstsq(t[:r, :r], t[:r, r:], rcond=None)[0]
    return (fixed + fixed.T) / 2.0


def _log_rank(weights: Doubles, squares: Doubles) -> float:
    """H of weighted singular values, from their squares (in units of about the largest one)."""
    sigma = np.sqrt(squares)
    total = float((weights * sigma).sum())
    logs = np.log(np.where(squares > 0.0, sigma, 1.0))
    return math.log(total) - float((weights * sigma * logs).sum()) / total


def _orthonormal(fresh: Doubles, basis: Doubles) -> Doubles:
    """A block orthonormal to the basis. Thrice: a block that the space has exhausted is all rounding at first."""
    for _ in range(3):
        fresh = np.linalg.qr(fresh - basis @ (basis.T @ fresh))[0]
    return fresh


def _gram(image: Floats) -> Doubles:
    """image^T image, summed in float64 a slice of rows at a time."""
    total = np.zeros((image.shape[1], image.shape[1]))
    for start in range(0, image.shape[0], 1 << 15):
        part = image[start : start + (1 << 15)].astype(np.float64)
        total += part.T @ part
    return total
