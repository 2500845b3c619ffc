"""Where the candidate leaves the base's answer: the first token that it would not have said, and by how much.

The base's greedy answer is read by the candidate token by token (the project's notes on metrics, section 4, "first
divergent token"). After that token the two answers would part, so that only the first one is a fact about both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from forgetbench.analysis.measured import Measured, at_least_zero, doubt, labels_of, mean_change, percent, share_change
from forgetbench.analysis.token_stats import SharedContext, SideStats

_SHOWN = 5

Name = Callable[[int], str]
"""Token id to text."""


class Departure(NamedTuple):
    """The first position at which a model would have gone on differently."""

    item: str
    position: int
    """From 0."""
    token: int
    """What stands there."""
    instead: int
    """What the model holds likeliest."""
    gap: float
    """log p(instead) - log p(token), nats, >= 0; nan where the engine did not report the first."""


def first_departure(context: SharedContext, side: SideStats) -> Departure | None:
    """None: the model would have said the whole text. A tie with the likeliest token is no departure."""
    away = np.flatnonzero((side.argmax != context.token_ids) & ~side.follows)
    if not away.size:
        return None
    at = int(away[0])
    gap = float(side.argmax_logprobs[at] - side.logprobs[at])
    return Departure(context.item, at, int(context.token_ids[at]), int(side.argmax[at]), gap)


def departures(contexts: Sequence[SharedContext]) -> tuple[Departure | None, ...]:
    """The candidate's, one for each context."""
    return tuple(first_departure(c, c.candidate) for c in contexts)


def departure_measures(
    contexts: Sequence[SharedContext], name: Name | None = None, *, seed: int = 0
) -> tuple[Measured, ...]:
    """Share of answers that a model would leave, how much of an answer it follows, and the gap where it leaves.

    `contexts` are the base's own greedy answers. The base's value is what its own reading says about them: above zero
    only where teacher forcing and generation round differently, and so the floor of the candidate's.
    """
    if not contexts:
        raise ValueError("no shared contexts")
    labels = labels_of([c.cluster for c in contexts], len(contexts))
    found = [[first_departure(c, s) for c, s in _sides(contexts, side)] for side in ("base", "candidate")]
    leaves = [np.asarray([float(d is not None) for d in side]) for side in found]
    followed = [
        np.asarray([1.0 if d is None else d.position / c.size for c, d in zip(contexts, side, strict=True)])
        for side in found
    ]
    left, kept = (share_change(b, s, labels, seed=seed) for b, s in (leaves, followed))
    shares, lengths = ([float(x.mean()) for x in pair] for pair in (leaves, followed))
    made = [
        Measured(
            name="leaves_base_answer",
            base=shares[0],
            candidate=shares[1],
            delta=left,
            unit="share",
            reading=f"the candidate leaves the base's own answer in {percent(shares[1])} of cases, the base "
            f"{percent(shares[0])}{doubt(left)}",
            examples=_examples([d for d in found[1] if d is not None], name),
            n=len(contexts),
            higher_is="more answers change",
        ),
        Measured(
            name="base_answer_followed",
            base=lengths[0],
            candidate=lengths[1],
            delta=kept,
            unit="share",
            reading=f"the candidate follows {percent(lengths[1])} of the base's answer before it would leave it, "
            f"the base {percent(lengths[0])}{doubt(kept)}",
            n=len(contexts),
            higher_is="answers part later",
        ),
    ]
    told = [(d.gap, i) for i, d in enumerate(found[1]) if d is not None and not np.isnan(d.gap)]
    if told:
        gaps = np.asarray([g for g, _ in told])
        change = at_least_zero(mean_change(np.zeros(gaps.size), gaps, labels[[i for _, i in told]], seed=seed))
        made.append(
            Measured(
                name="departure_gap",
                base=None,
                candidate=float(gaps.mean()),
                delta=change,
                unit="nats",
                reading="where it leaves, its own token is "
                f"{float(np.exp(np.median(gaps))):.1f} times as likely as the base's (median)",
                note="of the answers that it leaves; the interval is of the mean gap itself",
                n=gaps.size,
                higher_is="a firmer change of mind",
            )
        )
    return tuple(made)


def _sides(contexts: Sequence[SharedContext], side: str) -> list[tuple[SharedContext, SideStats]]:
    return [(c, c.base if side == "base" else c.candidate) for c in contexts]


def _examples(found: Sequence[Departure], name: Name | None) -> tuple[str, ...]:
    """The firmest first."""
    ranked = sorted(found, key=lambda d: (np.isnan(d.gap), -d.gap, d.item))[:_SHOWN]
    shown = []
    for d in ranked:
        words = [str(t) if name is None else repr(name(t)) for t in (d.token, d.instead)]
        gap = "" if np.isnan(d.gap) else f" by {d.gap:.2f} nats"
        shown.append(f"{d.item}: token {d.position + 1}, {words[1]} in place of {words[0]}{gap}")
    return tuple(shown)
