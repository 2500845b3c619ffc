from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.belief.agreement import alias_match, begins_with, first_sentence, normal
from forgetbench.types import Item, ItemKey

pytestmark = pytest.mark.unit

TEXT = st.text(alphabet="ab 5.,!not東京-", max_size=12)


def item(*references: str, scorer: str = "exact") -> Item:
    doc = {"references": list(references), "scorer": scorer}
    return Item(ItemKey("t", "h"), "knowledge/x", doc, " | ".join(references), "g")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Tokyo", " tokyo. ", True),
        ("the Beatles", "Beatles", True),
        ("Ｔokyo", "Tokyo", True),
        ("Tokyo", "The capital is Tokyo.", True),
        ("Tokyo", "It is not Tokyo but Kyoto.", False),
        ("Tokyo", "Tokyoites", False),
        ("東京", "日本の首都は東京です", True),
        ("Tokyo", "Kyoto", False),
        ("1,000", "1000.0", True),
        ("5", "5 apples", False),
        ("5", "15", False),
        ("art", "part", False),
    ],
)
def test_answers_that_say_the_same(a: str, b: str, same: bool) -> None:
    assert alias_match(a, b, item()) is same
    assert alias_match(b, a, item()) is same


def test_two_wordings_of_the_gold_agree_and_patterns_are_no_wordings() -> None:
    assert alias_match("USA", "United States", item("USA", "United States"))
    assert alias_match("in the USA", "United States", item("USA", "United States"))
    assert not alias_match("USA", "France", item("USA", "United States"))
    assert not alias_match("USA", "United States", item("USA", "United States", scorer="regex"))


@given(TEXT, TEXT, st.lists(TEXT.filter(str.strip), max_size=2))
def test_agreement_is_symmetric_and_reflexive(a: str, b: str, references: list[str]) -> None:
    asked = item(*references)
    assert alias_match(a, b, asked) == alias_match(b, a, asked)
    assert alias_match(a, a, asked)
    assert alias_match(a.upper(), a, asked)


@given(TEXT)
def test_normal_form_is_a_fixed_point(text: str) -> None:
    assert normal(normal(text)) == normal(text)


def test_what_opens_a_continuation() -> None:
    assert begins_with(" Tokyo, a city of", "tokyo")
    assert not begins_with("Tokyoite", "Tokyo")
    assert not begins_with("a city called Kyoto, not Tokyo", "Tokyo")
    assert first_sentence("Tokyo. It is large.") == "Tokyo."
    assert first_sentence("Tokyo\nQ: next") == "Tokyo"
    assert first_sentence("東京。大きい") == "東京。"
