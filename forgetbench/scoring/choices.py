"""Rank the options of a multiple-choice question by log-probability."""

from __future__ import annotations

import math
from collections.abc import Sequence

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def first_argmax(values: Sequence[float]) -> int:
    """Index of the largest value; of equal ones the first, as numpy.argmax and therefore lm-eval choose.

    Raises ValueError on an empty sequence or a value that is not finite: where numpy.argmax would quietly
    take a NaN for the largest, a broken forward pass must not become an answer.
    """
    if not values:
        raise ValueError("no options to rank")
    if any(not math.isfinite(v) for v in values):
        raise ValueError(f"a log-probability is not finite: {[float(v) for v in values]}")
    best = 0
    for i, value in enumerate(values):
        if value > values[best]:
            best = i
    return best


def option_lines(choices: Sequence[str]) -> str:
    """`A. first` on a line of its own, `B. second` on the next, up to 26 options."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def describe(labels: Sequence[str], logprobs: Sequence[float]) -> str:
    """All log-probabilities on one line, for the record: `A -1.2345, B -0.8765`."""
    return ", ".join(f"{label} {value:.4f}" for label, value in zip(labels, logprobs, strict=True))
