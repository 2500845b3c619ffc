"""Find the answer in a text.

The two GSM8K patterns and the rules around them are those of lm-eval 0.4.13 (task gsm8k, version 3), so that
our scores equal published ones; tests/parity runs both on the same outputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

GSM8K_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
"""First match: the answer in the format that the worked examples teach."""

GSM8K_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
"""Last match: the last thing in the text that looks like a number, whatever stands around it."""

_GSM8K_IGNORED = (re.compile(","), re.compile(r"\$"), re.compile(r"(?s).*#### "), re.compile(r"\.$"))

_NUMBER = re.compile(
    r"""(?<![A-Za-z0-9_.])       # not the tail of a name or of another number: x2, 1.2.3; after 是 it is one
        [-+\u2212]?\$?           # sign, then a dollar sign: -$5
        (?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)   # 1,234,567 or 1234567
        (?:\.\d+)?
        (?:[eE][-+]?\d+)?
    """,
    re.VERBOSE,
)


def first_match(pattern: re.Pattern[str], text: str) -> str | None:
    """First match, stripped: its first group that is not empty, or the whole match without groups."""
    match = pattern.search(text)
    return None if match is None else _group(match)


def last_match(pattern: re.Pattern[str], text: str) -> str | None:
    """Last non-overlapping match, stripped; groups as in `first_match`."""
    matches = list(pattern.finditer(text))
    return _group(matches[-1]) if matches else None


def _group(match: re.Match[str]) -> str | None:
    if match.re.groups == 0:
        return match.group().strip()
    return next((g.strip() for g in match.groups() if g), None)


def gsm8k_strict(text: str) -> str | None:
    """The number after the first `#### `, as written; None: the format was not kept."""
    return first_match(GSM8K_STRICT, text)


def gsm8k_flexible(text: str) -> str | None:
    """The last number-like run of the text, as written (`$1,000.`, or even `..`); None: there is none."""
    return last_match(GSM8K_FLEXIBLE, text)


def gsm8k_normal(answer: str) -> str:
    """The form in which GSM8K answers are compared: no `,` or `$`, nothing before `#### `, no final `.`.

    A reference solution and an extracted number both go through it; the order of the four rules matters
    (the final `.` last) and is lm-eval's.
    """
    for pattern in _GSM8K_IGNORED:
        answer = pattern.sub("", answer)
    return answer.lower()


def parse_number(text: str) -> float | None:
    """A number as people write it: thousands separators, a dollar sign, a Unicode minus. None: not one."""
    plain = text.strip().replace("\u2212", "-").replace(",", "").replace("$", "").rstrip(".")
    try:
        value = float(plain)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def last_number(text: str) -> tuple[str, float] | None:
    """The last number in a text, as written and as a value; units may follow it, `x2` and `1.2.3` are none.

    >>> last_number("so 1,200 + 34 = 1,234.")
    ('1,234', 1234.0)
    """
    return next(_numbers(text, reversed(list(_NUMBER.finditer(text)))), None)


def first_number(text: str) -> tuple[str, float] | None:
    """The first number in a text, as `last_number` reads them.

    >>> first_number("$18 for 9 eggs")
    ('$18', 18.0)
    """
    return next(_numbers(text, _NUMBER.finditer(text)), None)


def _numbers(text: str, matches: Iterable[re.Match[str]]) -> Iterator[tuple[str, float]]:
    for match in matches:
        after = text[match.end() : match.end() + 2]
        if len(after) == 2 and after[0] == "." and after[1].isdigit():
            continue  # 1.2.3 is a version; the `.` of `5.` ends a sentence
        value = parse_number(match.group())
        if value is not None:
            yield match.group(), value
