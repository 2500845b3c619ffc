"""Leading directions of the candidate that the base has nothing like: "intruder dimensions".

Source: Shuttleworth et al. (2024), "LoRA vs Full Fine-tuning: An Illusion of Equivalence" (arXiv 2410.21228): a left
singular vector of the tuned matrix whose largest |cosine| with the left singular vectors of the base's is below a
threshold. Here for the LEADING vectors of the candidate against all of the base's where the matrix is small, and
against those that block Krylov resolves where it is not: what the rest could still be is bounded, and a vector that
the bound does not decide is counted as open.

Limited: single singular vectors mean little where singular values lie close together, since a small change turns such
vectors among themselves. Says nothing of how much was forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.drift import lowrank
from forgetbench.drift.measures import FULL_SVD
from forgetbench.drift.types import NewDirections

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]

LEADING = 10
"""How many of the candidate's directions are looked at."""
THRESHOLD = 0.5
"""|cosine| below which nothing in the base is like it."""


class Directions(NamedTuple):
    """Left singular vectors, the leading first."""

    vectors: Doubles
    """(m, k), of length 1."""
    known: NDArray[np.bool_]
    """(k,): which are singular vectors and not only near one."""
    complete: bool
    """Whether they are all that the matrix has."""


def directions_of(matrix: Floats, *, full: int = FULL_SVD, seed: int = 0) -> Directions:
    """Left singular vectors of a matrix (m, n) that is not all zeros."""
    if min(matrix.shape) > full:
        found = lowrank.krylov(matrix, seed=seed)
        left = found.right if found.transposed else _unit(found.left.astype(np.float64))
        return Directions(left[:, ::-1], lowrank.resolved(found)[::-1], False)
    vectors = _left(matrix.astype(np.float64))
    return Directions(vectors, np.ones(vectors.shape[1], dtype=np.bool_), True)


def new_directions(
    base: Directions, candidate: Directions, *, leading: int = LEADING, threshold: float = THRESHOLD
) -> NewDirections:
    """Count the candidate's leading directions that no singular vector of the base is like."""
    asked = min(leading, candidate.vectors.shape[1])
    cosines = np.abs(base.vectors[:, base.known].T @ candidate.vectors[:, :asked])
    nearest = cosines.max(axis=0, initial=0.0)
    # Of a unit vector no more than this can lie along any single vector that was not computed.
    left_over = np.sqrt(np.clip(1.0 - (cosines**2).sum(axis=0), 0.0, None))
    like = nearest >= threshold
    new = ~like & (base.complete | (left_over < threshold)) & candidate.known[:asked]
    is_open = ~new & ~(like & candidate.known[:asked])
    return NewDirections(int(new.sum()), int(is_open.sum()), asked)


def _left(matrix: Doubles) -> Doubles:
    """All left singular vectors, the leading first, by the Gram matrix of the shorter side.

    Its eigenvectors are those of the full SVD at a fraction of the time; small singular values lose precision, which
    a threshold on a cosine does not notice.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    values, vectors = np.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    values, vectors = values[::-1], vectors[:, ::-1]
    if wide:
        return np.asarray(vectors)
    return _unit(matrix @ vectors[:, values > values[0] * 1e-12])


def _unit(vectors: Doubles) -> Doubles:
    lengths = np.linalg.norm(vectors, axis=0)
    units: Doubles = vectors / np.where(lengths > 0.0, lengths, 1.0)
    return units
