from __future__ import annotations

import math

import nltk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.analysis.ngrams import ead_by_group, ead_of_all, ngrams, self_repetition

pytestmark = pytest.mark.unit

Texts = list[list[int]]
texts = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=2, max_size=8)


def direct_ead(made: Texts, vocabulary: int) -> float:
    values = []
    for n in range(1, 6):
        grams = [g for t in made for g in nltk.ngrams(t, n)]
        if grams:
            expected = vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** len(grams))
            values.append(len(set(grams)) / expected)
    return sum(values) / len(values) if values else 0.0


def direct_repetition(made: Texts, n: int) -> float:
    sets = [set(nltk.ngrams(t, n)) for t in made]
    logs = [math.log(1 + sum(g in o for g in s for j, o in enumerate(sets) if j != i)) for i, s in enumerate(sets)]
    return sum(logs) / len(logs) if logs else 0.0


@settings(max_examples=60, deadline=None)
@given(texts)
def test_codes_are_the_ngrams(made: Texts) -> None:
    for grams in ngrams(made):
        expected = [(g, i) for i, t in enumerate(made) for g in nltk.ngrams(t, grams.n)]
        assert grams.text.tolist() == [i for _, i in expected]
        seen: dict[int, tuple[int, ...]] = {}
        for code, (gram, _) in zip(grams.codes.tolist(), expected, strict=True):
            assert seen.setdefault(code, gram) == gram
        assert len(seen) == len({g for g, _ in expected})


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(7, 50_000), st.integers(1, 3))
def test_ead_against_sets(made: Texts, vocabulary: int, groups: int) -> None:
    labels = np.arange(len(made)) % min(groups, len(made))
    size = labels.max() + 1
    found = ead_of_all(made, labels, vocabulary)
    assert found.value == pytest.approx(direct_ead(made, vocabulary))
    by_group = ead_by_group(made, labels, vocabulary)
    for g in range(size):
        inside = [t for t, k in zip(made, labels, strict=True) if k == g]
        outside = [t for t, k in zip(made, labels, strict=True) if k != g]
        assert by_group[g] == pytest.approx(direct_ead(inside, vocabulary))
        assert found.without[g] == pytest.approx(direct_ead(outside, vocabulary))


@settings(max_examples=60, deadline=None)
@given(texts, st.integers(1, 3), st.integers(1, 4))
def test_self_repetition_against_a_loop(made: Texts, groups: int, n: int) -> None:
    labels = np.arange(len(made)) % min(groups, len(made))
    found = self_repetition(made, labels, n)
    assert found.value == pytest.approx(direct_repetition(made, n))
    for g in range(labels.max() + 1):
        outside = [t for t, k in zip(made, labels, strict=True) if k != g]
        assert found.without[g] == pytest.approx(direct_repetition(outside, n))


@settings(max_examples=40, deadline=None)
@given(texts, st.randoms(use_true_random=False))
def test_order_of_texts_and_names_of_tokens_change_nothing(made: Texts, random: object) -> None:
    names = list(range(100, 107))
    shuffled = [t[:] for t in made]
    random.shuffle(names)  # type: ignore[attr-defined]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    renamed = [[names[i] for i in t] for t in shuffled]
    each = np.arange(len(made))
    assert ead_of_all(renamed, each, 500).value == pytest.approx(ead_of_all(made, each, 500).value)
    assert self_repetition(renamed, each, 2).value == pytest.approx(self_repetition(made, each, 2).value)


def test_uniform_draws_have_an_ead_of_one() -> None:
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 50_000, 200).tolist() for _ in range(20)]
    [unigrams, *_] = ngrams(made)
    expected = 50_000 * -np.expm1(4_000 * np.log1p(-1 / 50_000))
    assert np.unique(unigrams.codes).size / expected == pytest.approx(1.0, abs=0.01)
    assert ead_of_all(made, np.arange(20), 50_000).value == pytest.approx(1.0, abs=0.05)
    one = ead_by_group(made, np.arange(20), 50_000)
    assert ((one > 0.99) & (one < 1.01)).all()


def test_a_single_text_said_again_and_again() -> None:
    made = [[1, 2, 3, 4, 5]] * 10
    assert ead_of_all(made, np.arange(10), 50_000).value < 0.11
    assert self_repetition(made, np.arange(10)).value == pytest.approx(math.log(1 + 2 * 9))
    assert self_repetition([[1, 2], [3]], np.arange(2)).value == 0.0
    assert ead_of_all([[], []], np.arange(2), 100).value == 0.0
