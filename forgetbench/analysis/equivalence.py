"""When two answers are the same: equivalence classes among the samples of one item."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Hashable, Sequence

from forgetbench.analysis.outputs import Output

Equivalence = Callable[[Sequence[Output]], list[int]]
"""Class of each output, numbered from 0 in the order of first appearance."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation.replace("-", "").replace(".", "").replace("/", ""))


def normalised(output: Output) -> str:
    """The extracted answer (the whole text where none was) in lower case, without punctuation, articles and blanks.

    Minus, point and slash stay inside an answer: -1.5 is neither 15 nor 1/5. `1,000` and `1000` are the same.
    """
    answer = output.text if output.extracted is None else output.extracted
    words = _ARTICLES.sub(" ", answer.lower().translate(_MARKS)).split()
    return " ".join(words).rstrip(". ")


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
