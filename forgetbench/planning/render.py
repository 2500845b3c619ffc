"""From what a task asks (PromptSpec) to what an engine gets (Prompt), for one checkpoint and style."""

from __future__ import annotations

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.types import Message, Prompt, PromptSpec, Style


def render(spec: PromptSpec, style: Style, checkpoint: Checkpoint) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt and, in rank form, its continuations (else an empty tuple).

    Raw text may get the tokenizer's BOS; text that a chat template rendered never does, since the template
    writes its own. Raises UsageError when the style cannot be had (no template, or messages only in raw
    style).
    """
    if style == "raw":
        prompt = Prompt(text=raw_text(spec), add_special_tokens=True)
        continuations = tuple(spec.answer_delimiter + choice for choice in spec.choices)
    else:
        text = checkpoint.render_chat(chat_messages(spec), spec.prefill)
        prompt = Prompt(text=text, add_special_tokens=False)
        continuations = spec.choices
    return prompt, continuations if spec.form == "rank" else ()


def raw_text(spec: PromptSpec) -> str:
    """System text, worked examples, question and prefill as one text."""
    if spec.messages is not None and not spec.question:
        raise UsageError("messages", "a conversation has no raw form", "give the item a `prompt`, or ask it in chat")
    shots = "".join(s.question + spec.answer_delimiter + s.answer + spec.shot_delimiter for s in spec.shots)
    return spec.system + shots + spec.question + spec.prefill


def chat_messages(spec: PromptSpec) -> tuple[Message, ...]:
    """System message, worked examples as turns, then the question (or the item's own conversation)."""
    tail = spec.messages or (Message("user", spec.chat_question or spec.question),)
    messages: list[Message] = []
    if tail[0].role == "system":  # a template takes one system message, at the start
        system = "\n\n".join(text for text in (spec.system, tail[0].content) if text)
        messages.append(Message("system", system))
        tail = tail[1:]
    elif spec.system:
        messages.append(Message("system", spec.system))
    for shot in spec.shots:
        messages.append(Message("user", shot.chat_question or shot.question))
        messages.append(Message("assistant", shot.answer))
    return (*messages, *tail)
