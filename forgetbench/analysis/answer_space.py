"""What the samples of an item reach: entropy over answers, and the items that are solved at least once.

Token entropy can rise while answer entropy falls (Wu et al. 2025, "The Invisible Leash", arXiv 2507.14843): report
both. All measures compare equal numbers of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.equivalence import SAME_ANSWER, Equivalence
from forgetbench.analysis.measured import Measured, doubt, mean_change, mean_share, percent, totals_change
from forgetbench.analysis.outputs import SIDES, Answered, common_samples, labels
from forgetbench.analysis.passk import pass_at_k

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.analysis.types import Interval

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Counts = tuple[Integers, Integers]

_SHOWN = 5


def answer_entropy_of(counts: Integers) -> float:
    """Entropy of answers in nats from how often each was given, `counts` (answers,) >= 1; Chao and Shen's estimator.

    H = -sum p log p / (1 - (1 - p)^n) with p = C x / n and C = 1 - f1 / n the share of the distribution that was
    seen (f1: answers given once; where all were, f1 = n - 1). Source: Chao and Shen (2003), "Nonparametric estimation
    of Shannon's index of diversity when there are unseen species", Environmental and Ecological Statistics 10, 429.

    Chosen over the plug-in and Miller-Madow because a base's answers are many and mostly unseen in 10 samples: with
    fifty answers by Zipf's law (3.20 nats) the three are off by -.27, -1.30 and -.97, on three even ones by -.04,
    -.11 and -.01 (tests). Its price is a larger spread on one item; a mean over items hardly feels it.
    """
    n = int(counts.sum())
    once = int((counts == 1).sum())
    seen = 1.0 - min(once, n - 1) / n
    p = seen * counts / n
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p < 1.0, p * np.log(p) / -np.expm1(n * np.log1p(-p)), 0.0)
    return float(abs(terms.sum()))


def answer_entropy(answered: Sequence[Answered], equivalence: Equivalence = SAME_ANSWER, *, seed: int = 0) -> Measured:
    """Mean over items of the entropy over the answers of k samples, nats. Raises ValueError for k < 2."""
    clusters, k = labels(answered), common_samples(answered)
    if k < 2:
        raise ValueError("answer entropy needs at least 2 samples of every item on both sides")
    sides = [
        np.asarray([answer_entropy_of(np.bincount(equivalence(a.side(side)[:k]))) for a in answered]) for side in SIDES
    ]
    found = mean_change(sides[0], sides[1], clusters, seed=seed)
    base, candidate = (float(s.mean()) for s in sides)
    return Measured(
        name="answer_entropy",
        base=base,
        candidate=candidate,
        delta=found,
        unit="nats",
        reading=f"answers to one question have {candidate:.2f} nats of entropy, base {base:.2f}{doubt(found)}",
        note=f"Chao and Shen's estimate from {k} samples; answers that no sample gave are inferred, not seen",
        n=len(answered),
        higher_is="more different answers to one question",
    )


def empirical_support(
    base: Counts, candidate: Counts, labels: Integers, *, names: Sequence[str] = (), seed: int = 0
) -> tuple[Measured, ...]:
    """SRR = |S_b and S_s| / |S_b| and the share newly discovered, |S_s without S_b| / |S_s|; S: items solved at least
    once. Source: Wu et al. (2025, arXiv 2507.14843), section 3, there of solutions, here of items.

    Each side is (trials, successes), (n,). A base does not retain all of its own support either: fresh samples miss
    what was solved by luck. So each share is given twice: from all samples as the source has it, without a base
    value, and at h samples (half of what there is) beside the base's own, from two disjoint halves of its samples.
    At h both come without bias from the counts (as pass@k does), averaged over all choices of samples.

    Empty where a side solves nothing: there is no support then. Raises ValueError for fewer than 2 samples.
    """
    trials, solved = (np.asarray([side[i] for side in (base, candidate)]) for i in (0, 1))
    least = int(trials.min()) if trials.size else 0
    if least < 2:
        raise ValueError("empirical support needs at least 2 samples of every item on both sides")
    once = solved > 0
    if not once.any(axis=1).all():
        return ()
    half = least // 2
    first, second = (pass_at_k(t, s, half) for t, s in zip(trials, solved, strict=True))
    twice = pass_at_k(trials[0], solved[0], 2 * half)
    both_halves = 2.0 * first - twice
    lost = tuple(n for n, b, s in zip(names, *once, strict=False) if b and not s)[:_SHOWN]
    found = tuple(n for n, b, s in zip(names, *once, strict=False) if s and not b)[:_SHOWN]
    k = str(least) if np.ptp(trials) == 0 else f"{least} or more"
    kept, new = "more of the base's reach kept", "more found that the base did not reach"
    ones = once.astype(np.float64)
    made = (
        _Share(
            "support_retention_rate",
            (ones[0] * ones[1], ones[0]),
            None,
            f"of the {once[0].sum()} items that the base solves at least once in {k} samples the candidate solves {{}}",
            kept,
            "the base would not solve all of them again either: see the rate at half of the samples",
            lost,
        ),
        _Share(
            f"support_retention_rate_{half}",
            (first * second, first),
            (both_halves, first),
            f"at {half} samples the candidate solves {{}} of what the base solves, fresh samples of the base {{}}",
            kept,
        ),
        _Share(
            "newly_discovered",
            ((1.0 - ones[0]) * ones[1], ones[1]),
            None,
            f"of the {once[1].sum()} items that the candidate solves at least once {{}} are new to the base",
            new,
            "fresh samples of the base would find new ones too: see the rate at half of the samples",
            found,
        ),
        _Share(
            f"newly_discovered_{half}",
            (second * (1.0 - first), second),
            (first - both_halves, first),
            f"at {half} samples {{}} of what the candidate solves is new to the base, of what fresh samples of the "
            "base solve {}",
            new,
        ),
    )
    return tuple(_measured(share, labels, seed) for share in made)


class _Share(NamedTuple):
    """A ratio of sums over items, beside the base's own where there is one."""

    name: str
    candidate: tuple[Floats, Floats]
    base: tuple[Floats, Floats] | None
    sentence: str
    higher_is: str
    note: str = ""
    examples: tuple[str, ...] = ()


