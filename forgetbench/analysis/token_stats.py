"""What two models say about the same text, position by position: the input of `distribution.py`.

Both read the same token ids after the same prompt (teacher forcing), so that a difference is the model's and not the
context's. Neither whole distribution is kept: the base's m likeliest ids carry log-probabilities under both models,
and what lies outside them is one tail. With a second reading of the base the same holds for the candidate's ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.errors import UsageError
from forgetbench.types import Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SideStats:
    """One model's view of a text of T tokens; arrays (T,), natural logarithms."""

    logprobs: Floats
    """Of the token that stands there."""
    entropies: Floats
    """Nats, of the whole next-token distribution."""
    nucleus_sizes: Integers
    """Fewest tokens whose mass reaches .95; exact, whatever m is."""
    argmax: Integers
    """The likeliest id."""
    argmax_logprobs: Floats
    """nan where it was not reported."""

    @property
    def follows(self) -> NDArray[np.bool_]:
        """(T,) whether greedy decoding would give the token that stands there; a tie counts as yes."""
        same: NDArray[np.bool_] = self.argmax_logprobs == self.logprobs
        return same


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """The m likeliest ids of one model (the owner) at each position, under both models, and the rest as one tail."""

    ids: Integers
    """(T, m), the likeliest first."""
    own: Floats
    """(T, m) log-probabilities under the owner."""
    other: Floats
    """(T, m) log-probabilities of the same ids under the other model."""
    own_tail: Floats
    """(T,) the owner's mass outside the ids."""
    other_tail: Floats
    """(T,)"""

    def __post_init__(self) -> None:
        if not (self.ids.shape == self.own.shape == self.other.shape) or self.ids.ndim != 2 or not self.ids.shape[1]:
            raise ValueError("ids and both log-probabilities must be (positions, m) with m >= 1")
        if self.own_tail.shape != self.other_tail.shape or self.own_tail.shape != self.ids.shape[:1]:
            raise ValueError("both tails must be (positions,)")

    @property
    def m(self) -> int:
        return int(self.ids.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class SharedContext:
    """One text that both models read: the base's own continuation of an item, or a fixed text."""

    item: str
    token_ids: Integers
    """(T,) with T >= 1."""
    base: SideStats
    candidate: SideStats
    on_base: Partition | None = None
    """Owned by the base."""
    on_candidate: Partition | None = None
    """Owned by the candidate."""
    n_bytes: int | None = None
    """UTF-8 bytes that the T tokens stand for; wanted for bits per byte."""
    cluster: str | None = None

    def __post_init__(self) -> None:
        t = self.token_ids.size
        if t == 0:
            raise ValueError(f"{self.item}: a shared context has at least one token")
        parts = [p.ids[:, 0] for p in (self.on_base, self.on_candidate) if p is not None]
        arrays = [getattr(s, name) for s in (self.base, self.candidate) for name in _ARRAYS]
        if any(a.shape != (t,) for a in (*arrays, *parts)):
            raise ValueError(f"{self.item}: {t} tokens and statistics of another number of positions")

    @property
    def size(self) -> int:
        return int(self.token_ids.size)


_ARRAYS = ("logprobs", "entropies", "nucleus_sizes", "argmax", "argmax_logprobs")


def shared_context(
    item: str,
    token_ids: Sequence[int],
    base: Reading,
    candidate: Reading,
    *,
    base_again: Reading | None = None,
    n_bytes: int | None = None,
    cluster: str | None = None,
) -> SharedContext:
    """From what an engine read.

    `base` with `top_m` >= 1 and `candidate` with `at` = the base's top ids give the first partition; `candidate` with
    `top_m` and `base_again` with `at` = the candidate's top ids give the second. Raises UsageError where the log-
    probabilities do not belong to the ids, as when the two runs read different texts.
    """
    return SharedContext(
        item=item,
        token_ids=np.asarray(token_ids, dtype=np.int64),
        base=_side(base, (base, base_again), candidate),
        candidate=_side(candidate, (candidate,), base),
        on_base=_partition(item, base, candidate),
        on_candidate=None if base_again is None else _partition(item, candidate, base_again),
        n_bytes=n_bytes,
        cluster=cluster,
    )


def _partition(item: str, owner: Reading, other: Reading) -> Partition | None:
    if owner.top is None or other.at is None:
        return None
    sizes = {len(t.ids) for t in owner.top} | {len(ids) for ids in other.at}
    if len(sizes) != 1 or len(owner.top) != len(other.at):
        raise UsageError(
            item,
            "the log-probabilities that one model gave are not of the ids that the other one named",
            "read the text again with both checkpoints",
        )
    at = np.asarray(other.at, dtype=np.float64)
    return Partition(
        ids=np.asarray([t.ids for t in owner.top], dtype=np.int64),
        own=np.asarray([t.logprobs for t in owner.top], dtype=np.float64),
        other=at,
        own_tail=np.asarray([t.tail_mass for t in owner.top], dtype=np.float64),
        other_tail=np.maximum(1.0 - np.exp(at).sum(axis=1), 0.0),
    )


def _side(reading: Reading, told: Sequence[Reading | None], other: Reading) -> SideStats:
    return SideStats(
        logprobs=np.asarray(reading.logprobs, dtype=np.float64),
        entropies=np.asarray(reading.entropies, dtype=np.float64),
        nucleus_sizes=np.asarray(reading.nucleus_sizes, dtype=np.int64),
        argmax=np.asarray(reading.argmax, dtype=np.int64),
        argmax_logprobs=np.fromiter(_best(reading, told, other), dtype=np.float64, count=len(reading.argmax)),
    )


def _best(reading: Reading, told: Sequence[Reading | None], other: Reading) -> Iterator[float]:
    """Log-probability of each argmax: the top one where it was kept, else where the other side's ids hold it."""
    if reading.top is not None:
        yield from (t.logprobs[0] for t in reading.top)
        return
    named = other.top
    at = next((r.at for r in told if r is not None and r.at is not None), None)
    for i, best in enumerate(reading.argmax):
        ids = named[i].ids if named is not None and at is not None else ()
        yield at[i][ids.index(best)] if at is not None and best in ids else float("nan")
