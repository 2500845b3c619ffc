"""What option log-probabilities tell beside accuracy: calibration, and the probability of the right answer.

The probability of the right answer moves before accuracy does, since an item flips only when it crosses another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.measured import Measured, doubt, mean_change, percent, totals_change

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class OptionScores:
    """Log-probabilities of each item's options under both models, summed over an option's tokens (nats)."""

    base: Floats
    """(n, k); -inf where an item has fewer options."""
    candidate: Floats
    gold: Integers
    """(n,) the right option."""
    labels: Integers
    """(n,) cluster codes (`measured.labels_of`)."""

    def __post_init__(self) -> None:
        n = self.gold.size
        if n == 0 or self.base.shape != self.candidate.shape or self.base.ndim != 2 or self.base.shape[0] != n:
            raise ValueError("option scores must be (items, options) of the same items on both sides")
        if self.labels.shape != (n,) or (self.gold < 0).any() or (self.gold >= self.base.shape[1]).any():
            raise ValueError("gold must name an option of every item, labels a cluster")
        if not np.isfinite(self.of_gold(self.base)).all() or not np.isfinite(self.of_gold(self.candidate)).all():
            raise ValueError("the right option of an item has no log-probability")

    def of_gold(self, scores: Floats) -> Floats:
        """(n,)"""
        found: Floats = scores[np.arange(self.gold.size), self.gold]
        return found


class Judgement(NamedTuple):
    """One model's belief among the options; arrays (n,)."""

    confidence: Floats
    """Probability of the option that it chooses."""
    correct: Floats
    """0 or 1."""
    gold: Floats
    """Probability of the right option."""
    brier: Floats
    """Sum over options of (probability - is right)^2, 0 to 2."""


def judged(scores: Floats, gold: Integers) -> Judgement:
    """Probabilities are normalised over the options of an item."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    right = np.zeros_like(p)
    right[np.arange(gold.size), gold] = 1.0
    chosen = p.argmax(axis=1)
    return Judgement(
        p.max(axis=1), (chosen == gold).astype(np.float64), (p * right).sum(axis=1), ((p - right) ** 2).sum(axis=1)
    )


def bins_of(confidence: Floats, bins: int = BINS) -> Integers:
    """(n,) equal-mass bins by rank, 0..bins-1; equal confidences share a bin, so the order of items changes nothing."""
    kinds, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = counts.cumsum() - counts / 2.0
    of_kind = np.minimum((middle / confidence.size * bins).astype(np.int64), bins - 1)
    return np.asarray(of_kind[inverse], dtype=np.int64) if kinds.size else np.empty(0, dtype=np.int64)


def calibration_error(confidence: Floats, correct: Floats, bins: int = BINS) -> float:
    """ECE = sum over bins of |bin| / n * |accuracy - mean confidence|, equal-mass bins; share, 0 to 1.

    Source: Naeini et al. (2015); equal-mass bins: Nixon et al. (2019), "Measuring Calibration in Deep Learning"
    (arXiv 1904.01685), section 4. Above zero also for a calibrated model (`calibrated_error`).
    """
    gaps = np.bincount(bins_of(confidence, bins), weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)


def calibrated_error(confidence: Floats, bins: int = BINS) -> float:
    """What `calibration_error` comes to on average where confidence is exactly the chance of being right.

    A bin's gap is then about normal with variance sum c (1 - c), and the mean of its absolute value sqrt(2 / pi) of
    its standard deviation.
    """
    variance = np.bincount(bins_of(confidence, bins), weights=confidence * (1.0 - confidence), minlength=bins)
    return float(np.sqrt(2.0 / np.pi * variance).sum() / confidence.size)


def option_measures(scores: OptionScores, *, bins: int = BINS, seed: int = 0) -> tuple[Measured, ...]:
    """Calibration error, overconfidence, Brier score, log-probability and probability of the right answer."""
    sides = [judged(s, scores.gold) for s in (scores.base, scores.candidate)]
    n = scores.gold.size

    def mean(name: str, values: list[Floats], unit: str, sentence: str, higher_is: str, note: str = "") -> Measured:
        found = mean_change(values[0], values[1], scores.labels, seed=seed)
        base, candidate = (float(v.mean()) for v in values)
        shown = [percent(v) if unit == "share" else f"{v:.3f}" for v in (candidate, base)]
        reading = sentence.format(*shown) + doubt(found)
        return Measured(name, base, candidate, found, unit, reading, note, n=n, higher_is=higher_is)

    return (
        _calibration(sides, scores.labels, bins, seed),
        mean(
            "overconfidence",
            [s.confidence - s.correct for s in sides],
            "share",
            "confidence exceeds accuracy by {}, base {}",
            "surer than right",
        ),
        mean("brier", [s.brier for s in sides], "score", "the Brier score is {}, base {}", "worse probabilities"),
        mean(
            "answer_logprob",
            [scores.of_gold(scores.base), scores.of_gold(scores.candidate)],
            "nats",
            "the right answer has a log-probability of {} nats, base {}",
            "the right answer is likelier",
            "summed over the answer's tokens, not normalised by the other options: it also moves with style",
        ),
        mean(
            "answer_probability",
            [s.gold for s in sides],
            "share",
            "the right answer gets {} of the options' probability, base {}",
            "the right answer is likelier",
        ),
    )


def _calibration(sides: list[Judgement], labels: Integers, bins: int, seed: int) -> Measured:
    # The bins stay as all items make them; an item's part in its bin's gap is then a total like any other.
    parts = []
    for s in sides:
        part = np.zeros((s.correct.size, bins))
        part[np.arange(s.correct.size), bins_of(s.confidence, bins)] = s.correct - s.confidence
        parts.append(part)
    totals = np.column_stack([*parts, np.ones(len(labels))])

    def change(sums: Floats) -> Floats:
        gaps = np.abs(sums[:, : 2 * bins]).reshape(-1, 2, bins).sum(axis=2)
        difference: Floats = (gaps[:, 1] - gaps[:, 0]) / sums[:, -1]
        return difference

    found = totals_change(totals, labels, change, share=True, seed=seed)
    base, candidate = (calibration_error(s.confidence, s.correct, bins) for s in sides)
    chance = calibrated_error(sides[1].confidence, bins)
    return Measured(
        name="calibration_error",
        base=base,
        candidate=candidate,
        delta=found,
        unit="share",
        reading=f"confidence is off by {percent(candidate)} on average, base {percent(base)}{doubt(found)}",
        note=f"{bins} bins of equal size; with these confidences a calibrated model would show about {percent(chance)}",
        n=len(labels),
        higher_is="confidence says less about being right",
    )
