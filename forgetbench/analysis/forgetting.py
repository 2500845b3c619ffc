"""How much was forgotten and gained: rates over paired items. Pure functions.

Source of F, BT and F_true: arXiv 2510.17776. F_LC, F* and their simulations: the project's notes on metrics,
section 1. All arrays are (n,): success rates per item in [0, 1], 0 or 1 for one sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class Flips(NamedTuple):
    forgotten: float
    """F = P(1 -> 0)."""
    gained: float
    """BT = P(0 -> 1)."""
    rel_forgotten: float | None
    """relF = F / accuracy of the base; None where the base knows nothing."""

    @property
    def discordance(self) -> float:
        return self.forgotten + self.gained


def flips(base: Floats, candidate: Floats) -> Flips:
    """F, BT and relF. With K samples: of *one* sample of each side, which the two rates give without bias,
    as the draws of the two checkpoints are independent. It still holds the flicker of single samples.
    """
    forgotten = float((base * (1.0 - candidate)).mean())
    gained = float(((1.0 - base) * candidate).mean())
    accuracy = float(base.mean())
    return Flips(forgotten, gained, forgotten / accuracy if accuracy > 0.0 else None)


def chance_adjusted(forgotten: float, base: float, candidate: float, choices: int) -> float:
    """F_true of arXiv 2510.17776, unclipped: F less what two independent guessers would show.

    `base` and `candidate` are accuracies. Kept for comparability; it assumes independent guesses.
    """
    return forgotten - (1.0 - base) * (1.0 - candidate) / (choices - 1)


class LatentClass(NamedTuple):
    """Bounds of the forgotten share among k options: guesses independent at one end, shared at the other."""

    low: float
    high: float
    point: float
    """F_LC itself, unclipped: true only if the guesses are independent."""


def latent_class(forgotten: float, both_wrong: float, choices: int) -> LatentClass:
    """[max(0, F_LC), F / (1 - 1/k)] with U = P(0 -> 0) / (1 - 1/k)^2 and F_LC = F / (1 - 1/k) - U / k.

    Guesses of a base and its fine-tune correlate, so that F_LC alone may be far below zero: report the
    interval.
    """
    k = float(choices)
    known = 1.0 - 1.0 / k
    high = forgotten / known
    point = high - both_wrong / known**2 / k
    return LatentClass(max(0.0, point), high, point)


class MomentBound(NamedTuple):
    loss: float
    """F*: lower bound of E[(p_b - p_s)+]; can be negative."""
    gain: float


def moment_bound(base: Floats, candidate: Floats, samples: int) -> MomentBound:
    """F* = (E[D^2] + E[D]) / 2 with D = p_b - p_s and unbiased E[D^2], from K = `samples` >= 2 a side.

    A lower bound of the expected loss, not a rate: a uniform loss of .1 gives .055. Equal to F where p is 0
    or 1.
    """
    if samples < 2:
        raise ValueError("the moment bound needs at least 2 samples of each side")
    d = base - candidate
    noise = (base * (1.0 - base) + candidate * (1.0 - candidate)) / (samples - 1)
    second, first = float((d**2 - noise).mean()), float(d.mean())
    return MomentBound((second + first) / 2.0, (second - first) / 2.0)


def skill_lost(base: float, candidate: float, chance: float) -> float | None:
    """Share of the base's skill above chance that is gone: (base - candidate) / (base - chance).

    None where the base is at chance: there was no skill to lose.
    """
    return (base - candidate) / (base - chance) if base > chance else None
