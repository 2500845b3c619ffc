"""Compare a model's text with references: the scorers of custom sets, as pure functions.

Each returns a `Match`: right or not, what was taken for the answer (None: nothing could be), and why.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from forgetbench.scoring.extract import first_match, last_number, parse_number

_PUNCTUATION = str.maketrans("", "", string.punctuation + "。，、；：？！“”‘’（）《》【】…")


@dataclass(frozen=True, slots=True)
class Normalise:
    """What is ignored when texts are compared. Leading and trailing blanks always are."""

    ignore_case: bool = False
    ignore_punctuation: bool = False
    collapse_whitespace: bool = True
    """Runs of blanks and line ends count as one blank."""
    final_period: bool = True
    """A single `.` or `。` at the end is ignored."""
    first_line: bool = False
    """Only the first line that is not empty counts: for base models that go on writing."""

    def __call__(self, text: str, *, is_reference: bool = False) -> str:
        text = text.strip()
        if self.first_line and not is_reference:
            text = text.split("\n", 1)[0].rstrip()
        if self.final_period:
            text = text.removesuffix("。") if text.endswith("。") else text.removesuffix(".")
        if self.ignore_punctuation:
            text = text.translate(_PUNCTUATION)
        if self.collapse_whitespace:
            text = " ".join(text.split())
        return text.casefold().strip() if self.ignore_case else text.strip()


class Match(NamedTuple):
    correct: bool
    extracted: str | None
    why: str


class Reference(NamedTuple):
    """What an answer is compared with."""

    texts: tuple[str, ...]
    tolerance: float = 1e-6
    """numeric: largest accepted |answer - reference| / max(1, |reference|)."""


def _quoted(text: str, limit: int = 60) -> str:
    flat = " ".join(text.split())
    return f'"{flat[: limit - 1]}…"' if len(flat) > limit else f'"{flat}"'


def _one_of(texts: Sequence[str]) -> str:
    shown = ", ".join(_quoted(t) for t in texts[:3])
    return f"{shown} or {len(texts) - 3} more" if len(texts) > 3 else shown


def exact(text: str, reference: Reference, normalise: Normalise) -> Match:
    """The whole text equals one reference, after normalisation."""
    answer = normalise(text)
    if not answer:
        return Match(False, None, "The output is empty.")
    for ref in reference.texts:
        if answer == normalise(ref, is_reference=True):
            return Match(True, answer, f"The output equals the reference {_quoted(ref)}.")
    return Match(False, answer, f"The output {_quoted(answer)} is not {_one_of(reference.texts)}.")


def contains(text: str, reference: Reference, normalise: Normalise) -> Match:
    """One reference occurs in the text as whole words: `5` is not in `15`, `art` not in `part`.

    The word rule holds at an edge that is an ASCII letter or digit; Chinese is matched as it stands.
    """
    answer = normalise(text)
    if not answer:
        return Match(False, None, "The output is empty.")
    for ref in reference.texts:
        wanted = normalise(ref, is_reference=True)
        before = r"(?<![A-Za-z0-9_])" if re.match(r"[A-Za-z0-9_]", wanted) else ""
        after = r"(?![A-Za-z0-9_])" if re.search(r"[A-Za-z0-9_]\Z", wanted) else ""
        if wanted and re.search(before + re.escape(wanted) + after, answer):
            return Match(True, wanted, f"The output contains the reference {_quoted(ref)}.")
    return Match(False, answer, f"The output does not contain {_one_of(reference.texts)}.")


def regex(text: str, reference: Reference, normalise: Normalise) -> Match:
    """One reference, a Python regular expression, is found in the text, which is taken as it is.

    There is no time limit: a pattern that backtracks without bound, such as (a+)+$, can hang on long outputs.
    """
    if not text.strip():
        return Match(False, None, "The output is empty.")
    for ref in reference.texts:
        found = re.search(ref, text)
        if found:
            return Match(True, found.group(), f"The pattern {_quoted(ref)} matches {_quoted(found.group())}.")
    return Match(False, text.strip(), f"No pattern matches: {_one_of(reference.texts)}.")


def numeric(text: str, reference: Reference, normalise: Normalise) -> Match:
    """The last number of the text equals one reference within its tolerance."""
    found = last_number(text)
    if found is None:
        return Match(False, None, "The output contains no number.")
    written, value = found
    for ref in reference.texts:
        wanted = parse_number(ref)
        if wanted is not None and abs(value - wanted) <= reference.tolerance * max(1.0, abs(wanted)):
            return Match(True, written, f"The last number in the output, {written}, equals the reference {ref}.")
    return Match(False, written, f"The last number in the output is {written}, not {_one_of(reference.texts)}.")


Scorer = Callable[[str, Reference, Normalise], Match]

TEXT_SCORERS: Mapping[str, Scorer] = {
    "exact": exact,
    "contains": contains,
    "regex": regex,
    "numeric": numeric,
}
"""By name. The fifth scorer of custom sets, `choice`, ranks options and compares no text."""


def judge(text: str, scorer: str, reference: Reference, normalise: Normalise, extract: str | None = None) -> Match:
    """Score a text; with `extract` (a pattern) only its first match, or first group, is looked at."""
    if extract is not None:
        found = first_match(re.compile(extract), text)
        if found is None:
            return Match(False, None, f"The pattern {_quoted(extract)} finds no answer in the output.")
        text = found
    return TEXT_SCORERS[scorer](text, reference, normalise)
