"""What diversity is measured on: the outputs of both sides to the same items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.measured import labels_of
from forgetbench.scoring.loops import find_loop
from forgetbench.scoring.refusal import is_refusal
from forgetbench.types import FinishReason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

Side = str
"""`base` or `candidate`."""
SIDES: tuple[Side, Side] = ("base", "candidate")


@dataclass(frozen=True, slots=True)
class Output:
    """One output, greedy or sampled."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    extracted: str | None = None
    """The answer that scoring took from it."""
    looped: bool | None = None
    """What scoring found (`Judged.extra`); None: looked at when asked."""
    refused: bool | None = None
    verbatim: bool = False
    """Every sign of the answer counts: it is a program."""

    @property
    def loops(self) -> bool:
        return find_loop(self.text) is not None if self.looped is None else self.looped

    @property
    def refuses(self) -> bool:
        return is_refusal(self.text) if self.refused is None else self.refused


@dataclass(frozen=True, slots=True)
class Answered:
    """One item with the outputs of both sides, at least one of each."""

    item: str
    base: tuple[Output, ...]
    candidate: tuple[Output, ...]
    cluster: str | None = None

    def __post_init__(self) -> None:
        if not self.base or not self.candidate:
            raise ValueError(f"item {self.item} has no output of a side")

    def side(self, side: Side) -> tuple[Output, ...]:
        return self.base if side == "base" else self.candidate


def labels(answered: Sequence[Answered]) -> Integers:
    """(items,) cluster codes. Raises ValueError where there is no item."""
    if not answered:
        raise ValueError("no items")
    return labels_of([a.cluster for a in answered], len(answered))


def common_samples(answered: Sequence[Answered]) -> int:
    """The number of outputs that every item has on both sides."""
    return min(min(len(a.base), len(a.candidate)) for a in answered)


def item_means(answered: Sequence[Answered], side: Side, value: Callable[[Output], float]) -> Floats:
    """(items,) mean of `value` over an item's outputs; nan values are left out, nan where nothing is left."""
    found = []
    for a in answered:
        values = [v for v in (value(o) for o in a.side(side)) if v == v]
        found.append(sum(values) / len(values) if values else np.nan)
    return np.asarray(found, dtype=np.float64)


def equal_lengths(answered: Sequence[Answered], sample: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Token ids of one sample of every item, base and candidate, each pair cut to the shorter one of the two."""
    pairs = [(a.base[sample].token_ids, a.candidate[sample].token_ids) for a in answered]
    shorter = [min(len(b), len(s)) for b, s in pairs]
    return (
        [b[:n] for (b, _), n in zip(pairs, shorter, strict=True)],
        [s[:n] for (_, s), n in zip(pairs, shorter, strict=True)],
    )
