"""How likely the reference answer is after its question: what moves before accuracy does.

An answer flips only when another one overtakes it; its probability falls long before. Pure functions of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.measured import Measured, doubt, mean_change, percent, share_change

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

LEAST = 10
"""Items that a mean is told of."""
_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceScores:
    """log P(an answer that begins with a reference | the question) of both models; n items."""

    base: Floats
    """(n,) nats, at most 0."""
    candidate: Floats
    base_tokens: Floats
    """(n,) tokens of the item's likeliest reference."""
    candidate_tokens: Floats
    labels: Integers
    """(n,) cluster codes (`measured.labels_of`)."""
    tasks: tuple[str, ...]
    """(n,)"""
    both_right: NDArray[np.bool_]
    """(n,) whether both models' own answers were right."""

    def __post_init__(self) -> None:
        n = len(self.tasks)
        arrays = (self.base, self.candidate, self.base_tokens, self.candidate_tokens, self.labels, self.both_right)
        if n == 0 or any(a.shape != (n,) for a in arrays):
            raise ValueError("reference scores must be arrays (items,) of the same items on both sides")
        values = np.concatenate([self.base, self.candidate])
        if not np.isfinite(values).all() or (values > 0.0).any():
            raise ValueError("a log-probability is above 0 or not finite")
        if (np.concatenate([self.base_tokens, self.candidate_tokens]) < 1).any():
            raise ValueError("a reference has at least one token")


def log_of_sum(logprobs: Floats) -> float:
    """log of the sum of exp(logprobs), at most 0; (k,) of answers of which none begins another. -inf for all -inf."""
    highest = float(logprobs.max())
    if not np.isfinite(highest):
        return -np.inf
    return min(0.0, highest + float(np.log(np.exp(logprobs - highest).sum())))


def reference_measures(scores: ReferenceScores, *, seed: int = 0) -> tuple[Measured, ...]:
    """Mean log-probability of the reference, the same a token, its probability; and on items that both have right.

    Paired by item, intervals over items or their clusters. That continuous measures change smoothly where exact
    match jumps: Schaeffer et al. 2023 (arXiv 2304.15004). Empty below `LEAST` items.
    """
    n = len(scores.tasks)
    if n < LEAST:
        return ()
    found = mean_change(scores.base, scores.candidate, scores.labels, seed=seed)
    base, candidate = float(scores.base.mean()), float(scores.candidate.mean())
    p = np.exp(scores.base), np.exp(scores.candidate)
    found_share = share_change(*p, scores.labels, seed=seed)
    shares = float(p[0].mean()), float(p[1].mean())
    made = [
        Measured(
            name="reference_logprob",
            base=base,
            candidate=candidate,
            delta=found,
            unit="nats",
            reading=f"the reference answer has a log-probability of {candidate:.3f} nats after its question, "
            f"base {base:.3f}{doubt(found)}",
            note="summed over the answer's tokens; it also moves where only the wording or the format does",
            examples=_by_task(scores),
            n=n,
            higher_is="the reference is likelier",
        ),
        Measured(
            name="reference_probability",
            base=shares[0],
            candidate=shares[1],
            delta=found_share,
            unit="share",
            reading=f"a sampled answer would begin with the reference in {percent(shares[1])} of cases, "
            f"base {percent(shares[0])}{doubt(found_share)}",
            note="at temperature 1, mean over items",
            n=n,
            higher_is="the reference is likelier",
        ),
    ]
    if int(scores.both_right.sum()) >= LEAST:
        made.append(_kept(scores, seed))
    return (*made, _a_token(scores, seed))


def _kept(scores: ReferenceScores, seed: int) -> Measured:
    kept = scores.both_right
    base, candidate = scores.base[kept], scores.candidate[kept]
    found = mean_change(base, candidate, scores.labels[kept], seed=seed)
    n = int(kept.sum())
    return Measured(
        name="kept_reference_logprob",
        base=float(base.mean()),
        candidate=float(candidate.mean()),
        delta=found,
        unit="nats",
        reading=f"on the {n:,} items that both answer rightly the reference has {candidate.mean():.3f} nats, "
        f"base {base.mean():.3f}{doubt(found)}",
        note="a fall here has cost no answer yet. Items are chosen by both sides' answers, so that it is seen on "
        "fewer of them than fell",
        n=n,
        higher_is="right answers are held more firmly",
    )


def _a_token(scores: ReferenceScores, seed: int) -> Measured:
    base, candidate = scores.base / scores.base_tokens, scores.candidate / scores.candidate_tokens
    found = mean_change(base, candidate, scores.labels, seed=seed)
    return Measured(
        name="reference_logprob_per_token",
        base=float(base.mean()),
        candidate=float(candidate.mean()),
        delta=found,
        unit="nats/token",
        reading=f"a token of the reference answer has {candidate.mean():.3f} nats, base {base.mean():.3f}"
        f"{doubt(found)}",
        note="mean over items; two tokenizers cut differently",
        n=len(scores.tasks),
        higher_is="the reference is likelier",
    )


def _by_task(scores: ReferenceScores) -> tuple[str, ...]:
    """The tasks that lost most, where there are several."""
    names = sorted(set(scores.tasks))
    if len(names) < 2:
        return ()
    of = np.asarray([names.index(t) for t in scores.tasks])
    changes = [(float((scores.candidate - scores.base)[of == i].mean()), i) for i in range(len(names))]
    return tuple(f"{names[i]}: {d:+.2f} nats on {int((of == i).sum())} items" for d, i in sorted(changes)[:_NAMED])
