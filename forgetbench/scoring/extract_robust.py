r"""Read a number from an answer as a careful person would: the reading behind GSM8K's `exact_match,robust`.

lm-eval's two readings (scoring/extract.py) are kept to the letter, and with them their misses: "55.50" is not
"55.5", the last number of `"answer": "20 years (in 2 steps)"` is 2. This one is never a default, and never mixed with
them. Where it looks, in this order; the first place that holds a number decides:

    "answer": "18"        the last JSON field of that name; a text without a number ends the search: there is none
    \boxed{18}            the last one
    #### 18               the first one: what follows it is the next question of a model that runs on
    the answer is 18      the last such phrase; also `Answer: 18`
    ... = 18.             the last number of the text

Inside such a place the number is what follows the last "=", else the first one: "$18 (9 eggs)" is 18; 2/3 is one
number. What it does not read: numbers in words, mixed numbers, answers in another unit (50 cents for 0.5). In a text
that breaks off before its answer it takes the last number all the same.

docs/published.md has how often each reading misses a right answer or accepts a wrong one on published outputs.
"""

from __future__ import annotations

import math
import re
from collections import deque

from forgetbench.scoring.extract import first_number, last_number, parse_number

_FIELD = re.compile(r"""["']answer["']\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^"}\n]*))""", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_MARKED = re.compile(r"####[ \t]*([^\n]*)")
_STATED = re.compile(r"\banswer(?:[*_]*\s*:|\s+is\b:?)([^\n]*?)(?=\.\s|\n|\Z)", re.IGNORECASE)
"""To the end of the sentence: what follows may check the answer with other numbers."""
_DIVIDED = re.compile(r"\s*/\s*(\d+(?:\.\d+)?)")

_RELATIVE = 1e-9
"""55.50 equals 55.5 and 0.1 + 0.2 equals 0.3; 55.5 does not equal 55."""


def robust_number(text: str) -> str | None:
    """The number that a text gives as its answer, as written; None: it gives none.

    >>> robust_number('{"reasoning": "9 * 2", "answer": "$18 (in 2 steps)"}')
    '$18'
    """
    for field in deque(_FIELD.finditer(text), maxlen=1):  # the last one, if any
        found = _within(field[1] or field[2] or "")
        if found is not None or field[1] is not None:
            return found
    places = (*reversed(_BOXED.findall(text)), *_MARKED.findall(text), *reversed(_STATED.findall(text)))
    stated = next((found for found in map(_within, places) if found is not None), None)
    if stated is not None:
        return stated
    last = last_number(text)
    return None if last is None else last[0]


def _within(place: str) -> str | None:
    """The number of a short statement: after its last `=`, else the first one."""
    head, equals, after = place.rpartition("=")
    for part in (after, head) if equals else (place,):
        found = first_number(part)
        if found is not None:
            divided = _DIVIDED.match(part, part.index(found[0]) + len(found[0]))
            return found[0] if divided is None else f"{found[0]}/{divided[1]}"
    return None


def same_number(found: str | None, gold: str) -> bool:
    """Whether two numbers as written have one value; False where one of them is none."""
    if found is None:
        return False
    ours, theirs = _value(found), _value(gold)
    return ours is not None and theirs is not None and math.isclose(ours, theirs, rel_tol=_RELATIVE, abs_tol=0.0)


def _value(number: str) -> float | None:
    above, slash, below = number.partition("/")
    value = parse_number(above)
    if not slash or value is None:
        return value
    divisor = parse_number(below)
    return value / divisor if divisor else None
