"""Find a text that repeats itself without end: what a broken fine-tune does until its budget is spent.

A loop is an *exact* repetition of one unit. With u the length of the smallest unit in characters and r how
often it stands there in a row (fractions count), a run is a loop when it holds a letter or digit and

    u * r >= 200  and  r >= 5           (`MIN_COVERED`, `MIN_REPEATS`)

The smallest period of every suffix comes from the prefix function of the reversed text (Knuth, Morris and
Pratt 1977, "Fast pattern matching in strings"): a suffix of length m has the period m - f(m).

Looked at are the last 4,000 characters, so a unit may be 800 long, and windows of 2,000 characters ending at
every 1,000th, so a run of 1,200 characters is found wherever it stands. What it does not find: loops with a
counter in them, paraphrases, shorter runs that the model got out of.

False alarms: tests/scoring/test_loops.py holds it to at most 1 in 1,000 on published answers of chat models.
"""

from __future__ import annotations

from typing import NamedTuple

MIN_COVERED = 200
MIN_REPEATS = 5
_TAIL = 4_000
_WINDOW = 2_000
_STRIDE = 1_000


class Loop(NamedTuple):
    """The run that was found."""

    unit: str
    repeats: float
    end: int
    """Where the run ends in the text."""


def find_loop(text: str) -> Loop | None:
    """The loop at the text's end, else the first one elsewhere; None: there is none.

    >>> find_loop("It is. " * 60).unit.strip()
    'It is.'
    >>> find_loop("1 + 1 = 2, so the answer is 2.") is None
    True
    """
    stripped = text.rstrip()
    found = _at_end(stripped[-_TAIL:], len(stripped))
    if found is not None:
        return found
    for end in range(_STRIDE, len(stripped), _STRIDE):
        found = _at_end(stripped[max(0, end - _WINDOW) : end], end)
        if found is not None:
            return found
    return None


def _at_end(window: str, end: int) -> Loop | None:
    """The longest run that ends where the window does."""
    n = len(window)
    if n < MIN_COVERED:
        return None
    reverse = window[::-1]
    best: tuple[int, int] | None = None
    border = 0
    borders = [0] * n
    for m in range(1, n):
        while border and reverse[m] != reverse[border]:
            border = borders[border - 1]
        if reverse[m] == reverse[border]:
            border += 1
        borders[m] = border
        length, unit = m + 1, m + 1 - border
        if length >= MIN_COVERED and length >= MIN_REPEATS * unit:
            best = (length, unit)  # a longer run is found later
    if best is None:
        return None
    length, size = best
    unit_text = window[n - size :]
    if not any(c.isalnum() for c in unit_text):
        return None  # a rule, a row of dots, blanks to fill in
    return Loop(unit_text, length / size, end)
