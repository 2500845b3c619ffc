"""What a Read asks at each position and what comes back: the same for every engine that can read. Light."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from forgetbench.engines.common import NOT_FINITE, beyond_vocabulary
from forgetbench.types import Read, Reading, TopTokens


class Wanted(NamedTuple):
    """What is asked at one position."""

    token: int
    nucleus: float
    top_m: int
    at: tuple[int, ...]


class Position(NamedTuple):
    """What was found at one position; plain values, so that it survives any way between processes."""

    logprob: float
    entropy: float
    nucleus_size: int
    argmax: int
    top_ids: Sequence[int]
    top_logprobs: Sequence[float]
    tail_mass: float
    at: Sequence[float]


def wanted_of(body: Read) -> list[Wanted]:
    """One entry for each token read."""
    at = body.at or ((),) * len(body.token_ids)
    return [Wanted(t, body.nucleus, body.top_m, ids) for t, ids in zip(body.token_ids, at, strict=True)]


def unreadable(context: Sequence[int], body: Read, longest: int, vocabulary: int) -> str | None:
    """Why given tokens cannot be read after that prompt; None where they can.

    `longest`: most tokens that can be read. `vocabulary`: ids from there on are unknown to the model.
    """
    if not context:
        return "the prompt is empty and the tokenizer has neither BOS nor EOS: give the first token as the prompt"
    if len(body.token_ids) > longest:
        return f"{len(body.token_ids)} tokens to read exceed the {longest} that the context has room for"
    asked = [max(ids) for ids in body.at if ids]
    return beyond_vocabulary((*context, *body.token_ids, *asked), vocabulary)


def reading_of(body: Read, positions: Sequence[Position]) -> Reading | str:
    """The answer to a Read from all its positions, or why it is none."""
    if not all(math.isfinite(p.logprob) and math.isfinite(p.entropy) for p in positions):
        return NOT_FINITE
    return Reading(
        logprobs=tuple(p.logprob for p in positions),
        entropies=tuple(p.entropy for p in positions),
        nucleus_sizes=tuple(p.nucleus_size for p in positions),
        argmax=tuple(p.argmax for p in positions),
        top=tuple(TopTokens(tuple(p.top_ids), tuple(p.top_logprobs), p.tail_mass) for p in positions)
        if body.top_m
        else None,
        at=tuple(tuple(p.at) for p in positions) if body.at else None,
    )
