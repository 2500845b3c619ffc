"""Intervals of shares and of their difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from forgetbench.analysis.measured import labels_of, mean_share
from forgetbench.analysis.significance import normal_quantile
from forgetbench.analysis.types import Interval
from forgetbench.probing.types import Share


def share(k: int, n: int) -> Share:
    """k of n with Wilson's 95 % score interval (Wilson 1927); 0 to 1 where n is 0."""
    if n == 0:
        return Share(0, 0, Interval(0.0, 1.0, method="no items"))
    z = normal_quantile(0.975)
    p = k / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((centre + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    # The ends are exactly 0 and 1 there; floating point leaves a hair.
    return Share(k, n, Interval(0.0 if k == 0 else low, 1.0 if k == n else high, method="Wilson"))


def share_of_facts(outcomes: Sequence[bool], facts: Sequence[str], *, seed: int = 0) -> Share:
    """The share of the outcomes that are true where items of one fact vary together: `mean_share`'s interval over
    facts, 0 to 1 for a single fact, `share` where each fact has one item.

    outcomes, facts: (n,), facts equal where they are one."""
    n, k = len(outcomes), sum(outcomes)
    if len(set(facts)) == n:
        return share(k, n)
    found = mean_share(np.asarray(outcomes, dtype=np.float64), labels_of(facts, n), seed=seed)
    return Share(k, n, found or Interval(0.0, 1.0, method="one fact"))


def difference(first: Share, second: Share) -> Interval:
    """95 % interval of first less second, of independent groups: Newcombe (1998), "Interval estimation for the
    difference between independent proportions", method 10."""
    d = first.value - second.value
    below = math.hypot(first.value - first.interval.low, second.interval.high - second.value)
    above = math.hypot(first.interval.high - first.value, second.value - second.interval.low)
    return Interval(d - below, d + above, method="Newcombe")
