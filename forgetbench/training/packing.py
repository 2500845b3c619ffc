"""Which documents stand in which row of which batch, in which order: pure functions of lengths and a seed.

The whole run is laid out before its first step as one list of batches. There is no sampler whose state could be lost:
to resume is to begin later in the list, and processes take turns in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Row = tuple[int, ...]
"""Documents that stand one behind the other in a row (without packing: one)."""
Unit = Literal["tokens", "samples"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process reads at once: rows of documents."""

    rows: tuple[Row, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How documents become batches. `size` counts `unit`: tokens (padding included) or documents."""

    size: int
    unit: Unit
    packing: bool
    max_length: int
    seed: int = 0


def pack(lengths: Sequence[int], order: Sequence[int], max_length: int, width: int | None = None) -> list[Row]:
    """First fit of whole documents, in the given order, into rows of at most `width` tokens (None: `max_length`).

    No document is cut: a cut answer teaches to stop in its middle. One that is longer than `width` has a row of its
    own. Raises ValueError for one that is longer than `max_length`.
    """
    width = max_length if width is None else min(width, max_length)
    rows: list[list[int]] = []
    room: list[int] = []
    first_open = 0
    for document in order:
        need = lengths[document]
        if need > max_length:
            raise ValueError(f"document {document} has {need} tokens, a row has {max_length}")
        for r in range(first_open, len(rows)):
            if room[r] >= need:
                rows[r].append(document)
                room[r] -= need
                break
        else:
            rows.append([document])
            room.append(max(0, width - need))
        # A bounded look back keeps it linear, and the order near to the shuffled one.
        first_open = max(first_open, len(rows) - 64)
    return [tuple(row) for row in rows]


def batches_of(lengths: Sequence[int], order: Sequence[int], layout: Layout, epoch: int = 0) -> Iterator[Batch]:
    """Cut one epoch's order into batches.

    unit samples: `size` documents a batch, packed into as many rows as they need. unit tokens: rows of at most
    `size` tokens are packed first and gathered while rows x longest row stays within `size`; a single document may be
    larger.
    """
    if layout.unit == "samples":
        for start in range(0, len(order), layout.size):
            part = order[start : start + layout.size]
            rows = pack(lengths, part, layout.max_length) if layout.packing else [(d,) for d in part]
            yield Batch(tuple(rows), epoch)
        return
    rows = pack(lengths, order, layout.max_length, layout.size) if layout.packing else [(d,) for d in order]
    held: list[Row] = []
    longest = 0
    for row in rows:
        length = sum(lengths[d] for d in row)
        if held and max(longest, length) * (len(held) + 1) > layout.size:
            yield Batch(tuple(held), epoch)
            held, longest = [], 0
        held.append(row)
        longest = max(longest, length)
    if held:
        yield Batch(tuple(held), epoch)


def replay_stream(replay: Sequence[int], seed: int) -> Iterator[int]:
    """Replay documents without end: all of them once, shuffled, then all again in another order."""
    turn = 0
    while True:
        for i in np.random.default_rng([seed, 2, turn]).permutation(len(replay)):
            yield replay[i]
        turn += 1


def draw(stream: Iterator[int], lengths: Sequence[int], wanted: float) -> list[int]:
    """Take documents until their tokens are as near to `wanted` as whole documents come."""
    drawn: list[int] = []
    tokens = 0
    for document in stream:
        drawn.append(document)
        tokens += lengths[document]
        # The one after it is not looked at, since it would be lost to the stream.
        if tokens + lengths[document] / 2 >= wanted:
            break
    return drawn


def lay_out(
    lengths: Sequence[int],
    target: Sequence[int],
    layout: Layout,
    *,
    per_step: int,
    steps: int | None = None,
    epochs: float | None = None,
    replay: Sequence[int] = (),
    share: float = 0.0,
    repeat_first: float = 0.0,
) -> list[Batch]:
    """All batches of a run in their order; step s takes batches [s * per_step, (s + 1) * per_step).

    `per_step` is accumulation times processes. Give `steps` or `epochs`: of `epochs`, the last step is filled up from
    the epoch after, so that each step has the same number of batches. Raises ValueError where both or neither is
    given, there is nothing to train on, or the share is outside 0 <= share < 1 or has no replay to draw from.
    Replay: of each epoch's *tokens* it makes up `share`. It goes on where the epoch before stopped.
    repeat_first: this share of the first epoch's documents, its beginning, is read and then read again in another
    order before the rest follows.
    """
    if (steps is None) == (epochs is None):
        raise ValueError("give either steps or epochs")
    if not target:
        raise ValueError("there is nothing to train on")
    if not 0 <= share < 1 or (share > 0 and not replay):
        raise ValueError(f"a replay share of {share}, and {len(replay)} documents to draw from")
    wanted = None if steps is None else steps * per_step
    stream = replay_stream(replay, layout.seed)
    replayed = share / (1 - share) * sum(lengths[d] for d in target)
    out: list[Batch] = []
    epoch = 0
    while wanted is None or len(out) < wanted:
        chosen = [*target, *(draw(stream, lengths, replayed) if share > 0 else ())]
        shuffled = np.random.default_rng([layout.seed, 1, epoch]).permutation(len(chosen))
        order = [chosen[i] for i in shuffled]
        if epoch == 0 and repeat_first > 0:
            first = order[: math.ceil(repeat_first * len(order))]
            again = np.random.default_rng([layout.seed, 4]).permutation(len(first))
            order = [*first, *(first[i] for i in again), *order[len(first) :]]
        made = list(batches_of(lengths, order, layout, epoch))
        if wanted is None and epochs is not None and epoch + 1 >= epochs:
            whole = len(out) + round(len(made) * (epochs - epoch))
            wanted = max(1, -(-whole // per_step)) * per_step
        out += made
        epoch += 1
    return out[:wanted]
