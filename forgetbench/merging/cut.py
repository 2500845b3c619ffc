"""The k largest magnitudes of a tensor that comes in slices, without holding it.

A float32 without its sign orders like its bits taken as an integer. So two passes of counting, over the upper and then
the lower half of the bits, find the k-th largest magnitude exactly, in memory for 65,536 counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_HALF = 1 << 16


class Cut(NamedTuple):
    """Entries above `bits` stay; of those equal to it the first `ties` in the order of storage."""

    bits: int
    """Of the k-th largest magnitude as float32."""
    ties: int


def keep_count(size: int, density: float) -> int:
    """How many of `size` entries a density keeps: rounded down, at least one."""
    return max(1, int(density * size))


def cut(slices: Callable[[], Iterator[Floats]], keep: int) -> Cut:
    """Find where the `keep` largest magnitudes end. `slices` is called twice and gives the same arrays each time;
    they hold at least `keep` entries, 1 or more."""
    counts = np.zeros(_HALF, dtype=np.int64)
    for values in slices():
        counts += np.bincount(_bits(values) >> 16, minlength=_HALF)
    upper, left = _where(counts, keep)
    counts[:] = 0
    for values in slices():
        bits = _bits(values)
        counts += np.bincount(bits[bits >> 16 == upper] & (_HALF - 1), minlength=_HALF)
    lower, left = _where(counts, left)
    return Cut((upper << 16) | lower, left)


def trim(values: Floats, where: Cut) -> tuple[Floats, Cut]:
    """The entries that stay, zeros elsewhere, and the cut for the next slice of the tensor."""
    bits = _bits(values)
    stays = bits > where.bits
    equal = np.flatnonzero(bits == where.bits)[: where.ties]
    stays[equal] = True
    kept = np.where(stays.reshape(values.shape), values, np.float32(0))
    return kept, Cut(where.bits, where.ties - equal.size)


def _bits(values: Floats) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _where(counts: NDArray[np.int64], keep: int) -> tuple[int, int]:
    """The bin of the keep-th largest, and how many of that bin are among the `keep`."""
    above = np.cumsum(counts[::-1])
    at = int(np.searchsorted(above, keep))
    return _HALF - 1 - at, keep - (int(above[at - 1]) if at else 0)
