"""How varied the outputs of a candidate are beside the base's. Pure functions of texts and token ids.

Sources stand at each measure. `Answered` holds the outputs; all measures are paired by item.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.equivalence import SAME_ANSWER, Equivalence
from forgetbench.analysis.measured import Measured, doubt, influence_change, mean_change
from forgetbench.analysis.ngrams import WithAndWithout, ead_by_group, ead_of_all, self_repetition
from forgetbench.analysis.outputs import SIDES, Answered, common_samples, equal_lengths, labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

Decode = Callable[[Sequence[int]], str]
Embed = Callable[[Sequence[str]], "Floats"]
"""Texts to vectors (texts, d)."""

SHARED_GRAMS = 4
"""Length of the n-grams of self-repetition."""
_FOLDS = 40
"""Parts of the items that are left out in turn where leaving out each item would cost too much."""
EMBEDDED = 500
"""Items whose outputs are embedded: a mean over more hardly moves."""
_LEVEL = 6


def ead_per_input(answered: Sequence[Answered], vocabulary: int, *, seed: int = 0) -> Measured:
    """EAD of an item's samples taken together, mean over items; share (about 0 to 1), higher is more varied.

    Source: Kirk et al. (2023), "Understanding the Effects of RLHF on LLM Generalisation and Diversity" (arXiv
    2310.06452), section 4 (per-input diversity). `vocabulary` is the tokenizer's size. Every item counts with the
    same number of samples on both sides. An n without a single n-gram is left out of the mean over n.
    """
    clusters, k = labels(answered), common_samples(answered)
    sides = []
    for side in SIDES:
        texts = [o.token_ids for a in answered for o in a.side(side)[:k]]
        sides.append(ead_by_group(texts, np.repeat(np.arange(len(answered)), k), vocabulary))
    found = mean_change(sides[0], sides[1], clusters, seed=seed)
    base, candidate = (float(s.mean()) for s in sides)
    return Measured(
        name="ead_per_input",
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=f"{_samples(k)} of one question have {candidate:.3f} as their adjusted share of distinct n-grams, "
        f"base {base:.3f}{doubt(found)}",
        note="one output an item: it measures repetition inside an answer" if k == 1 else "",
        n=len(answered),
        higher_is="more varied answers to one question",
    )


def ead_across_inputs(answered: Sequence[Answered], vocabulary: int, *, seed: int = 0) -> Measured:
    """EAD of one output of every item taken together, mean over the samples; share, higher is more varied.

    Source: as `ead_per_input` (across-input diversity). Both sides are cut to equal lengths: the formula corrects for
    length only while there are few n-grams against the vocabulary, and a whole set has many; for the same reason it
    can pass 1. Depends on the number of items: compare within one set.
    """
    clusters, k = labels(answered), common_samples(answered)
    made: list[list[WithAndWithout]] = [[], []]
    for j in range(k):
        for mine, texts in zip(made, equal_lengths(answered, j), strict=True):
            mine.append(ead_of_all(texts, clusters, vocabulary))
    base, candidate = (_mean(m) for m in made)
    found = influence_change(candidate.value - base.value, candidate.without - base.without, seed=seed)
    return Measured(
        name="ead_across_inputs",
        base=base.value,
        candidate=candidate.value,
        delta=found,
        unit="share",
        reading=f"answers to different questions have {candidate.value:.3f} as their adjusted share of distinct "
        f"n-grams, base {base.value:.3f}{doubt(found)}",
        note="answers cut to the shorter one of each pair",
        n=len(answered),
        higher_is="answers share less wording across questions",
    )


def distinct_k(answered: Sequence[Answered], equivalence: Equivalence = SAME_ANSWER, *, seed: int = 0) -> Measured:
    """Number of equivalence classes among k samples of an item, mean over items; 1 to k.

    Source: Zhang et al. (2025), "NoveltyBench" (arXiv 2504.05228), distinct_k. k is what every item has on both
    sides; further samples are left out.
    """
    clusters, k = labels(answered), common_samples(answered)
    sides = [
        np.asarray([len(set(equivalence(a.side(side)[:k]))) for a in answered], dtype=np.float64) for side in SIDES
    ]
    found = mean_change(sides[0], sides[1], clusters, seed=seed)
    base, candidate = (float(s.mean()) for s in sides)
    return Measured(
        name=f"distinct_{k}",
        base=base,
        candidate=candidate,
        delta=found,
        unit="answers",
        reading=f"{_samples(k)} of one question give {candidate:.2f} different answers on average, "
        f"base {base:.2f}{doubt(found)}",
        n=len(answered),
        higher_is="more different answers to one question",
    )


def repetition_across(answered: Sequence[Answered], *, n: int = SHARED_GRAMS, seed: int = 0) -> Measured:
    """Self-repetition of n-grams across the answers, both sides cut to equal lengths; log(1 + count), nats.

    Source: see `ngrams.self_repetition`. One output of every item, mean over the samples. With more than 200
    clusters its interval leaves out 200 groups of them in turn.
    """
    clusters, k = labels(answered), common_samples(answered)
    folds = _folds(clusters, 200, seed)
    made: list[list[WithAndWithout]] = [[], []]
    for j in range(k):
        for mine, texts in zip(made, equal_lengths(answered, j), strict=True):
            mine.append(self_repetition(texts, folds, n))
    base, candidate = (_mean(m) for m in made)
    found = influence_change(candidate.value - base.value, candidate.without - base.without, seed=seed)
    return Measured(
        name=f"self_repetition_{n}",
        base=base.value,
        candidate=candidate.value,
        delta=found,
        unit="nats",
        reading=f"an answer's {n}-token phrases stand some {np.expm1(candidate.value):.1f} times in other answers, "
        f"base {np.expm1(base.value):.1f}{doubt(found)}",
        note="answers cut to the shorter one of each pair",
        n=len(answered),
        higher_is="more wording shared between answers",
    )


def compression_ratio(answered: Sequence[Answered], decode: Decode | None = None, *, seed: int = 0) -> Measured:
    """Bytes of all answers over their bytes compressed (zlib), both sides cut to equal lengths; >= about 1.

    Source: Shaib et al. (2024, arXiv 2403.00553), section 2. The first output of every item. With `decode` each pair
    is cut to equal tokens, without it to equal characters. The order is made from the texts, so that the order of
    the items changes nothing; zlib sees repetitions within 32 KB only.
    """
    clusters = labels(answered)
    if decode is None:
        texts = [(a.base[0].text, a.candidate[0].text) for a in answered]
        pairs = [(b[: min(len(b), len(s))], s[: min(len(b), len(s))]) for b, s in texts]
    else:
        cut = equal_lengths(answered, 0)
        pairs = [(decode(b), decode(s)) for b, s in zip(*cut, strict=True)]
    order = sorted(range(len(pairs)), key=lambda i: hashlib.blake2b("\x00".join(pairs[i]).encode()).digest())
    folds = _folds(clusters, _FOLDS, seed)
    base, candidate = (
        WithAndWithout(
            _ratio([pairs[i][side] for i in order]),
            np.asarray([_ratio([pairs[i][side] for i in order if folds[i] != g]) for g in range(folds.max() + 1)]),
        )
        for side in (0, 1)
    )
    found = influence_change(candidate.value - base.value, candidate.without - base.without, seed=seed)
    return Measured(
        name="compression_ratio",
        base=base.value,
        candidate=candidate.value,
        delta=found,
        unit="ratio",
        reading=f"the answers compress {candidate.value:.2f} times, base {base.value:.2f}{doubt(found)}",
        note=f"answers cut to equal {'characters' if decode is None else 'tokens'} of each pair",
        n=len(answered),
        higher_is="more repetition within and between answers",
    )


def vendi_score(vectors: Floats) -> float:
    """exp of the entropy of the eigenvalues of K / n, K the cosine similarities of `vectors` (n, d); 1 to n.

    Source: Friedman and Dieng (2022), "The Vendi Score" (arXiv 2210.02410), definition 3.1. Raises ValueError for
    no vectors or a zero vector.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if vectors.ndim != 2 or not len(vectors) or (lengths == 0.0).any():
        raise ValueError("the Vendi score needs vectors (n, d), none of them zero")
    unit = vectors / lengths
    # K and the d x d matrix have the same eigenvalues above zero: the smaller one is solved.
    small = unit @ unit.T if unit.shape[0] <= unit.shape[1] else unit.T @ unit
    values = np.linalg.eigvalsh(small / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_per_input(
    answered: Sequence[Answered], embed: Embed, *, embedder: str = "", most: int = EMBEDDED, seed: int = 0
) -> Measured:
    """Vendi score of an item's k samples, mean over items; 1 (all alike) to k. Its meaning is the embedder's.

    embedder: its name, for the note. Of more than `most` items evenly spaced ones are embedded.
    """
    part = answered[:: -(-len(answered) // most)] if answered else answered
    clusters, k = labels(part), common_samples(part)
    sides = []
    for side in SIDES:
        vectors = np.asarray(embed([o.text for a in part for o in a.side(side)[:k]]), dtype=np.float64)
        sides.append(np.asarray([vendi_score(v) for v in vectors.reshape(len(part), k, -1)]))
    found = mean_change(sides[0], sides[1], clusters, seed=seed)
    base, candidate = (float(s.mean()) for s in sides)
    return Measured(
        name=f"vendi_{k}",
        base=base,
        candidate=candidate,
        delta=found,
        unit="answers",
        reading=f"{_samples(k)} of one question are worth {candidate:.2f} different ones by meaning, "
        f"base {base:.2f}{doubt(found)}",
        note=f"by the embedder {embedder}: compare with figures of the same one only" if embedder else "",
        n=len(part),
        higher_is="more varied meanings",
    )


def diversity_measures(
    answered: Sequence[Answered],
    vocabulary: int,
    *,
    equivalence: Equivalence = SAME_ANSWER,
    decode: Decode | None = None,
    embed: Embed | None = None,
    seed: int = 0,
) -> tuple[Measured, ...]:
    """All of the above that the outputs allow: what compares samples of one item wants at least 2 of each, EAD a
    vocabulary of known size (0: it is not known)."""
    found = [ead_across_inputs(answered, vocabulary, seed=seed)] if vocabulary else []
    found.append(repetition_across(answered, seed=seed))
    found.append(compression_ratio(answered, decode, seed=seed))
    if common_samples(answered) > 1:
        if vocabulary:
            found.insert(0, ead_per_input(answered, vocabulary, seed=seed))
        found.append(distinct_k(answered, equivalence, seed=seed))
        if embed is not None:
            found.append(vendi_per_input(answered, embed, seed=seed))
    return tuple(found)


def _folds(clusters: Integers, at_most: int, seed: int) -> Integers:
    """(items,) parts 0..G-1, each of whole clusters; every cluster its own part where there are few enough."""
    _, codes = np.unique(clusters, return_inverse=True)
    groups = int(codes.max()) + 1
    if groups <= at_most:
        return np.asarray(codes, dtype=np.int64)
    return np.asarray((np.random.default_rng(seed).permutation(groups) % at_most)[codes], dtype=np.int64)


def _mean(made: Sequence[WithAndWithout]) -> WithAndWithout:
    return WithAndWithout(float(np.mean([m.value for m in made])), np.mean([m.without for m in made], axis=0))


def _ratio(texts: Sequence[str]) -> float:
    """1 for no text at all."""
    joined = "\n".join(texts).encode()
    return len(joined) / len(zlib.compress(joined, _LEVEL)) if joined else 1.0


def _samples(k: int) -> str:
    return "one sample" if k == 1 else f"{k} samples"
