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

from forgetbench.belief.clauses import MARKS, answers_polar, denied, is_polar, mark, opens
from forgetbench.belief.edges import ends, stands_alone
from forgetbench.scoring.extract import parse_number
from forgetbench.types import Item

_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "。，、；：？！“”‘’（）《》【】…", " "))
_INNER = {code: sign for code, sign in _PUNCTUATION.items() if code != ord("-")}
_LOOSE_HYPHEN = re.compile(r"(?<!\w)-|-(?!\w)")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
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
    """Equal after normalisation; equal as numbers; both a wording of the item's gold; or one stated by the other.

    The longer one states the shorter where it holds it as a whole name (edges.py) and does not deny it (clauses.py):
    `Tokyo` in `The capital is Tokyo.`, not in `It cannot be Tokyo.`, nor `印度` in `印度尼西亚`. Never a number in a
    longer text; yes and no only where they are the answer.
    """
    x, y = normal(a), normal(b)
    if x == y:
        return True
    numbers = parse_number(a), parse_number(b)
    if numbers[0] is not None and numbers[1] is not None:
        return math.isclose(numbers[0], numbers[1], rel_tol=1e-6, abs_tol=1e-9)
    aliases = [normal(alias) for alias in _gold(item)]
    if any(_says(a, alias) for alias in aliases) and any(_says(b, alias) for alias in aliases):
        return True
    short, long = (x, b) if len(x) < len(y) else (y, a)
    is_number = numbers[0] is not None or numbers[1] is not None
    return not is_number and _states(long, short)


def begins_with(text: str, answer: str) -> bool:
    """Whether a text goes on with the answer first: `Tokyo, a city of ...` with `Tokyo`."""
    whole, start = normal(text), normal(answer)
    return whole.startswith(start) and ends(start, whole[len(start) :])


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
    return normal(answer) == alias or (parse_number(alias) is None and _states(answer, alias))


def _states(text: str, answer: str) -> bool:
    """Whether a text as it was written gives a shorter normalised answer."""
    if not answer or len(answer) >= len(normal(text)) or answer not in normal(text):
        return False
    marked = _marked(text)
    wanted = re.compile(rf"[ {MARKS}-]+".join(map(re.escape, answer.split())))
    at = 0
    while found := wanted.search(marked, at):
        before, after = marked[: found.start()], marked[found.end() :]
        if stands_alone(before, found.group(), after):
            if is_polar(answer):
                if answers_polar(before, after):
                    return True
            elif opens(before, after) or not denied(before, after):
                return True
        at = found.start() + 1
    return False


def _marked(text: str) -> str:
    """As `normal`, but for the marks of clauses and the hyphens within words, which stay."""
    folded = mark(unicodedata.normalize("NFKC", text).casefold()).translate(_INNER)
    return " ".join(_ARTICLE.sub(" ", _LOOSE_HYPHEN.sub(" ", folded)).split())
