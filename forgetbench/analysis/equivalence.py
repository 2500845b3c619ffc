"""When two answers are the same: equivalence classes among the samples of one item."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Hashable, Sequence

from forgetbench.analysis.outputs import Output

Equivalence = Callable[[Sequence[Output]], list[int]]
"""Class of each output, numbered from 0 in the order of first appearance."""

_ARTICLES = {"a", "an", "the"}
_MEANT = "-./+*^=<>|&~#"
"""Marks that make another answer: x < y is not x > y, C++ not C."""
_MARKS = str.maketrans("", "", "".join(set(string.punctuation) - set(_MEANT)))
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)")
"""Markdown's: its stars are no operators."""


def normalised(output: Output) -> str:
    """The extracted answer (the whole text where none was) in lower case, without punctuation, articles and blanks.

    Operators, point and slash stay inside an answer: -1.5 is neither 15 nor 1/5. `1,000` and `1000` are the same. An
    article that is all there is stays: option A is an answer. Programs are compared as they stand.
    """
    answer = output.text if output.extracted is None else output.extracted
    if output.verbatim:
        return "\n".join(line.rstrip() for line in answer.strip("\r\n").splitlines())
    words = _EMPHASIS.sub(r"\2", answer.lower()).translate(_MARKS).split()
    kept = [word for word in words if word.rstrip(".") not in _ARTICLES] or words[-1:]
    return " ".join(kept).rstrip(". ")


def by_key(key: Callable[[Output], Hashable]) -> Equivalence:
    """Outputs are the same where their keys are equal."""

    def classes(outputs: Sequence[Output]) -> list[int]:
        codes: dict[Hashable, int] = {}
        return [codes.setdefault(key(o), len(codes)) for o in outputs]

    return classes


def by_comparison(same: Callable[[Output, Output], bool]) -> Equivalence:
    """Outputs one by one against the first member of each class so far (a judge, an entailment model).

    At most k (k - 1) / 2 comparisons. NoveltyBench (arXiv 2504.05228) partitions one by one in the same way. Where
    `same` is not transitive the order of the outputs matters.
    """

    def classes(outputs: Sequence[Output]) -> list[int]:
        firsts: list[Output] = []
        found = []
        for o in outputs:
            code = next((c for c, first in enumerate(firsts) if same(first, o)), len(firsts))
            if code == len(firsts):
                firsts.append(o)
            found.append(code)
        return found

    return classes


SAME_ANSWER = by_key(normalised)
