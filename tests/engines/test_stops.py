"""Stop strings: where the text is cut, and that halting notices them at the very token that completes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.engines.stops import StopMatcher, cut_at_stop
from tests.engines import tiny

pytestmark = pytest.mark.unit
TOKENIZER: Any = tiny.make_tokenizer(bos=False)
LETTERS = "ab京\n ?<"


@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        ("one two", (), "one two"),
        ("one two", ("",), "one two"),
        ("one two one", ("two", "one"), ""),
        ("a\n\nb", ("\n\n", "\n"), "a"),
        ("xabcx", ("abc", "b"), "xa"),  # b is complete before abc
        ("xabx", ("b", "ab"), "x"),  # both end at once: the longer counts
        ("Q: 1 Question: 2", ("Question:",), "Q: 1 "),
    ],
)
def test_cut(text: str, stops: tuple[str, ...], cut: str) -> None:
    assert cut_at_stop(text, stops) == cut


@given(text=st.text(LETTERS, max_size=30), stops=st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=3))
@settings(max_examples=300, deadline=None)
def test_cut_is_what_reading_character_by_character_gives(text: str, stops: list[str]) -> None:
    for end in range(len(text) + 1):
        ending = [s for s in stops if text[:end].endswith(s)]
        if ending:
            assert cut_at_stop(text, stops) == text[: end - max(len(s) for s in ending)]
            return
    assert cut_at_stop(text, stops) == text


@given(
    ids=st.lists(st.integers(0, len(TOKENIZER) - 1), min_size=1, max_size=25),
    stops=st.lists(st.text("aet 1京<|n\n", min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_halting_equals_decoding_everything_at_every_step(ids: list[int], stops: list[str]) -> None:
    matcher = StopMatcher(TOKENIZER, stops)
    for count in range(1, len(ids) + 1):
        present = any(s in TOKENIZER.decode(ids[:count]) for s in stops)
        assert matcher.hit(ids[:count]) == present
        if present:
            return


def test_a_stop_that_is_a_special_token() -> None:
    ids = TOKENIZER.encode("The fox<|end|>")
    matcher = StopMatcher(TOKENIZER, ("<|end|>",))
    assert not matcher.hit(ids[:-1])
    assert matcher.hit(ids)
    assert matcher.text(ids, hit=True) == "The fox"
