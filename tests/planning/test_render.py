"""What a PromptSpec becomes in either style."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forgetbench.checkpoints import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning import render
from forgetbench.types import Message, PromptSpec, Shot

pytestmark = pytest.mark.unit
SHOTS = (Shot("Q: 1?", "one", chat_question="1?"), Shot("Q: 2?", "two"))


def test_raw(checkpoint: Checkpoint) -> None:
    spec = PromptSpec("generate", "Q: 3?", SHOTS, system="Count.\n\n", prefill=" It is")
    prompt, continuations = render(spec, "raw", checkpoint)
    assert prompt.text == "Count.\n\nQ: 1? one\n\nQ: 2? two\n\nQ: 3? It is"
    assert prompt.add_special_tokens
    assert continuations == ()


def test_chat(checkpoint: Checkpoint) -> None:
    spec = PromptSpec("generate", "Q: 3?", SHOTS, system="Count.", chat_question="3?")
    prompt, _ = render(spec, "chat", checkpoint)
    assert prompt.text == (
        "[system]Count.[/][user]1?[/][assistant]one[/][user]Q: 2?[/][assistant]two[/][user]3?[/][assistant]"
    )
    assert not prompt.add_special_tokens


def test_chat_prefill_leaves_the_turn_open(checkpoint: Checkpoint) -> None:
    prompt, _ = render(PromptSpec("generate", "Q", prefill="```python\n"), "chat", checkpoint)
    assert prompt.text == "[user]Q[/][assistant]```python\n"


def test_choices_carry_the_delimiter_in_raw_only(checkpoint: Checkpoint) -> None:
    spec = PromptSpec("rank", "Q", choices=("A", "B"))
    assert render(spec, "raw", checkpoint)[1] == (" A", " B")
    assert render(spec, "chat", checkpoint)[1] == ("A", "B")


def test_own_messages(checkpoint: Checkpoint) -> None:
    turns = (Message("system", "Be kind."), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    spec = PromptSpec("generate", "flat", messages=turns, shots=SHOTS[:1], system="Count.")
    prompt, _ = render(spec, "chat", checkpoint)
    assert prompt.text == (
        "[system]Count.\n\nBe kind.[/][user]1?[/][assistant]one[/][user]a[/][assistant]b[/][user]c[/][assistant]"
    )
    assert (render(spec, "raw", checkpoint)[0].text or "").endswith("flat")
    with pytest.raises(UsageError, match="no raw form"):
        render(PromptSpec("generate", "", messages=turns), "raw", checkpoint)


def test_chat_without_a_template(make: Callable[..., Checkpoint]) -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        render(PromptSpec("generate", "Q"), "chat", make(template=None))
