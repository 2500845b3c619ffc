"""BOS and the end of answers, on templates that are right and on those that are known to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgetbench.training.chat import template_of
from forgetbench.training.preflight.ends import begin, end, end_of_turn
from tests.training import tiny
from tests.training.preflight.made import chats, gathered

pytestmark = pytest.mark.unit
BLOCK = (
    "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}<|assistant|>"
    "{%- generation -%}{{ m['content'] }}INSIDE{%- endgeneration -%}BEHIND"
    "{%- else -%}<|user|>{{ m['content'] }}<|end|>{%- endif -%}{%- endfor -%}"
)


@pytest.mark.parametrize(
    "template", [tiny.CHAT_TEMPLATE, tiny.CHATML, BLOCK.replace("INSIDE", "<|end|>\n").replace("BEHIND", "")]
)
def test_templates_that_close_and_learn_the_end_pass(tmp_path: Path, template: str) -> None:
    found = end(gathered(tmp_path, [*chats(), {"text": "plain"}], template=template))
    assert (found.state, found.figures["answers"], found.figures["without_end"]) == ("pass", 9, 0)
    assert "<|end|>" in found.evidence


def test_a_block_that_leaves_the_end_out_fails_with_file_and_line(tmp_path: Path) -> None:
    template = BLOCK.replace("INSIDE", "").replace("BEHIND", "<|end|>")
    found = end(gathered(tmp_path, template=template))
    assert (found.state, found.figures["without_end"]) == ("fail", 8)
    assert found.lines[0] == f"{tmp_path / 'data.jsonl'}:1"
    assert "generation block" in found.cure


def test_a_template_without_any_end_fails(tmp_path: Path) -> None:
    template = BLOCK.replace("INSIDE", "").replace("BEHIND", "\n")
    found = end(gathered(tmp_path, template=template))
    assert found.state == "fail"
    assert "no special token behind an answer" in found.evidence


def test_the_end_is_that_of_the_template_and_not_of_the_tokenizer() -> None:
    template = BLOCK.replace("INSIDE", "<|system|>").replace("BEHIND", "<|end|>")
    tokenizer = tiny.tokenizer(template)
    read = template_of(tokenizer)
    assert read is not None
    assert end_of_turn(read, tokenizer) == tokenizer.convert_tokens_to_ids("<|system|>")
    broken = template_of(tiny.tokenizer("{% for %}"))
    assert broken is not None
    assert end_of_turn(broken, tokenizer) is None


def test_an_end_that_generation_does_not_stop_at_warns(tmp_path: Path) -> None:
    template = BLOCK.replace("INSIDE", "<|system|>").replace("BEHIND", "")
    found = end(gathered(tmp_path, template=template))
    assert found.state == "warn"
    assert "generation does not stop at <|system|>" in found.evidence
    assert "3" in found.cure


def test_an_end_of_weight_0_fails(tmp_path: Path) -> None:
    found = end(gathered(tmp_path, loss={"token_weights": {"<|end|>": 0.0}}))
    assert (found.state, found.figures["end_not_learnt"]) == ("fail", 8)
    assert "token_weights" in found.cure


def test_of_texts_that_were_cut_only_the_last_piece_has_an_end(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, [{"text": "x" * 250}, {"text": "y"}])
    assert len(inputs.target.samples) == 4
    found = end(inputs)
    assert (found.state, found.figures["answers"]) == ("pass", 2)


def test_bos_once_and_alike_passes(tmp_path: Path) -> None:
    assert begin(gathered(tmp_path)).evidence.startswith("the tokenizer has none")
    found = begin(gathered(tmp_path, bos="<|endoftext|>"))
    assert (found.state, found.figures["chats_with"], found.figures["tokenizer_adds"]) == ("pass", 0, False)


def test_bos_twice_fails(tmp_path: Path) -> None:
    template = "{{ bos_token }}{{ bos_token }}" + tiny.CHAT_TEMPLATE
    found = begin(gathered(tmp_path, bos="<|endoftext|>", template=template))
    assert found.state == "fail"
    assert found.lines[0] == f"{tmp_path / 'data.jsonl'}:1"
    once = begin(gathered(tmp_path, bos="<|endoftext|>", template="{{ bos_token }}" + tiny.CHAT_TEMPLATE))
    assert (once.state, once.figures["chats_with"]) == ("pass", 8)


def test_chats_that_lack_what_the_tokenizer_writes_before_texts_warn(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    inputs = gathered(tmp_path, bos="<|endoftext|>")
    adding = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    inputs.tokenizer.backend_tokenizer.post_processor = adding
    found = begin(inputs)
    assert (found.state, found.figures["tokenizer_adds"]) == ("warn", True)
    assert "bos_token" in found.cure
