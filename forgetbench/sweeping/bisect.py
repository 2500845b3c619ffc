"""Where to look next on the way to the value farthest from the safe end that is still within the margin.

Pure functions of the points so far. What is assumed is that the loss only grows from the safe end of the axis to the
other one; `contradictions` says where the points deny it. What is known of a point is a verdict (within or not, where
undecided counts as not) and an interval of each loss: a point is never taken for more than that.

A false pass has the gate's alpha. The value found can be too far only where one of the points beyond the true limit
passed falsely, so with k points its chance is k times alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Scale = Literal["log", "linear"]
End = Literal["low", "high"]


class Loss(NamedTuple):
    """What one rule lost, in points (a gain is negative), with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Axis:
    """The values that are looked at. `low` < `high`; on a log scale both are above 0 (ValueError)."""

    low: float
    high: float
    scale: Scale = "log"
    safe: End = "low"
    """The end where the least is lost."""
    whole: bool = False
    """Whole numbers only."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"an axis from {self.low:g} to {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a log scale from {self.low:g}")

    @property
    def ends(self) -> tuple[float, float]:
        """The safe end, then the other one."""
        return (self.low, self.high) if self.safe == "low" else (self.high, self.low)

    def place(self, value: float) -> float:
        """Where a value stands on the way from the safe end (0) to the other one (1)."""
        low, high, at = self.low, self.high, value
        if self.scale == "log":
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low)
        return share if self.safe == "low" else 1.0 - share

    def between(self, a: float, b: float) -> float | None:
        """The value half way, to three digits; None where no further one fits in between."""
        middle = math.sqrt(a * b) if self.scale == "log" else (a + b) / 2.0
        middle = float(round(middle)) if self.whole else float(f"{middle:.3g}")
        return middle if min(a, b) < middle < max(a, b) else None


@dataclass(frozen=True, slots=True)
class Point:
    """One trained and judged value."""

    value: float
    within: bool
    """The gate passed it. FAIL and INCONCLUSIVE both count as not within."""
    losses: Mapping[str, Loss] = field(default_factory=dict)
    """By required rule."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """The limit lies between the two; None: no such point (yet)."""

    within: float | None
    """The farthest value so far such that it and every point before it are within."""
    beyond: float | None
    """The first value that is not."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two points that the assumption cannot both hold for: `nearer` lies nearer to the safe end and lost more."""

    nearer: float
    farther: float
    rule: str | None
    """The rule whose losses say so, each with its whole interval; None: the verdicts do."""


def bracket(axis: Axis, points: Sequence[Point]) -> Bracket:
    """Read from the safe end on up to the first point that is not within: what lies behind it does not count."""
    within = None
    for point in _ordered(axis, points):
        if not point.within:
            return Bracket(within, point.value)
        within = point.value
    return Bracket(within, None)


def next_value(axis: Axis, points: Sequence[Point], resolution: float = 0.0) -> float | None:
    """The value to look at next: the safe end, the other end, then half way between what is within and what is not.

    None where there is nothing more to find: the safe end is not within, the other end is, no value fits in between,
    or the bracket is not wider than `resolution` (a share of the axis, 0 to 1).
    """
    known = {point.value for point in points}
    safe, far = axis.ends
    if safe not in known:
        return safe
    found = bracket(axis, points)
    if found.within is None:
        return None
    if found.beyond is None:
        return far if far not in known else None
    if axis.place(found.beyond) - axis.place(found.within) <= resolution:
        return None
    return axis.between(found.within, found.beyond)


def contradictions(axis: Axis, points: Sequence[Point]) -> tuple[Contradiction, ...]:
    """Pairs that deny a loss which only grows: a pass behind a point without one, and losses of one rule whose
    intervals lie apart the wrong way round. Intervals that touch are noise as far as anybody can tell."""
    found = []
    ordered = _ordered(axis, points)
    for i, nearer in enumerate(ordered):
        for farther in ordered[i + 1 :]:
            if farther.within and not nearer.within:
                found.append(Contradiction(nearer.value, farther.value, None))
            for rule, loss in nearer.losses.items():
                other = farther.losses.get(rule)
                if other is not None and loss.low > other.high:
                    found.append(Contradiction(nearer.value, farther.value, rule))
    return tuple(found)


def _ordered(axis: Axis, points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: axis.place(point.value))
