"""The divergence of a candidate from its base's beliefs, net of the base's divergence from itself. Pure.

Each side's answer to an item is the modal one of equally many fresh answers, drawn in the same way, none of which
classed the item. Were both sides one model, the two would be exchangeable: the net rate is then 0 on average, however
unsteady the model. Without the floor the same model shows a divergence, because what was firm in ten draws is not
firm in all: regression to the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.paired import estimator, interval
from forgetbench.belief.agreement import Agree
from forgetbench.belief.types import HELD, KINDS, Answer, Belief, BeliefClass, Kind, Part, Rate
from forgetbench.types import Item

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Held:
    """One item of which the base has a belief, and what both sides freshly say of it."""

    item: Item
    belief: Belief
    base: Answer | None
    """None: it gave no answer."""
    candidate: Answer | None


@dataclass(frozen=True, slots=True)
class Rates:
    gross: Rate
    floor: Rate
    net: Rate
    parts: tuple[Part, ...]
    candidate_silent: int
    base_silent: int


def kind_of(belief: Answer, answer: Answer | None, item: Item, agree: Agree) -> Kind | None:
    """How an answer parts from a belief; None: it does not, or there is none."""
    if answer is None or answer.text is None or belief.text is None or agree(belief.text, answer.text, item):
        return None
    if belief.correct == answer.correct:
        return "other"
    return "lost-correct" if belief.correct else "corrected"


def kinds_of(held: Sequence[Held], agree: Agree) -> tuple[list[Kind | None], list[Kind | None]]:
    """Of each item the base's and the candidate's kind of divergence."""
    made: tuple[list[Kind | None], list[Kind | None]] = ([], [])
    for h in held:
        if h.belief.answer is None:
            raise ValueError(f"{h.item.key}: an item without a belief cannot be diverged from")
        made[0].append(kind_of(h.belief.answer, h.base, h.item, agree))
        made[1].append(kind_of(h.belief.answer, h.candidate, h.item, agree))
    return made


def rates_of(
    held: Sequence[Held],
    base: Sequence[Kind | None],
    candidate: Sequence[Kind | None],
    clusters: Integers,
    seed: int = 0,
) -> Rates:
    """Rates over the held items (at least one); kinds as from `kinds_of`, clusters (n,) codes."""
    parts = []
    for kind in KINDS:
        of_base, of_candidate = (np.array([k == kind for k in kinds]) for kinds in (base, candidate))
        net = paired_rate(of_base, of_candidate, clusters, seed)
        parts.append(Part(kind, int(of_candidate.sum()), int(of_base.sum()), net))
    mine, theirs = (np.array([k is not None for k in kinds]) for kinds in (base, candidate))
    nothing = np.zeros_like(mine)
    return Rates(
        gross=paired_rate(nothing, theirs, clusters, seed),
        floor=paired_rate(nothing, mine, clusters, seed),
        net=paired_rate(mine, theirs, clusters, seed),
        parts=tuple(parts),
        candidate_silent=sum(h.candidate is None for h in held),
        base_silent=sum(h.base is None for h in held),
    )


def rates_by_class(
    held: Sequence[Held],
    base: Sequence[Kind | None],
    candidate: Sequence[Kind | None],
    clusters: Integers,
    seed: int = 0,
) -> dict[BeliefClass, Rate]:
    """The net rate among the items of each class that a candidate can diverge from, where there are any."""
    mine, theirs = (np.array([k is not None for k in kinds]) for kinds in (base, candidate))
    found: dict[BeliefClass, Rate] = {}
    for name in HELD:
        those = np.array([h.belief.held == name for h in held])
        if those.any():
            found[name] = paired_rate(mine[those], theirs[those], clusters[those], seed)
    return found


def paired_rate(base: Bools, candidate: Bools, clusters: Integers, seed: int = 0) -> Rate:
    """Mean of candidate - base over items (n,), n >= 1, with the interval of every paired 0/1 change (paired.py):
    Tango's score where items are independent, the cluster bootstrap where they share a fact."""
    fit = estimator(base.astype(np.float64), candidate.astype(np.float64), clusters, single=True, seed=seed)
    return Rate(fit.delta, interval(fit), int(candidate.sum()) - int(base.sum()), base.size)
