"""How figures are written, in one place, so that HTML and terminal say the same.

Differences are fractions of 1 in the data and points (hundredths) on the page, with a sign, one decimal and a
true minus. What is not known is an en dash, never a zero.
"""

from __future__ import annotations

import math

from forgetbench.analysis.types import Change, Interval

MINUS, UNKNOWN = "\u2212", "\u2013"

GAINED, LOST, SAME = "gained", "lost", "same"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def points(delta: float | None) -> str:
    """0.034 -> '+3.4'."""
    if delta is None or not _known(delta):
        return UNKNOWN
    value = round(delta * 100, 1)
    if value == 0:
        return "0.0"
    return f"{'+' if value > 0 else MINUS}{abs(value):.1f}"


def plain_points(value: float | None) -> str:
    """A size without direction (margin, minimum detectable drop): 0.034 -> '3.4'."""
    return f"{value * 100:.1f}" if value is not None and _known(value) else UNKNOWN


def whole_points(value: float) -> str:
    """An edge of a scale, without decimals: -0.05 -> '−5'."""
    shown = round(100 * value)
    return f"{'+' if shown > 0 else MINUS if shown < 0 else ''}{abs(shown)}"


def figure(value: float | None) -> str:
    """What a table is sorted by; empty where it is not known."""
    return repr(value) if value is not None and _known(value) else ""


def score(value: float | None) -> str:
    """0.6338 -> '63.4'."""
    return plain_points(value)


def rate(value: float | None) -> str:
    """A share in per cent; an exact zero is '0', so that it reads apart from 'almost none'."""
    if value is None or not _known(value):
        return UNKNOWN
    if value == 0:
        return "0"
    return "< 0.1" if value < 0.0005 else f"{value * 100:.1f}"


def interval(value: Interval | None) -> str:
    """'−3.1 to +0.4'."""
    if value is None or not (_known(value.low) and _known(value.high)):
        return UNKNOWN
    return f"{points(value.low)} to {points(value.high)}"


def p_value(value: float | None) -> str:
    if value is None or not _known(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: int) -> str:
    return f"{value:,}"


def direction(change: Change) -> str:
    """Where the change's own interval lies: all above zero, all below, or neither."""
    if _known(change.interval.low) and change.interval.low > 0:
        return GAINED
    if _known(change.interval.high) and change.interval.high < 0:
        return LOST
    return SAME
