from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.belief.agreement import alias_match
from forgetbench.belief.ask import answer_of, modal_fresh
from forgetbench.belief.classify import belief_class, belief_of, known_class, modal_answer
from forgetbench.belief.types import CLASSES, Answer, Options
from forgetbench.types import Item, ItemKey, Judged

pytestmark = pytest.mark.unit

ITEM = Item(ItemKey("t", "h"), "knowledge/x", {}, "Tokyo", "g")
WORDS = st.lists(st.sampled_from(["Tokyo", "Kyoto", "Osaka", None]), min_size=1, max_size=12)


def said(*texts: str | None) -> list[Answer]:
    return [Answer(text, text == "Tokyo") for text in texts]


@given(WORDS)
def test_the_modal_answer_is_the_most_frequent_one_where_words_do_not_overlap(words: list[str | None]) -> None:
    found, share = modal_answer(said(*words), ITEM, alias_match)
    counts = Counter(w for w in words if w is not None)
    if not counts:
        assert (found, share) == (None, 0.0)
        return
    assert found is not None
    assert found.text is not None
    assert counts[found.text] == max(counts.values())
    assert share == pytest.approx(counts[found.text] / len(words))


@given(WORDS, st.randoms())
def test_the_order_of_answers_changes_no_share(words: list[str | None], rng: object) -> None:
    shuffled = list(words)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert modal_answer(said(*words), ITEM, alias_match)[1] == modal_answer(said(*shuffled), ITEM, alias_match)[1]


def test_wordings_are_counted_together() -> None:
    found, share = modal_answer(said("Kyoto", "Tokyo", "It is Tokyo.", "tokyo"), ITEM, alias_match)
    assert found is not None
    assert found.text == "Tokyo"
    assert share == 0.75


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_is_never_a_weaker_class(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert CLASSES.index(belief_class(high, Options())) <= CLASSES.index(belief_class(low, Options()))


def test_the_edges_of_the_classes() -> None:
    options = Options()
    assert [belief_class(s, options) for s in (1.0, 0.9, 0.89, 0.7, 0.69, 0.4, 0.39, 0.0)] == [
        "firm", "firm", "mostly", "mostly", "weak", "weak", "none", "none",
    ]  # fmt: skip


def test_a_firm_belief_may_be_false() -> None:
    belief = belief_of(said("Kyoto", "Kyoto"), said(*["Kyoto"] * 9, "Tokyo"), ITEM, alias_match, Options())
    assert (belief.held, belief.known, belief.n) == ("firm", "WeaklyKnown", 12)
    assert belief.answer is not None
    assert not belief.answer.correct


def test_slick_classes() -> None:
    assert known_class(said("Tokyo", "Tokyo"), said("Kyoto")) == "HighlyKnown"
    assert known_class(said("Tokyo", "Kyoto"), said("Kyoto")) == "MaybeKnown"
    assert known_class(said("Kyoto"), said("Tokyo", "Kyoto")) == "WeaklyKnown"
    assert known_class(said("Kyoto"), said("Kyoto")) == "Unknown"


def test_no_answers_are_no_belief() -> None:
    assert belief_of(said(None, None), [], ITEM, alias_match, Options()).held == "none"
    with pytest.raises(ValueError, match="at least one"):
        belief_of([], [], ITEM, alias_match, Options())


def test_a_side_that_mostly_gives_no_answer_is_silent() -> None:
    assert modal_fresh(said("Tokyo", None, None), ITEM, alias_match) is None
    found = modal_fresh(said("Tokyo", "Tokyo", None), ITEM, alias_match)
    assert found is not None
    assert found.text == "Tokyo"


def judged(outcome: str, extracted: str | None, score: float = 0.0, output: str = "") -> Judged:
    return Judged({"correct": score}, outcome, output, extracted, "")  # type: ignore[arg-type]


def test_what_counts_as_an_answer() -> None:
    assert answer_of(judged("refused", "I cannot"), "correct").text is None
    assert answer_of(judged("truncated", "Let me think"), "correct").text is None
    assert answer_of(judged("truncated", "Tokyo", 1.0), "correct").text == "Tokyo"
    assert answer_of(judged("unparsed", None), "correct").text is None
    written = answer_of(judged("ok", "tokyo", output="  Tokyo."), "correct")
    assert written == Answer("tokyo", False, "Tokyo.", "  ")
    assert answer_of(judged("ok", "7", output=" 3 + 4 is 7"), "correct").surface == "7"
