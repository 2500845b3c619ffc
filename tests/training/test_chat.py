"""Which characters the assistant says, for templates with and without a generation block."""

from __future__ import annotations

from typing import Any

import pytest

from forgetbench.errors import UsageError
from forgetbench.training import chat
from tests.training import tiny

pytestmark = pytest.mark.unit
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Yes."},
    {"role": "assistant", "content": "No."},
]
# As Qwen3 does: the thinking of earlier answers is dropped, and the last answer gets an empty one.
REWRITES = (
    "{%- for m in messages -%}<|{{ m.role }}|>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|end|>{% endfor -%}{%- if add_generation_prompt -%}<|assistant|>{% endif -%}"
)


def _said(source: str, which: Any, turns: Any = TURNS) -> list[str]:
    template = chat.template_of(tiny.tokenizer(source))
    assert template is not None
    text, spans = chat.answers(template, turns, which, "f:1")
    return [text[s:e] for s, e in spans]


def test_a_generation_block_says_it() -> None:
    assert _said(tiny.CHAT_TEMPLATE, "all") == [" Yes.<|end|>", " No.<|end|>"]
    assert _said(tiny.CHAT_TEMPLATE, "last") == [" No.<|end|>"]


def test_without_a_block_it_is_found_by_rendering_and_ends_with_its_closing_token() -> None:
    assert _said(tiny.CHATML, "all") == ["Yes.<|end|>", "No.<|end|>"]
    assert _said(tiny.CHATML, "last") == ["No.<|end|>"]


def test_a_template_that_rewrites_earlier_turns_is_refused_but_its_last_answer_can_be_learnt() -> None:
    with pytest.raises(UsageError, match=r"^f:1: the chat template renders turn 3 otherwise.*; put a"):
        _said(REWRITES, "all")
    assert _said(REWRITES, "last") == ["<think></think>No.<|end|>"]


@pytest.mark.parametrize("source", [tiny.CHAT_TEMPLATE, tiny.CHATML])
def test_a_chat_without_an_answer_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="f:1: has no assistant turn"):
        _said(source, "all", TURNS[:2])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}{{ m.content }}", "fails on roles"),
        ("{{ raise_exception('only one turn') }}", "only one turn"),
        ("{{ messages[9].content.x }}", "fails on roles"),
        ("{% for m in messages %}{% generation %}{% endgeneration %}{{ m.content }}{% endfor %}", "marks nothing"),
        ("{{ messages[0].content }}", "renders nothing for turn 3"),
    ],
)
def test_broken_templates_are_one_line(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        _said(source, "all")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("f:1: ")


def test_a_block_that_marks_more_than_the_answers_cannot_give_the_last() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    with pytest.raises(UsageError, match="marks 5 answers in 2 assistant turns"):
        _said(source, "last")


def test_dates_do_not_move() -> None:
    source = (
        "{{ strftime_now('%Y') }}{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    template = chat.template_of(tiny.tokenizer(source))
    assert template is not None
    assert chat.render(template, TURNS, "f:1")[0].startswith("2024")


def test_a_token_belongs_to_the_answer_where_it_begins_in_it() -> None:
    assert chat.inside([(0, 3), (3, 6), (6, 6), (6, 9)], [(4, 7)]).tolist() == [0, 0, 1, 1]


def test_no_template_is_none() -> None:
    assert chat.template_of(tiny.tokenizer(None)) is None
