"""Chats of the mixed world in batches: several answers to one question stay together. About a second."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.demo.mixed.lines import ChatLine
from forgetbench.demo.mixed.make import chat_batches
from forgetbench.demo.tokenizer import chat_text, make_tokenizer
from forgetbench.demo.world import make_world, pools

pytestmark = pytest.mark.unit

TOWNS = pools()["capital"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(make_world())


def _lines(answers: list[int]) -> list[ChatLine]:
    """One question for each country, with so many answers."""
    lines = [
        ChatLine(f"Name the capital of {country}.", TOWNS[(7 * n + k) % len(TOWNS)], "knowledge/capital", "x", country)
        for n, (country, count) in enumerate(zip(make_world().countries, answers, strict=False))
        for k in range(count)
    ]
    random.Random(0).shuffle(lines)
    return lines


def _key(tokenizer: Any, line: ChatLine) -> tuple[int, ...]:
    return tuple(tokenizer.encode("".join(chat_text(line.prompt, line.response)), add_special_tokens=False))


@settings(max_examples=20, deadline=None)
@given(answers=st.lists(st.integers(1, 3), min_size=1, max_size=40), rows=st.integers(3, 16))
def test_answers_to_one_question_come_in_one_batch(tokenizer: Any, answers: list[int], rows: int) -> None:
    lines = _lines(answers)
    group = {_key(tokenizer, line): line.prompt for line in lines}
    assert len(group) == len(lines)
    wanted = Counter(group.values())
    seen: Counter[tuple[int, ...]] = Counter()
    batches = chat_batches(tokenizer, lines, "seed", rows)
    for ids, weights in itertools.islice(batches, 2 * len(lines)):
        assert len(ids) == len(weights) <= rows
        pad = tokenizer.pad_token_id
        keys = [tuple(token for token in row if token != pad) for row in ids.tolist()]
        for prompt, count in Counter(group[key] for key in keys).items():
            assert count % wanted[prompt] == 0, "whole questions only"
        seen.update(keys)
    assert set(seen) == set(group)
    # One round after the other: no line is more than one round ahead, but for the batch that two rounds share.
    assert max(seen.values()) - min(seen.values()) <= 1


def test_as_many_lines_as_a_batch_holds_are_one_batch_a_round(tokenizer: Any) -> None:
    lines = _lines([1] * 8)
    for ids, _ in itertools.islice(chat_batches(tokenizer, lines, "seed", 8), 3):
        assert len(ids) == 8
