"""Base and candidate from one generator: every 95 % interval must hold 0 about 95 times in 100.

Items differ from one another (their length, how they begin, how often they are solved), both sides of an item are
drawn independently from what the item has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from forgetbench.analysis.answer_space import answer_entropy, empirical_support
from forgetbench.analysis.crossover import pass_curves, pass_measures
from forgetbench.analysis.departure import departure_measures
from forgetbench.analysis.distribution import bits_per_byte, distribution_measures
from forgetbench.analysis.diversity import diversity_measures
from forgetbench.analysis.measured import Measured
from forgetbench.analysis.openings import habit_measures
from forgetbench.analysis.option_scores import OptionScores, option_measures
from forgetbench.analysis.outputs import Answered, Output
from forgetbench.analysis.reference_scores import ReferenceScores, reference_measures
from forgetbench.analysis.token_stats import Partition, SharedContext, SideStats

VOCABULARY = 120
DIVERGENCES = ("kl_", "support_retention", "support_novelty")
"""Of two models: 0 only where they are the same, so that independent draws are no null of theirs."""


def outputs(seed: int, items: int = 50, samples: int = 3) -> list[Answered]:
    rng = np.random.default_rng(seed)
    law = 1.0 / np.arange(1, VOCABULARY + 1)
    law /= law.sum()
    made = []
    for i in range(items):
        own = 0.5 * law + 0.5 * rng.dirichlet(0.02 * np.ones(VOCABULARY))  # an item has its own words
        length, stops, common, answers = rng.integers(4, 25), rng.beta(4, 1), rng.beta(1, 1), rng.dirichlet([0.5] * 5)
        sides = []
        for _ in range(2):
            drawn = []
            for _ in range(samples):
                ids = rng.choice(VOCABULARY, size=int(length + rng.integers(0, 6)), p=own)
                if rng.random() < common:
                    ids[:4] = (7, 8, 9, 10)
                text = " ".join(f"w{t}" for t in ids)
                ended = "stop" if rng.random() < stops else "length"
                loops, refuses = rng.random(2) < (0.1, 0.2)
                answer = f"answer {rng.choice(5, p=answers)}"
                drawn.append(Output(text, tuple(ids.tolist()), ended, answer, bool(loops), bool(refuses)))
            sides.append(tuple(drawn))
        made.append(Answered(f"item{i:03}", sides[0], sides[1]))
    return made


def embedding(texts: Iterable[str]) -> np.ndarray:
    """Counts of words."""
    found = [np.bincount([int(w[1:]) for w in t.split()], minlength=VOCABULARY) for t in texts]
    return np.asarray(found, dtype=np.float64)


def _side(rng: np.random.Generator, law: np.ndarray, ids: np.ndarray) -> tuple[SideStats, np.ndarray]:
    """Full distributions around the position's law, (T, V) log-probabilities, and their statistics."""
    weights = rng.gamma(200.0 * law + 0.05) + 1e-300
    p = weights / weights.sum(axis=1, keepdims=True)
    logs = np.log(p)
    ranked = -np.sort(-p, axis=1)
    stats = SideStats(
        logprobs=logs[np.arange(len(ids)), ids],
        entropies=-(p * logs).sum(axis=1),
        nucleus_sizes=(ranked.cumsum(axis=1) < 0.95).sum(axis=1) + 1,
        argmax=p.argmax(axis=1),
        argmax_logprobs=logs.max(axis=1),
    )
    return stats, logs


def partition(own: np.ndarray, other: np.ndarray, m: int) -> Partition:
    """The owner's m likeliest ids of full distributions (T, V)."""
    ids = np.argsort(-own, axis=1)[:, :m]
    mine, theirs = (np.take_along_axis(x, ids, axis=1) for x in (own, other))
    tails = [np.maximum(1.0 - np.exp(x).sum(axis=1), 0.0) for x in (mine, theirs)]
    return Partition(ids, mine, theirs, tails[0], tails[1])


def contexts(seed: int, items: int = 40, m: int = 8) -> list[SharedContext]:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(items):
        t = int(rng.integers(5, 20))
        laws = rng.dirichlet(rng.uniform(0.05, 0.4) * np.ones(30), size=t)
        ids = laws.argmax(axis=1)
        (base, b), (candidate, s) = _side(rng, laws, ids), _side(rng, laws, ids)
        on_base, on_candidate = partition(b, s, m), partition(s, b, m) if i % 2 else None
        made.append(SharedContext(f"item{i}", ids, base, candidate, on_base, on_candidate, n_bytes=4 * t))
    return made


def options(seed: int, items: int = 120) -> OptionScores:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 4, items)
    shared = rng.normal(0.0, 1.0, (items, 4))
    shared[np.arange(items), gold] += rng.normal(1.0, 1.0, items)
    sides = [shared + rng.normal(0.0, 0.7, (items, 4)) for _ in range(2)]
    return OptionScores(sides[0], sides[1], gold, np.arange(items))


def references(seed: int, items: int = 120) -> ReferenceScores:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.5, 2.0, items)
    sides = [-np.logaddexp(0.0, -(shared + rng.normal(0.0, 0.5, items))) for _ in range(2)]
    tokens = rng.integers(1, 5, items).astype(np.float64)
    right = (np.exp(sides[0]) > 0.5) & (np.exp(sides[1]) > 0.5)
    return ReferenceScores(sides[0], sides[1], tokens, tokens, np.arange(items), ("t",) * items, right)


def measures(seed: int) -> list[Measured]:
    answered, shared = outputs(seed), contexts(seed)
    rng = np.random.default_rng(seed)
    rates, trials = rng.beta(0.4, 0.6, 80), np.full(80, 6)
    base, candidate = ((trials, rng.binomial(6, rates)) for _ in range(2))
    return [
        *diversity_measures(answered, VOCABULARY, embed=embedding),
        *habit_measures(answered),
        answer_entropy(answered),
        *(m for m in distribution_measures(shared) if not m.name.startswith(DIVERGENCES)),
        bits_per_byte(shared),
        *(m for m in departure_measures(shared) if m.base is not None),
        *option_measures(options(seed)),
        *reference_measures(references(seed)),
        *(m for m in empirical_support(base, candidate, np.arange(80)) if m.base is not None),
        *pass_measures(pass_curves(base, candidate, draws=200), 80),
    ]


def coverage(draws: int, made: Callable[[int], list[Measured]] = measures) -> dict[str, float]:
    """Share of the draws in which the interval holds 0, by measure."""
    held: Counter[str] = Counter()
    for seed in range(draws):
        held.update({m.name: int(m.delta is not None and m.delta.low <= 0.0 <= m.delta.high) for m in made(seed)})
    return {name: count / draws for name, count in held.items()}


if __name__ == "__main__":
    import sys

    for name, share in sorted(coverage(int(sys.argv[1])).items(), key=lambda kv: kv[1]):
        print(f"{name:32} {100 * share:.2f} %")
