"""Bands of loss, and when one may be called confirmed.

Edges in points lost (notes on metrics, section 1): mild below 5 and the loss proven, moderate 5 to 15, severe
above 15. A band is *confirmed* only when the simultaneous bound that is kinder to the candidate clears its
edge; simultaneous over all groups shown side by side (Bonferroni), since the worst of many is read first.
"""

from __future__ import annotations

from collections.abc import Sequence

from forgetbench.analysis.forgetting import skill_lost
from forgetbench.analysis.types import Change, Severity

MODERATE = 0.05
SEVERE = 0.15
_COLLAPSE = 0.8
"""Share of the skill above chance that must be gone: a collapsed task (a convention of this project)."""


def severity(delta: float, high: float, simultaneous_upper: float) -> Severity:
    """Band of a change.

    delta: candidate - base. high: upper end of its two-sided interval (below 0: a loss is proven).
    simultaneous_upper: one-sided upper bound at alpha / number of groups.
    """
    loss = -delta
    if loss > SEVERE:
        return Severity("severe", simultaneous_upper < -SEVERE)
    if loss >= MODERATE:
        return Severity("moderate", simultaneous_upper < -MODERATE)
    if loss > 0.0 and high < 0.0:
        return Severity("mild", simultaneous_upper < 0.0)
    return Severity("none", False)


def is_catastrophic(changes: Sequence[Change]) -> bool:
    """Whether *every* task that needs pretrained knowledge collapsed towards chance.

    `changes`: one per such task. Each has lost at least 80 % of its skill above chance, and its loss is
    proven (one-sided). False without tasks, and where the base had no skill to lose.
    """
    if not changes:
        return False
    for change in changes:
        lost = skill_lost(change.base, change.candidate, change.chance or 0.0)
        if lost is None or lost < _COLLAPSE or change.upper >= 0.0:
            return False
    return True
