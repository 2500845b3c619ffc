"""Whether two answers to an item say the same: the first rung, by normalised text and aliases.

Any function of the same form may stand in its place: entailment in both directions, a judge.
"""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable
from typing import Protocol

from forgetbench.scoring.extract import parse_number
from forgetbench.types import Item

_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "。，、；：？！“”‘’（）《》【】…", " "))
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|without|instead|rather|isn|wasn|aren|doesn|don)\b|不|没|非")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|(?<=[。！？])|\n")
_ALIASES = ("references", "correct_answers")
"""Where documents keep several wordings of the gold."""


class Agree(Protocol):
    """Symmetric in the answers; both are texts with something in them."""

    def __call__(self, a: str, b: str, item: Item) -> bool: ...


def normal(text: str) -> str:
    """Case, width, punctuation, English articles and runs of blanks taken off (as SQuAD's scorer does)."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    bare = " ".join(_ARTICLE.sub(" ", folded).split())
    return bare or " ".join(folded.split()) or text.strip()


def alias_match(a: str, b: str, item: Item) -> bool:
    """Equal after normalisation; equal as numbers; both a wording of the item's gold; or one inside the other.

    One answer is inside the other as whole words: `Tokyo` in `The capital is Tokyo.`. Not where the longer one
    negates something, since `not Tokyo but Kyoto` says Kyoto, and never a number in a longer text.
    """
    x, y = normal(a), normal(b)
    if x == y:
        return True
    numbers = parse_number(a), parse_number(b)
    if numbers[0] is not None and numbers[1] is not None:
        return math.isclose(numbers[0], numbers[1], rel_tol=1e-6, abs_tol=1e-9)
    aliases = [normal(alias) for alias in _gold(item)]
    if any(_says(x, alias) for alias in aliases) and any(_says(y, alias) for alias in aliases):
        return True
    short, long = sorted((x, y), key=len)
    is_number = numbers[0] is not None or numbers[1] is not None
    return not is_number and _inside(short, long)


def begins_with(text: str, answer: str) -> bool:
    """Whether a text goes on with the answer first: `Tokyo, a city of ...` with `Tokyo`."""
    whole, start = normal(text), normal(answer)
    return whole.startswith(start) and _edge(start, whole[len(start) : len(start) + 1])


def first_sentence(text: str) -> str:
    """Up to the first sentence or line end, for continuations that go on and on."""
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0].strip()


def _gold(item: Item) -> Iterable[str]:
    """Wordings of the gold; none where they are patterns."""
    if item.doc.get("scorer") == "regex":
        return []
    found: object = next((item.doc[name] for name in _ALIASES if item.doc.get(name)), [])
    return (
        [found]
        if isinstance(found, str)
        else [t for t in found if isinstance(t, str)]
        if isinstance(found, list)
        else []
    )


def _says(answer: str, alias: str) -> bool:
    return answer == alias or (parse_number(alias) is None and len(alias) < len(answer) and _inside(alias, answer))


def _inside(short: str, long: str) -> bool:
    if not short or _NEGATION.search(long):
        return False
    at = long.find(short)
    while at >= 0:
        before, after = long[at - 1 : at] if at else "", long[at + len(short) : at + len(short) + 1]
        if _edge(before, short[:1]) and _edge(short, after):
            return True
        at = long.find(short, at + 1)
    return False


def _edge(left: str, right: str) -> bool:
    """Whether a word may end between the two: always but between two ASCII letters or digits."""
    return not (left and right and _word(left[-1]) and _word(right[0]))


def _word(character: str) -> bool:
    return character.isascii() and character.isalnum()
