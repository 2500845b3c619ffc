"""What asking otherwise brings back, net of what it brings back by luck. Pure.

Every rescue is another draw: of an answer that a model gives half of the time, one of three tries finds it in 88 %
of the cases, and nothing was recovered. So the share of the diverged items is held against that of control items:
excess = r_diverged - r_controls, with Newcombe's hybrid score interval of two independent proportions (Newcombe 1998,
"Interval estimation for the difference between independent proportions", method 10).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from forgetbench.analysis.significance import normal_quantile
from forgetbench.analysis.types import Interval
from forgetbench.belief.types import MODES, Mode, Recovered, Recovery

Found = Collection[Mode]
"""The modes that brought the base's answer back, of one item."""


def recovery_of(
    diverged: Sequence[Found],
    controls: Sequence[Found],
    asked: Sequence[Mode],
    *,
    groups: tuple[int, int] | None = None,
) -> Recovery:
    """asked: the modes that could be asked at all, in order. `groups`: clusters of diverged and controls, where items
    share facts: an interval then counts those, never more than items. Raises ValueError without a diverged item."""
    if not diverged:
        raise ValueError("there is nothing to recover")
    sizes = (len(diverged), len(controls)) if groups is None else groups

    def one(mode: Mode | None) -> Recovered:
        hits = [sum(bool(f) if mode is None else mode in f for f in found) for found in (diverged, controls)]
        n, m = len(diverged), len(controls)
        excess = hits[0] / n - hits[1] / m if m else None
        made = newcombe(hits[0] / n, min(sizes[0], n), hits[1] / m, min(sizes[1], m)) if m else None
        return Recovered(mode or "any", hits[0], n, hits[1], m, excess, made)

    return Recovery(tuple(one(m) for m in MODES if m in asked), one(None))


def reading_of(recovery: Recovery) -> str:
    """What came back, all ways together and each by itself, as sentences."""
    return " ".join(sentences_of(recovery))


def sentences_of(recovery: Recovery) -> list[str]:
    """One for all ways together, then one for each.

    Counts and their excess, with its interval. What did not come back is no share of its own: one less the excess
    would count as lost what came back by luck.
    """
    whole = recovery.any
    told = f"Asked otherwise, {whole.diverged:,} of {whole.n_diverged:,} diverged answers came back"
    if whole.excess is None or whole.interval is None:
        first = f"{told}; without controls nothing says how many by luck."
    else:
        low, high = 100 * whole.interval.low, 100 * whole.interval.high
        first = (
            f"{told}, of the controls {whole.controls:,} of {whole.n_controls:,}: "
            f"{100 * whole.excess:.1f} points in excess ({low:.1f} to {high:.1f})."
        )
    return [first, *map(_way, recovery.modes)]


def _way(one: Recovered) -> str:
    told = f"By {one.mode} {one.diverged:,} of {one.n_diverged:,}"
    if one.excess is None or one.interval is None:
        return f"{told}, without any control."
    low, high = 100 * one.interval.low, 100 * one.interval.high
    return (
        f"{told}, of the controls {one.controls:,} of {one.n_controls:,}: "
        f"net {100 * one.excess:.1f} points ({low:.1f} to {high:.1f})."
    )


def as_dict(recovery: Recovery) -> dict[str, Any]:
    """All figures, for --json; shares are fractions of 1."""
    whole, *ways = (asdict(one) for one in (recovery.any, *recovery.modes))
    return {"any": whole, "ways": ways}


def newcombe(p: float, n: float, q: float, m: float, level: float = 0.95) -> Interval:
    """Interval of p - q, shares of n and m independent trials."""
    z = normal_quantile(0.5 + level / 2.0)
    (l1, u1), (l2, u2) = wilson(p, n, z), wilson(q, m, z)
    low = p - q - math.hypot(p - l1, u2 - q)
    high = p - q + math.hypot(u1 - p, q - l2)
    return Interval(max(low, -1.0), min(high, 1.0), level, "Newcombe hybrid score")


def wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Score interval of a share p of n trials (Wilson 1927)."""
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
