"""Bounds that hold for many groups at once, so that the worst of many may be looked at first.

Source: Dunn (1961), "Multiple comparisons among means", JASA 56:52 (Bonferroni intervals). Groups may share clusters
(one fact asked in two tasks), hence no bound that needs independence; over 57 independent groups Bonferroni's level
is .0488 where .05 was meant.
"""

from __future__ import annotations

from collections.abc import Sequence

from forgetbench.analysis.paired import Estimator
from forgetbench.analysis.severity import severity
from forgetbench.analysis.types import Interval, Severity


def simultaneous_upper(fit: Estimator, groups: int, alpha: float = 0.05) -> float:
    """Upper bound of the change that is kinder to the candidate: all of `groups` such bounds hold at once with
    probability 1 - alpha or more.
    """
    return fit.upper(alpha / groups)


def simultaneous_intervals(fits: Sequence[Estimator], level: float = 0.95) -> list[Interval]:
    """Two-sided intervals, all of which hold at once with probability `level` or more."""
    tail = (1.0 - level) / 2.0 / max(len(fits), 1)
    return [Interval(f.lower(tail), f.upper(tail), level, f"{f.method}, {len(fits)} at once") for f in fits]


def severities(fits: Sequence[Estimator], alpha: float = 0.05) -> list[Severity]:
    """The band of each group; a band is confirmed only where the simultaneous bound clears its edge."""
    return [severity(f.delta, f.upper(alpha / 2.0), simultaneous_upper(f, len(fits), alpha)) for f in fits]
