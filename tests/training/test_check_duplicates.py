"""Planted copies, near copies and conflicts; recall and precision against all pairs compared directly."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.training.check.duplicates import (
    NEAR,
    conflicts,
    duplicates,
    exact_duplicates,
    near_duplicates,
    semantic_duplicates,
    shingles,
)
from tests.training.made import row, rows

pytestmark = pytest.mark.unit
WORDS = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]


def _text(rng: random.Random, length: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length))


def _swapped(rng: random.Random, text: str, share: float) -> str:
    split = text.split()
    for i in rng.sample(range(len(split)), round(share * len(split))):
        split[i] = rng.choice(WORDS)
    return " ".join(split)


def _jaccard(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


def test_exact_ignores_case_width_and_blanks_and_nothing_else() -> None:
    found = exact_duplicates(rows([("One  two", "Ja"), ("one two", "ja"), ("one two", "ja!"), ("ｏｎｅ two", "JA")]))
    assert [(i, j) for i, j, _ in found] == [(1, 0), (3, 0)]


def test_turns_are_not_run_together() -> None:
    assert exact_duplicates(rows([("a b", "c"), ("a", "b c")])) == []


@pytest.mark.parametrize("share", [0.0, 0.02, 0.04, 0.06, 0.08, 0.12])
def test_recall_and_precision_on_planted_near_copies(share: float) -> None:
    """The truth is the exact Jaccard similarity of each planted text with its source."""
    rng = random.Random(f"planted {share}")
    sources = [_text(rng, 60) for _ in range(150)]
    planted = [_swapped(rng, text, share) for text in sources]
    true = {150 + i for i in range(150) if _jaccard(sources[i], planted[i]) >= NEAR}
    found = {i: j for i, j, _ in near_duplicates(sources + planted)}
    assert (share > 0.1) == (not true), "the case is not what it is meant to be"
    assert len(true - set(found)) <= 0.02 * len(true)  # recall 98 %
    assert set(found) <= true  # precision 1: no text of random words is like another source
    assert all(j == i - 150 for i, j in found.items())


def test_a_text_copied_many_times_is_one_group() -> None:
    rng = random.Random(1)
    text = _text(rng, 50)
    found = near_duplicates([text] * 40)
    assert [(i, j) for i, j, _ in found] == [(i, 0) for i in range(1, 40)]


def test_short_templates_are_no_near_copies() -> None:
    assert near_duplicates([f"What is {n} plus 1?" for n in range(50)]) == []


def test_chinese_is_compared_by_characters() -> None:
    text = "请解释为什么天空在晴朗的日子里看起来是蓝色的，并给出一个简单的例子。"
    assert [
        i for i, _, _ in near_duplicates([text, "今天我们去学校学习数学和语文还有很多别的课程内容", text + "谢谢"])
    ] == [2]


def test_meaning_takes_any_embedder_and_agrees_with_a_direct_loop() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 8))
    vectors = np.vstack([base, base[:10] + 0.01 * rng.normal(size=(10, 8))])
    found = semantic_duplicates([str(i) for i in range(50)], lambda texts: vectors, block=7)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kept: list[int] = []
    expected = []
    for i in range(50):
        like = [j for j in kept if unit[i] @ unit[j] >= 0.95]
        if like:
            expected.append((i, max(like, key=lambda j, i=i: unit[i] @ unit[j])))
        else:
            kept.append(i)
    assert [(i, j) for i, j, _ in found] == expected
    assert len(expected) == 10
    with pytest.raises(ValueError, match="shape"):
        semantic_duplicates(["a", "b"], lambda texts: np.ones((1, 3)))


def test_conflicting_answers_name_their_lines() -> None:
    found = conflicts(rows([("Capital of X?", "A"), ("capital of x?", "B"), ("Capital of Y?", "A")]))
    assert (found.state, found.count, found.total) == ("warn", 1, 2)
    assert found.evidence[0].where == "made.jsonl:1 and made.jsonl:2"


def test_states_and_evidence() -> None:
    rng = random.Random(2)
    good = rows([(_text(rng, 30), _text(rng, 5)) for _ in range(20)])
    assert [f.state for f in duplicates(good)] == ["pass", "pass", "pass"]
    one = duplicates([*good, row(good[4].prompt, good[4].answer or "", line=99)])
    assert (one[0].state, one[0].count) == ("warn", 1)
    assert one[0].evidence[0].where == "made.jsonl:99"
    assert "made.jsonl:5" in one[0].evidence[0].text
    assert one[1].count == 0, "an exact copy is not counted again as a near one"
    assert duplicates(good + good)[0].state == "fail"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet="ab c", min_size=0, max_size=60), max_size=12))
def test_no_text_is_its_own_copy_and_sources_are_kept(texts: list[str]) -> None:
    found = near_duplicates(texts)
    copies = {i for i, _, _ in found}
    assert all(j < i and j not in copies and s >= NEAR for i, j, s in found)
