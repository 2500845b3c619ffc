"""Untrusted text made fit to be shown: model output is evidence, and evidence must not be able to act.

Escaping against markup is the template's and `textContent`'s work. What they do not stop is text that shows
something other than what it is: bidi overrides that reorder a line, zero-width characters that make two
unequal answers look equal, control characters that a terminal obeys, lone surrogates that cannot be written
as UTF-8. All of these are replaced by a visible sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

# Joiners (U+200C, U+200D) stay: Persian, Hindi and emoji need them. Tabs and newlines stay.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def _sign(match: re.Match[str]) -> str:
    return f"⟦U+{ord(match.group()):04X}⟧"  # not the control pictures: many fonts lack them


def visible(text: str) -> str:
    """The same text with everything unseen made visible. Encodable as UTF-8 whatever came in."""
    return _UNSEEN.sub(_sign, text)


def cut(text: str, head: int = 12_000, tail: int = 4_000) -> str:
    """Head and tail of a long text with a note in between; short texts come back as they are.

    The tail is kept because an answer usually stands at the end.
    """
    left_out = len(text) - head - tail
    if left_out <= 200:  # a note instead of 200 characters would save nothing
        return text
    note = f"\n⟦… {left_out:,} characters left out here; the run's records have them all …⟧\n"
    return text[:head] + note + text[len(text) - tail :]


def one_line(text: str, limit: int) -> str:
    """Whitespace folded, at most `limit` characters, for lists. Unseen characters made visible."""
    folded = visible(" ".join(text[: limit * 4].split()))
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"


def question_line(prompt: str, limit: int = 120) -> str:
    """What a prompt asks, as one line: its last block, since few-shot examples come before the question."""
    tail = prompt[-6_000:].rstrip()
    block = tail.rsplit("\n\n", 1)[-1]
    return one_line(block, limit)


def clean(value: Any) -> Any:
    """`visible` on every string of nested data, keys included; dataclasses become dicts."""
    if isinstance(value, str):
        return visible(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: clean(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {clean(k): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return value
