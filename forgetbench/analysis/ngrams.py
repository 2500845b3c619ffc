"""n-grams of token sequences as integer codes, and what is counted on them.

Equal codes are equal n-grams. The codes of n + 1 come from those of n and one more token, so that no tuple is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

LONGEST = 5
"""EAD is the mean over n = 1..5 (Kirk et al. 2023)."""


class Grams(NamedTuple):
    """All n-grams of some texts, in order; arrays (c,)."""

    n: int
    codes: Integers
    text: Integers
    """Which text an n-gram stands in."""


def ngrams(texts: Sequence[Sequence[int]], longest: int = LONGEST) -> Iterator[Grams]:
    """The n-grams of n = 1..longest, `texts` being token ids. None reaches over a text's end."""
    lengths = [len(t) for t in texts]
    flat = np.fromiter((i for t in texts for i in t), dtype=np.int64, count=sum(lengths))
    text = np.repeat(np.arange(len(texts)), lengths)
    kinds, tokens = np.unique(flat, return_inverse=True)
    codes, starts = tokens.astype(np.int64), np.arange(flat.size)
    yield Grams(1, codes, text)
    for n in range(2, longest + 1):
        inside = starts + n - 1 < flat.size
        inside[inside] = text[starts[inside]] == text[starts[inside] + n - 1]
        codes, starts = codes[inside], starts[inside]
        _, codes = np.unique(codes * max(kinds.size, 1) + tokens[starts + n - 1], return_inverse=True)
        yield Grams(n, codes, text[starts])


def expectation_adjusted(distinct: Floats, total: Floats, vocabulary: int) -> Floats:
    """EAD = N / (V (1 - ((V - 1) / V)^C)) of N distinct among C n-grams; nan where C = 0. Arrays of one shape.

    Source: Liu et al. (2022), "Rethinking and Refining the Distinct Metric" (arXiv 2202.13587), section 3. V (1 -
    ((V-1)/V)^C) is how many distinct ones C uniform draws from V would show. V is the tokenizer's size for every n,
    as in Kirk et al.; so it can pass 1 for n > 1 where C is not small against V.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = vocabulary * -np.expm1(total * np.log1p(-1.0 / vocabulary))
        found: Floats = np.where(total > 0, distinct / expected, np.nan)
    return found


def mean_over_n(values: Sequence[Floats]) -> Floats:
    """Mean over n of what (groups,) have an n-gram of that length at all; 0 where there is not one token."""
    table = np.stack(values)
    known = ~np.isnan(table)
    count = known.sum(axis=0)
    found: Floats = np.where(known, table, 0.0).sum(axis=0) / np.maximum(count, 1)
    return found


def ead_by_group(texts: Sequence[Sequence[int]], groups: Integers, vocabulary: int) -> Floats:
    """EAD of each group of texts taken together, mean over n = 1..5; `groups` (texts,) codes 0..G-1; (G,)."""
    size = int(groups.max()) + 1
    found = []
    for grams in ngrams(texts):
        group = groups[grams.text]
        held = _pairs(grams.codes, group, size)[1]
        distinct = np.bincount(held, minlength=size).astype(np.float64)
        found.append(expectation_adjusted(distinct, np.bincount(group, minlength=size).astype(np.float64), vocabulary))
    return mean_over_n(found)


class WithAndWithout(NamedTuple):
    """A statistic of all texts, and without each group of them."""

    value: float
    without: Floats
    """(G,)"""


def ead_of_all(texts: Sequence[Sequence[int]], groups: Integers, vocabulary: int) -> WithAndWithout:
    """EAD of all texts together, mean over n = 1..5, and the same without each group.

    Without g there are fewer distinct n-grams by those that stand in g alone.
    """
    size = int(groups.max()) + 1
    whole, without = [], []
    for grams in ngrams(texts):
        group = groups[grams.text]
        code, held = _pairs(grams.codes, group, size)
        spread = np.bincount(code)
        alone = np.bincount(held[spread[code] == 1], minlength=size)
        distinct, total = float(np.count_nonzero(spread)), float(grams.codes.size)
        whole.append(expectation_adjusted(np.array([distinct]), np.array([total]), vocabulary))
        rest = total - np.bincount(group, minlength=size).astype(np.float64)
        without.append(expectation_adjusted(distinct - alone.astype(np.float64), rest, vocabulary))
    return WithAndWithout(float(mean_over_n(whole)[0]), mean_over_n(without))


def self_repetition(texts: Sequence[Sequence[int]], groups: Integers, n: int = 4) -> WithAndWithout:
    """Mean over texts of log(1 + sum over a text's distinct n-grams of how many *other* texts hold it), nats.

    Source: Salkar et al. (2022), "Self-Repetition in Abstractive Neural Summarizers"; Shaib et al. (2024, arXiv
    2403.00553), section 2, on tokens in place of words. Grows with the number and the length of the texts.
    """
    from scipy.sparse import csr_array

    size = int(groups.max()) + 1
    *_, grams = ngrams(texts, n)
    code, text = _pairs(grams.codes, grams.text, len(texts))
    kinds = int(code.max()) + 1 if code.size else 1
    ones = np.ones(code.size)
    holds = csr_array((ones, (text, code)), shape=(len(texts), kinds))
    by_group = csr_array((ones, (code, groups[text])), shape=(kinds, size))
    shared = np.asarray((holds @ by_group).todense(), dtype=np.float64)
    others = shared.sum(axis=1) - np.bincount(text, minlength=len(texts))
    stays = groups[:, None] != np.arange(size)
    # A text that stays loses what it shares with the group that goes; itself it is not in that group.
    logs = np.where(stays, np.log1p(others[:, None] - np.where(stays, shared, 0.0)), 0.0)
    left = stays.sum(axis=0)
    return WithAndWithout(float(np.log1p(others).mean()), logs.sum(axis=0) / np.maximum(left, 1))


def _pairs(codes: Integers, groups: Integers, size: int) -> tuple[Integers, Integers]:
    """The distinct pairs of an n-gram and a group that holds it."""
    pairs = np.unique(codes * size + groups)
    return pairs // size, pairs % size