def _measured(share: _Share, labels: Integers, seed: int) -> Measured:
    n = labels.size
    totals = np.column_stack([*share.candidate, *(share.base or ())])
    found = _interval(share, totals, labels, seed)
    sums = totals.sum(axis=0)
    candidate = float(sums[0] / sums[1])
    base = float(sums[2] / sums[3]) if share.base else None
    shown = [percent(v) for v in (candidate, base) if v is not None]
    return Measured(
        name=share.name,
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=share.sentence.format(*shown) + (doubt(found) if share.base else ""),
        note=share.note,
        examples=share.examples,
        n=n,
        higher_is=share.higher_is,
    )


def _interval(share: _Share, totals: Floats, labels: Integers, seed: int) -> Interval | None:
    """Over the items of the denominators alone: an item that neither side reaches tells nothing of what is kept, and
    counted as one it made three of three look like a hundred. None: a denominator is of fewer than two clusters."""
    inside = totals[:, 1::2] > 0.0
    if min(np.unique(labels[side]).size for side in inside.T) < 2:
        return None
    counted = inside.any(axis=1)
    totals, labels = totals[counted], labels[counted]
    if share.base is None:  # 0/1 of each item: a share like any other
        return mean_share(totals[:, 0], labels, seed=seed)

    def change(sums: Floats) -> Floats:
        bottoms = sums[:, 1::2]
        difference: Floats = sums[:, 0] / bottoms[:, 0] - sums[:, 2] / bottoms[:, 1]
        return difference

    return totals_change(totals, labels, change, share=True, seed=seed)
