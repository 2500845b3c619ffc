"""From what a task asks (PromptSpec) to what an engine gets (Prompt), for one checkpoint and style."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.types import Message, Prompt, PromptSpec, Style


def render(spec: PromptSpec, style: Style, checkpoint: Checkpoint) -> tuple[Prompt, tuple[str, ...]]:
    """The prompt and, in rank form, its continuations (else an empty tuple).

    Raw text may get the tokenizer's BOS; text that a chat template rendered never does, since the template
    writes its own. A plain spec is raw text in either style. Raises UsageError when the style cannot be had (no
    template, or messages only in raw style).
    """
    if style == "raw" or spec.plain:
        prompt = Prompt(text=raw_text(spec), add_special_tokens=True)
        continuations = tuple(spec.answer_delimiter + choice for choice in spec.choices)
    elif checkpoint.sends_messages:
        prompt = Prompt(messages=_for_the_server(spec, f"models.{checkpoint.alias}"))
        continuations = ()
    else:
        text = checkpoint.render_chat(chat_messages(spec), spec.prefill)
        prompt = Prompt(text=text, add_special_tokens=False)
        continuations = spec.choices
    return prompt, continuations if spec.form == "rank" else ()


def _for_the_server(spec: PromptSpec, where: str) -> tuple[Message, ...]:
    """The conversation that a server renders itself. What no server's chat can be asked is a UsageError."""
    cure = "set `tokenizer:`, so that the template is rendered here"
    if spec.form == "rank":
        raise UsageError(where, "options cannot be scored in a chat that the server renders", cure)
    if spec.prefill:
        raise UsageError(where, "an answer cannot be begun in a chat that the server renders", cure)
    return chat_messages(spec)


def prompt_text(prompt: Prompt) -> str:
    """The rendered prompt as stored and hashed: its text, else its messages or token ids as canonical JSON."""
    if prompt.text is not None:
        return prompt.text
    value: Any = list(prompt.token_ids or ())
    if prompt.messages is not None:
        value = [asdict(m) for m in prompt.messages]
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


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
