"""What `--resolve` may do about an undecided rule: how much alpha a further look costs, and what to raise with it.

A second look at the same rule with more answers is a second chance to err, so alpha is spent over the looks (three
looks at .05 each err 10.7 %). The spending function is of O'Brien and Fleming's type: next to nothing at first, so that
the last look has nearly all of it.

SOURCE: Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials", Biometrika 70:659, alpha_1*(t);
boundaries by the recursion of Armitage, McPherson and Rowe (1969), "Repeated significance tests on accumulating data",
JRSS A 132:235.

What is raised is raised on *every* item of a rule: more samples on flipped items alone shrink the loss (a true -6.0
read -2.3). A rule about K samples gets more samples; a greedy one has no second sample and gets the items that a limit
left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from forgetbench.analysis.significance import normal_cdf, normal_quantile

if TYPE_CHECKING:
    from forgetbench.gate.types import RuleResult

_POINTS = 1_201
"""Of the grid that a boundary is integrated on."""
_FAR = 8.0
"""In standard deviations: what lies beyond is nothing."""


def spent(fraction: float, alpha: float = 0.05) -> float:
    """Alpha spent (one-sided) once `fraction` of the planned information is in: 2 - 2 Phi(z_{alpha/2} / sqrt(t)).

    Information: 1 / variance of the change, for a raised n the share of the items. Raises ValueError outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"an information fraction lies in (0, 1], not {fraction}")
    return 2.0 * normal_cdf(-normal_quantile(1.0 - alpha / 2.0) / math.sqrt(fraction))


def levels(fractions: Sequence[float], alpha: float = 0.05) -> list[float]:
    """The one-sided level of each look's own test, such that all looks together err with probability alpha.

    fractions: of the information at each look, ascending; spent at the last one is `spent(fractions[-1])`, alpha if
    that is 1. Statistics at the looks are taken as jointly normal with independent increments.
    """
    if not fractions or any(b <= a for a, b in pairwise(fractions)):
        raise ValueError(f"information fractions ascend, unlike {list(fractions)}")
    budget = [spent(t, alpha) for t in fractions]
    # The density of the score S(t) = Z sqrt(t) among the paths that have not crossed, on a grid.
    bound = -normal_quantile(budget[0])
    made = [budget[0]]
    grid = np.linspace(-_FAR * math.sqrt(fractions[0]), bound * math.sqrt(fractions[0]), _POINTS)
    density = _normal(grid, fractions[0])
    for k in range(1, len(fractions)):
        step = fractions[k] - fractions[k - 1]
        weights = density * _trapezoid(grid)
        bound = _crossing(grid, weights, step, fractions[k], budget[k] - budget[k - 1])
        made.append(normal_cdf(-bound))
        wider = np.linspace(-_FAR * math.sqrt(fractions[k]), bound * math.sqrt(fractions[k]), _POINTS)
        density = _normal(wider[:, None] - grid[None, :], step) @ weights
        grid = wider
    return made


def _normal(x: np.typing.NDArray[np.float64], variance: float) -> np.typing.NDArray[np.float64]:
    density: np.typing.NDArray[np.float64] = np.exp(-(x**2) / (2.0 * variance)) / math.sqrt(2.0 * math.pi * variance)
    return density


def _trapezoid(grid: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    weights = np.full(grid.size, grid[1] - grid[0])
    weights[[0, -1]] /= 2.0
    return weights


def _crossing(
    grid: np.typing.NDArray[np.float64],
    weights: np.typing.NDArray[np.float64],
    step: float,
    fraction: float,
    wanted: float,
) -> float:
    """The bound on Z at this look that paths inside so far cross with probability `wanted`."""
    from scipy.special import ndtr

    low, high = -_FAR, _FAR
    for _ in range(60):
        middle = (low + high) / 2.0
        crossed = float(weights @ ndtr((grid - middle * math.sqrt(fraction)) / math.sqrt(step)))
        low, high = (middle, high) if crossed > wanted else (low, middle)
    return (low + high) / 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """One of several looks at the same rules, by rule name."""

    levels: Mapping[str, float]
    """One-sided level of the PASS leg at this look; a rule that is not named is looked at once, at its own alpha."""
    fail_levels: Mapping[str, float]
    """The same for the FAIL leg."""
    settled: Mapping[str, RuleResult]
    """What an earlier look decided: the first boundary that is crossed counts."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A task whose rules may stay open after a first look."""

    task: str
    items: int
    """Asked so far."""
    left_out: int
    """Items of its tasks that a limit or a sample left out."""
    samples: int
    """Of each item and side; 1 where the rule is about greedy answers."""
    greedy: bool
    tokens_per_sample: float
    """Prompt and answer of one item, both checkpoints together, as measured so far."""


@dataclass(frozen=True, slots=True)
class Raise:
    """What a task gets."""

    task: str
    what: Literal["samples", "items"]
    now: int
    to: int
    tokens: int
    """More than were used before; within the budget."""


@dataclass(frozen=True, slots=True)
class Work:
    raises: tuple[Raise, ...]
    budget: int
    notes: tuple[str, ...]
    """A line for each task that gets nothing, and why."""

    @property
    def tokens(self) -> int:
        return sum(r.tokens for r in self.raises)


def plan_work(undecided: Sequence[Undecided], budget: int, *, most_samples: int = 32) -> Work:
    """What to raise within `budget` tokens, said before anything is asked.

    A sampled rule wants `most_samples` on every item, a greedy one all items that were left out. Where all that costs
    more than the budget, every rule gets the same share of what it wants, in whole samples of every item or whole
    items. budget: at least 1.
    """
    wants: list[tuple[Undecided, Literal["samples", "items"], int, float]] = []
    notes: list[str] = []
    for one in undecided:
        if not one.greedy and one.samples < most_samples:
            wants.append((one, "samples", most_samples - one.samples, one.items * one.tokens_per_sample))
        elif one.left_out > 0:
            wants.append((one, "items", one.left_out, one.samples * one.tokens_per_sample))
        else:
            why = (
                "all its items were asked, and greedy answers have no second sample"
                if one.greedy
                else (f"all its items were asked, {one.samples} times each")
            )
            notes.append(f"{one.task}: nothing to raise: {why}")
    cost = sum(count * price for _, _, count, price in wants)
    share = 1.0 if cost <= budget else budget / cost
    raises = []
    for one, what, count, price in wants:
        more = int(count * share + 1e-9)
        now = one.samples if what == "samples" else one.items
        if more:
            raises.append(Raise(one.task, what, now, now + more, math.ceil(more * price - 1e-9)))
        else:
            unit = "one more sample of every item" if what == "samples" else "one more item"
            notes.append(
                f"{one.task}: its share of the budget, {int(budget * count * price / cost):,} tokens, is less "
                f"than {unit} takes ({math.ceil(price):,})"
            )
    return Work(tuple(raises), budget, tuple(notes))
