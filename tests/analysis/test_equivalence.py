from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.analysis.equivalence import SAME_ANSWER, by_comparison, by_key, normalised
from forgetbench.analysis.outputs import Output

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("one", "other"),
    [("The Eiffel Tower.", "eiffel tower"), ("1,000", "1000"), ("  42 ", "42."), ("New  York!", "new york")],
)
def test_the_same_answer(one: str, other: str) -> None:
    assert SAME_ANSWER([Output("", (), extracted=one), Output("", (), extracted=other)]) == [0, 0]


@pytest.mark.parametrize(("one", "other"), [("-1", "1"), ("1.5", "15"), ("1/5", "15"), ("yes", "no")])
def test_not_the_same(one: str, other: str) -> None:
    assert SAME_ANSWER([Output("", (), extracted=one), Output("", (), extracted=other)]) == [0, 1]


def test_the_text_stands_in_for_a_missing_answer() -> None:
    assert normalised(Output("Paris", ())) == "paris"
    assert normalised(Output("Paris", (), extracted="")) == ""


@given(st.lists(st.sampled_from("abcde"), max_size=12))
def test_keys_and_comparisons_agree(texts: list[str]) -> None:
    outputs = [Output(t, ()) for t in texts]
    found = by_key(lambda o: o.text)(outputs)
    assert found == by_comparison(lambda a, b: a.text == b.text)(outputs)
    assert len(set(found)) == len(set(texts))
    assert list(dict.fromkeys(found)) == list(range(len(set(texts))))
