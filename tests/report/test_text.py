"""Unseen characters become visible; nothing that comes out breaks UTF-8 or a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.report.text import clean, cut, one_line, question_line, visible

pytestmark = pytest.mark.unit


def test_signs() -> None:
    assert visible("a\x00b\x1b[0m") == "a⟦U+0000⟧b⟦U+001B⟧[0m"
    assert visible("a\u202eb") == "a⟦U+202E⟧b"
    assert visible("zero\u200bwidth") == "zero⟦U+200B⟧width"
    assert visible("\udcff") == "⟦U+DCFF⟧"
    assert visible("tab\tline\nzwj\u200d 中文 é 😀") == "tab\tline\nzwj\u200d 中文 é 😀"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_can_be_written_and_is_settled(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown
    assert not any(ord(c) < 32 and c not in "\n\t" for c in shown)


def test_cut_keeps_head_and_tail_and_says_how_much_is_missing() -> None:
    text = "H" * 20_000 + "answer: 42"
    short = cut(text)
    assert short.startswith("HHH")
    assert short.endswith("answer: 42")
    assert "4,010 characters left out" in short
    assert cut("short") == "short"


def test_question_line_is_the_last_block() -> None:
    prompt = "Q: one?\nA: 1\n\nQ: what\nis two?\nA:"
    assert question_line(prompt) == "Q: what is two? A:"
    assert len(one_line("word " * 500, 80)) <= 80


def test_clean_reaches_keys_and_nested_values() -> None:
    assert clean({"a\x00": ["\u202e", {"b": ("\x07", 3, None)}]}) == {
        "a⟦U+0000⟧": ["⟦U+202E⟧", {"b": ["⟦U+0007⟧", 3, None]}]
    }
