from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.analysis.equivalence import SAME_ANSWER, by_comparison, by_key, normalised
from forgetbench.analysis.outputs import Output

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("1,000", "1000"),
        ("  42 ", "42."),
        ("New  York!", "new york"),
        ("**42**.", "42"),
        ("The A", "a"),
    ],
)
def test_the_same_answer(one: str, other: str) -> None:
    assert SAME_ANSWER([Output("", (), extracted=one), Output("", (), extracted=other)]) == [0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("-1", "1"), ("1.5", "15"), ("1/5", "15"), ("yes", "no"), ("A", ""), ("a", "an")),
        *(("return a + b", "return a * b"), ("x<y", "x>y"), ("C++", "C"), ("x^2", "x2"), ("2**3", "23"), ("A*", "A")),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert SAME_ANSWER([Output("", (), extracted=one), Output("", (), extracted=other)]) == [0, 1]


def test_programs_are_compared_as_they_stand() -> None:
    programs = ["return f(a)", "return fa", "return f(A)", "    return f(a)", "return f(a)  \n"]
    assert SAME_ANSWER([Output("", (), extracted=p, verbatim=True) for p in programs]) == [0, 1, 2, 3, 0]


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
