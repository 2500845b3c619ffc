"""How firmly a base believes something: how often it repeats its own modal answer. Pure.

    share = answers that agree with the modal answer / all answers, greedy and sampled, from several few-shot draws
    firm >= .9 > mostly >= .7 > weak >= .4 > none

The gold plays no part: a base may firmly believe what is false. SliCK's classes, which ask how often it gives the
gold, are shown beside it (Gekhman et al. 2024, "Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?",
arXiv 2405.05904, section 3): HighlyKnown, every greedy answer right; MaybeKnown, some; WeaklyKnown, none, but some
sampled one; Unknown, none at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from forgetbench.belief.agreement import Agree
from forgetbench.belief.types import Answer, Belief, BeliefClass, Known, Options
from forgetbench.types import Item


def belief_of(
    greedy: Sequence[Answer], sampled: Sequence[Answer], item: Item, agree: Agree, options: Options
) -> Belief:
    """The belief behind a base's answers; raises ValueError where there is none to look at."""
    answers = [*greedy, *sampled]
    if not answers:
        raise ValueError("a belief needs at least one answer")
    modal, share = modal_answer(answers, item, agree)
    return Belief(modal, share, len(answers), belief_class(share, options), known_class(greedy, sampled))


def modal_answer(answers: Sequence[Answer], item: Item, agree: Agree) -> tuple[Answer | None, float]:
    """The answer that most answers agree with (of several the first), and the share of all that do.

    Answers without a text agree with none and count in the share. (None, 0.0) where there are only those.
    """
    counts = Counter(a.text for a in answers if a.text is not None)
    if not counts:
        return None, 0.0
    texts = list(counts)
    support = dict.fromkeys(texts, 0)
    for i, a in enumerate(texts):
        support[a] += counts[a]
        for b in texts[i + 1 :]:
            if agree(a, b, item):
                support[a] += counts[b]
                support[b] += counts[a]
    best = max(texts, key=lambda t: (support[t], counts[t]))
    return next(a for a in answers if a.text == best), support[best] / len(answers)


def belief_class(share: float, options: Options) -> BeliefClass:
    if share >= options.firm:
        return "firm"
    if share >= options.mostly:
        return "mostly"
    return "weak" if share >= options.weak else "none"


def known_class(greedy: Sequence[Answer], sampled: Sequence[Answer]) -> Known:
    right = sum(a.correct for a in greedy)
    if greedy and right == len(greedy):
        return "HighlyKnown"
    if right:
        return "MaybeKnown"
    return "WeaklyKnown" if any(a.correct for a in sampled) else "Unknown"
