"""The loss mask held against the files' own answers, and shown as spans."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.training.preflight.mask import loss_mask, shown, spans
from tests.training import tiny
from tests.training.preflight.made import chats, gathered

pytestmark = pytest.mark.unit
ALL = (
    "{%- generation -%}{%- for m in messages -%}<|{{ m['role'] }}|> {{ m['content'] }}<|end|>{%- endfor -%}"
    "{%- endgeneration -%}"
)
PROMPT_ONLY = (
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{%- generation -%}{{ m['content'] }}{%- endgeneration -%}"
    "{%- else -%}{{ m['content'] }}{%- endif -%}<|end|>{%- endfor -%}"
)


def test_a_right_mask_passes_and_its_share_is_counted(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, [*chats(), {"text": "plain"}])
    found = loss_mask(inputs)
    learnt = sum(len(tiny.tokenizer()(f" yes {i}<|end|>")["input_ids"]) for i in range(8)) + len("lain") + 1
    assert (found.state, found.figures["learnt"], found.figures["chats_looked_at"]) == ("pass", learnt, 8)


@pytest.mark.parametrize(
    ("template", "told"), [(ALL, "its prompt is learnt too"), (PROMPT_ONLY, "an answer is not learnt")]
)
def test_a_wrong_generation_block_is_seen(tmp_path: Path, template: str, told: str) -> None:
    found = loss_mask(gathered(tmp_path, template=template))
    assert found.state == "warn"
    assert found.lines[0].startswith(f"{tmp_path / 'data.jsonl'}:1: {told}")


def test_turns_last_wants_the_last_answer_alone(tmp_path: Path) -> None:
    two = {"messages": [*chats(1)[0]["messages"], *chats(1, answer="no")[0]["messages"]]}
    inputs = gathered(tmp_path, [two], loss={"turns": "last"})
    assert loss_mask(inputs).state == "pass"
    (sample,) = shown(inputs)
    assert [s.text for s in sample.spans if s.weight] == [" no 0<|end|>"]


def test_three_samples_are_shown_one_of_each_task_type_first(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, [*chats(20), {"text": "abc", "task_type": "c"}, {"text": "abd", "task_type": "d"}])
    assert [s.task_type for s in shown(inputs)] == ["a/even", "a/odd", "c"]
    assert [s.where.rsplit(":", 1)[1] for s in shown(gathered(tmp_path, [{"text": "a", "weight": 2}] * 9))] == [
        "1",
        "5",
        "9",
    ]


def test_weights_are_those_of_the_loss(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, loss={"token_weights": {"<|end|>": 2.5}, "task_weights": {"a/even": 0.5}})
    first, second = shown(inputs)[:2]
    assert [(s.text, s.weight) for s in first.spans] == [
        ("<|user|> question 0?<|end|><|assistant|>", 0.0), (" yes 0", 0.5), ("<|end|>", 1.25),
    ]  # fmt: skip
    assert [s.weight for s in second.spans] == [0.0, 1.0, 2.5]


@given(st.text(max_size=20), st.data())
@settings(max_examples=60, deadline=None)
def test_spans_joined_are_the_whole_text(text: str, data: st.DataObject) -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer(f"<|user|>{text}<|end|>")["input_ids"]
    weights = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=len(ids), max_size=len(ids)))
    made = spans(tokenizer, ids, weights)
    assert sum(s.tokens for s in made) == len(ids)
    assert all(a.weight != b.weight for a, b in pairwise(made))
    whole = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    # A cut through the bytes of one character shows a sign in its place; characters of one byte stay whole.
    if text.isascii():
        assert "".join(s.text for s in made) == whole
