"""The formula of a weighted score: `0.5 * gsm8k + 0.3 * ifeval:inst_strict + 0.2 * safety/harmless`.

Computed here and never by a judge (notes on metrics, section 6). Each term is a weight and a task or task_type, with
`:metric` where it is not the one that the task is decided on. Weights are positive and add up to 1, so that the score
and its margin are in the points of its terms.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_TERM = re.compile(r"(?P<weight>\d+(?:\.\d+)?|\.\d+)\s*\*\s*(?P<subject>[^\s:+]+)(?::(?P<metric>[^\s:]+))?")
_TOLERANCE = 1e-6


class Term(NamedTuple):
    weight: float
    subject: str
    metric: str | None


def parse(formula: str) -> tuple[Term, ...]:
    """The terms in their order. Raises ValueError saying what is wrong with which term."""
    if len(formula) > 2_000:
        raise ValueError("a formula has up to 2,000 characters")
    terms = tuple(_term(text) for text in re.split(r"\s*\+\s*", formula.strip()))
    doubled = sorted({t.subject for t in terms if [(x.subject, x.metric) for x in terms].count(t[1:]) > 1})
    if doubled:
        raise ValueError(f"'{doubled[0]}' stands twice in the formula; add its weights up")
    total = math.fsum(t.weight for t in terms)
    if abs(total - 1.0) > _TOLERANCE:
        raise ValueError(f"the weights of a formula add up to 1, these to {total:g}")
    return terms


def _term(text: str) -> Term:
    found = _TERM.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text[:60]}' is no term such as 0.5 * gsm8k or 0.5 * ifeval:inst_strict")
    weight = float(found["weight"])
    if weight <= 0.0:
        raise ValueError(f"the weight of '{found['subject']}' is 0; leave it out")
    return Term(weight, found["subject"], found["metric"])
