"""How the candidate's next-token distributions differ from the base's on the same texts. Pure functions of arrays.

Values are per token: sums over all positions of all texts over their number, so a long text weighs by its length.
The texts (or their clusters) are what varies. What is compared is in `token_stats.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.measured import Measured, at_least_zero, doubt, labels_of, percent, totals_change
from forgetbench.analysis.token_stats import Partition, SharedContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.analysis.types import Interval

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

NUCLEUS = 0.95
LARGE_TAIL = 0.05
"""A position whose ids leave out more than this is named as cut."""
_LEAST = -100.0
"""Floor of the second model's log-probabilities: a higher one can only lower a divergence, so the bound holds."""
_SMALLEST = 1e-6
"""Floor of the second model's tail, for the same reason; 1 minus a sum of float32 probabilities is no finer."""
_LN2 = float(np.log(2.0))


def token_entropy(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured:
    """Mean entropy of the next-token distribution, nats per token."""
    base, candidate, found = _per_token(contexts, lambda c: (c.base.entropies, c.candidate.entropies), seed=seed)
    return Measured(
        name="token_entropy",
        base=base,
        candidate=candidate,
        delta=found,
        unit="nats",
        reading=f"a next token has {candidate:.3f} nats of entropy on the same texts, base {base:.3f}{doubt(found)}",
        n=len(contexts),
        higher_is="less certain of the next token",
    )


def effective_support(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured:
    """exp of the mean entropy: as many equally likely tokens would be as uncertain; tokens, >= 1.

    The geometric mean over positions of exp(H); the arithmetic mean would be that of a few flat positions.
    """

    def change(sums: Floats) -> Floats:
        difference: Floats = np.exp(sums[:, 1] / sums[:, 2]) - np.exp(sums[:, 0] / sums[:, 2])
        return difference

    totals, clusters = _totals(contexts, lambda c: (c.base.entropies, c.candidate.entropies))
    found = totals_change(totals, clusters, change, seed=seed)
    base, candidate = (float(x) for x in np.exp(totals[:, :2].sum(axis=0) / totals[:, 2].sum()))
    return Measured(
        name="effective_support",
        base=base,
        candidate=candidate,
        delta=found,
        unit="tokens",
        reading=f"the candidate chooses among {candidate:.2f} tokens in effect, base {base:.2f}{doubt(found)}",
        n=len(contexts),
        higher_is="more tokens in play",
    )


def nucleus_size(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured:
    """E|N_p|: fewest tokens that hold .95 of the mass, mean over positions; exact, as the engine counts it."""
    base, candidate, found = _per_token(contexts, _sizes, seed=seed)
    return Measured(
        name="nucleus_size",
        base=base,
        candidate=candidate,
        delta=found,
        unit="tokens",
        reading=f"{NUCLEUS:.0%} of the mass lies on {candidate:.1f} tokens, base {base:.1f}{doubt(found)}",
        note="a mean that a few flat positions make: see effective_support beside it",
        n=len(contexts),
        higher_is="more tokens in play",
    )


def support_contraction(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured:
    """E|N_p(s)| / E|N_p(b)| with p = .95; 1 where nothing changed, below 1 the candidate's support is smaller."""
    totals, clusters = _totals(contexts, _sizes)
    found = totals_change(totals, clusters, lambda sums: sums[:, 1] / sums[:, 0] - 1.0, seed=seed)
    sums = totals.sum(axis=0)
    ratio = float(sums[1] / sums[0])
    return Measured(
        name="support_contraction",
        base=1.0,
        candidate=ratio,
        delta=found,
        unit="ratio",
        reading=f"the candidate's nucleus has {ratio:.2f} times the size of the base's{doubt(found)}",
        n=len(contexts),
        higher_is="wider support than the base",
    )


def support_retention(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured | None:
    """Candidate's mass on the base's nucleus, E sum over v in N_p(b) of pi_s(v); share. None without top ids.

    `base` is the base's own mass on the same tokens (.95 or a little more). Like a divergence it is lowered by any
    change: they are the tokens that the base rates highest. A nucleus of more than m tokens is cut at m, for both.
    """
    parts = [(c, c.on_base) for c in contexts if c.on_base is not None]
    if not parts:
        return None
    masses = [nucleus_masses(p) for _, p in parts]
    base, candidate, found = _change_of(*_table([c for c, _ in parts], masses), seed)
    return Measured(
        name="support_retention",
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=f"the candidate puts {percent(candidate)} of its mass on the tokens that the base holds likely, "
        f"the base {percent(base)}{doubt(found)}",
        note=_cut([(c.base.nucleus_sizes, p) for c, p in parts]),
        n=len(parts),
        higher_is="more of the base's choices kept",
    )


def support_novelty(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured | None:
    """The reverse: base's mass on the candidate's nucleus; share. Low: the candidate likes what the base does not.

    `base` is the candidate's own mass on the same tokens, what an unchanged model would have; lowered by any change,
    as `support_retention`. Without the candidate's own ids its nucleus is taken among the base's ids (and is cut where
    these hold less than .95 of it).
    """
    pairs: list[tuple[SharedContext, Floats, Floats]] = []
    cut = positions = 0
    for c in contexts:
        part = c.on_candidate or _turned(c.on_base)
        if part is None:
            continue
        own, other = nucleus_masses(part)
        cut += int((own < NUCLEUS - 1e-6).sum())
        positions += own.size
        pairs.append((c, own, other))
    if not pairs:
        return None
    base, candidate, found = _change_of(
        *_table([c for c, *_ in pairs], [(own, other) for _, own, other in pairs]), seed
    )
    return Measured(
        name="support_novelty",
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=f"the base gave {percent(candidate)} to the tokens that the candidate now holds likely, "
        f"the candidate gives them {percent(base)}{doubt(found)}",
        note=f"cut at the ids that are known at {percent(cut / positions)} of the positions" if cut else "",
        n=len(pairs),
        higher_is="fewer new choices",
    )


def nucleus_masses(part: Partition, p: float = NUCLEUS) -> tuple[Floats, Floats]:
    """(T,) each: mass on the owner's nucleus (cut at m ids) under the owner and under the other model."""
    own = np.exp(part.own)
    inside = own.cumsum(axis=1) - own < p
    return (own * inside).sum(axis=1), (np.exp(part.other) * inside).sum(axis=1)


def divergence(part: Partition, *, reverse: bool = False) -> Floats:
    """(T,) lower bounds of KL(owner || other), or of KL(other || owner) with `reverse`; nats, >= 0.

    The log-sum inequality on the partition {each id, tail} (Cover and Thomas 2006, theorem 2.7.1). By the chain rule
    what is missing is the first model's tail mass times the divergence inside the tail.
    """
    p, q = (part.other, part.own) if reverse else (part.own, part.other)
    p_tail, q_tail = (part.other_tail, part.own_tail) if reverse else (part.own_tail, part.other_tail)
    ids = (np.exp(p) * (p - np.maximum(q, _LEAST))).sum(axis=1, where=np.exp(p) > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail = np.where(p_tail > 0.0, p_tail * (np.log(p_tail) - np.log(np.maximum(q_tail, _SMALLEST))), 0.0)
    bound: Floats = np.maximum(ids + tail, 0.0)
    return bound


def kl_base_candidate(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured | None:
    """KL(base || candidate), nats per token: what the base does that the candidate no longer does. A lower bound."""
    return _kl(contexts, reverse=False, seed=seed)


def kl_candidate_base(contexts: Sequence[SharedContext], *, seed: int = 0) -> Measured | None:
    """KL(candidate || base), nats per token: what the candidate does that the base would not. A lower bound."""
    return _kl(contexts, reverse=True, seed=seed)


def _kl(contexts: Sequence[SharedContext], *, reverse: bool, seed: int) -> Measured | None:
    kept = [c for c in contexts if c.on_base is not None or c.on_candidate is not None]
    if not kept:
        return None
    found, tails, m = [], [], 0
    for c in kept:
        # Both partitions bound the same divergence from below, so the higher one holds as well.
        views = [(p, r) for p, r in ((c.on_base, reverse), (c.on_candidate, not reverse)) if p is not None]
        bounds = np.stack([divergence(p, reverse=r) for p, r in views])
        tail = np.stack([p.other_tail if r else p.own_tail for p, r in views])
        best = bounds.argmax(axis=0), np.arange(c.size)
        found.append(bounds[best])
        tails.append(tail[best])
        m = max(m, *(p.m for p, _ in views))
    totals, clusters = _table(kept, [(np.zeros_like(f), f) for f in found])
    _, value, change = _change_of(totals, clusters, seed)
    tail = np.concatenate(tails)
    first, second = ("candidate", "base") if reverse else ("base", "candidate")
    return Measured(
        name=f"kl_{first}_{second}",
        base=0.0,
        candidate=value,
        delta=at_least_zero(change),
        unit="nats",
        reading=f"the candidate's next-token distributions are {value:.4f} nats a token away from the base's "
        f"(KL({first} || {second}) on the same texts)",
        note=f"a lower bound from {m} ids: the {first} has {percent(float(tail.mean()))} of its mass outside them on "
        f"average (over {LARGE_TAIL:.0%} at {percent(float((tail > LARGE_TAIL).mean()))} of the positions), and each "
        f"nat of divergence in there would add {float(tail.mean()):.4f}",
        n=len(kept),
        higher_is="further from the base",
    )


def bits_per_byte(texts: Sequence[SharedContext], *, seed: int = 0) -> Measured:
    """Sum of -log2 p over the sum of UTF-8 bytes of fixed texts. Independent of how a tokenizer cuts them.

    Raises ValueError where a text does not tell its bytes.
    """
    if any(not c.n_bytes for c in texts):
        raise ValueError("bits per byte need the number of bytes of every text")
    totals, clusters = _totals(texts, lambda c: (-c.base.logprobs / _LN2, -c.candidate.logprobs / _LN2))
    totals[:, 2] = [c.n_bytes or 0 for c in texts]
    base, candidate, found = _change_of(totals, clusters, seed)
    return Measured(
        name="bits_per_byte",
        base=base,
        candidate=candidate,
        delta=found,
        unit="bits/byte",
        reading=f"fixed texts cost {candidate:.4f} bits a byte, base {base:.4f}{doubt(found)}",
        n=len(texts),
        higher_is="worse at ordinary text",
    )


def distribution_measures(contexts: Sequence[SharedContext], *, seed: int = 0) -> tuple[Measured, ...]:
    """All of the above on the base's own continuations (bits per byte want fixed texts: called on its own)."""
    made = [
        measure(contexts, seed=seed)
        for measure in (
            token_entropy,
            effective_support,
            nucleus_size,
            support_contraction,
            support_retention,
            support_novelty,
            kl_base_candidate,
            kl_candidate_base,
        )
    ]
    return tuple(m for m in made if m is not None)


Columns = Callable[[SharedContext], "tuple[Floats | Integers, Floats | Integers]"]


def _sizes(c: SharedContext) -> tuple[Integers, Integers]:
    return c.base.nucleus_sizes, c.candidate.nucleus_sizes


def _totals(contexts: Sequence[SharedContext], columns: Columns) -> tuple[Floats, Integers]:
    """(n, 3) sums over each text of the base's and the candidate's values and its positions; clusters (n,)."""
    return _table(contexts, [columns(c) for c in contexts])


def _table(
    contexts: Sequence[SharedContext], columns: Sequence[tuple[Floats | Integers, Floats | Integers]]
) -> tuple[Floats, Integers]:
    if not contexts:
        raise ValueError("no shared contexts")
    rows = [[b.sum(), s.sum(), b.size] for b, s in columns]
    return np.asarray(rows, dtype=np.float64), labels_of([c.cluster for c in contexts], len(contexts))


def _change_of(totals: Floats, clusters: Integers, seed: int) -> tuple[float, float, Interval | None]:
    """Both sides' sums over the third column, and the interval of the difference."""
    found = totals_change(totals, clusters, lambda sums: (sums[:, 1] - sums[:, 0]) / sums[:, 2], seed=seed)
    sums = totals.sum(axis=0)
    return float(sums[0] / sums[2]), float(sums[1] / sums[2]), found


def _per_token(
    contexts: Sequence[SharedContext], columns: Columns, *, seed: int
) -> tuple[float, float, Interval | None]:
    return _change_of(*_totals(contexts, columns), seed)


def _turned(part: Partition | None) -> Partition | None:
    """The same ids seen from the other model, its likeliest first."""
    if part is None:
        return None
    order = np.argsort(-part.other, axis=1, kind="stable")
    own, other = (np.take_along_axis(a, order, axis=1) for a in (part.other, part.own))
    return Partition(np.take_along_axis(part.ids, order, axis=1), own, other, part.other_tail, part.own_tail)


def _cut(parts: Sequence[tuple[Integers, Partition]]) -> str:
    """How often a nucleus has more tokens than there are ids."""
    over = sum(int((sizes > p.m).sum()) for sizes, p in parts)
    positions = sum(sizes.size for sizes, _ in parts)
    return f"the base's nucleus is cut at the known ids at {percent(over / positions)} of the positions" if over else ""
