"""Generations over /completions and /chat/completions, read piece by piece as they are streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forgetbench.engines.openai_client import Refused
from forgetbench.engines.openai_probe import Served
from forgetbench.engines.openai_score import token_id
from forgetbench.engines.stops import cut_at_stop
from forgetbench.types import FinishReason, Generate

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
    "max_tokens": "length",
}
_MOST_STOPS = 4
"""More stop strings than OpenAI's API takes are watched for here."""


@dataclass(slots=True)
class Sampled:
    """One answer as the server gave it."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    """-1 where the server names tokens by their strings, which do not tell ids."""
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None
    prompt_ids: tuple[int, ...] | None = None
    """As the server tokenised it, where it tells."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    first_token_seconds: float | None = None
    seconds: float = 0.0


def body_of(body: Generate, sample: int, prompt: Mapping[str, Any], served: Served, stop_ids: Sequence[int]) -> Any:
    """The request's fields. `prompt`: {"prompt": text or ids} or {"messages": [...]}."""
    chat = "messages" in prompt
    options = served.chat_options if chat else served.options
    sent: dict[str, Any] = {
        **prompt,
        "max_completion_tokens" if "max_completion_tokens" in options else "max_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        **served.neutral,
    }
    if "stream_options" in options:
        sent["stream_options"] = {"include_usage": True}
    if body.stop:
        sent["stop"] = list(body.stop if served.dialect else body.stop[:_MOST_STOPS])
    if body.temperature > 0 and "seed" in options:
        sent["seed"] = body.seeds[sample] % 2**31  # some servers keep 32 bits
    if "logprobs" in options:
        sent["logprobs"] = True if chat else 0 if served.dialect == "vllm" else 1
    if served.dialect == "vllm":
        sent["return_tokens_as_token_ids"] = True
        if not isinstance(prompt.get("prompt"), list):
            sent["return_token_ids"] = True  # tells how the prompt was tokenised
        if stop_ids:
            sent["stop_token_ids"] = list(stop_ids)
    return sent


async def read(pieces: AsyncIterator[Any], begin: float, stops: Sequence[str], exact: bool) -> Sampled:
    """Put the pieces together. Raises ValueError for an answer that is cut short or has pieces twice.

    `exact`: the server counts in `usage` just the tokens that it shows.
    """
    found, longest, cut = Sampled(), max((len(s) for s in stops), default=0), False
    async for piece in pieces:
        found.usage = piece.get("usage") or found.usage
        for choice in piece.get("choices") or ():
            text, new = _read_choice(choice, found)
            if new and found.first_token_seconds is None:
                found.first_token_seconds = time.perf_counter() - begin
            found.text += text
            window = found.text[-(longest + len(text)) :]
            cut = cut or (bool(text) and any(s in window for s in stops if s))
        ids = piece.get("prompt_token_ids")
        if ids is not None:
            found.prompt_ids = tuple(ids)
        if cut:
            break  # the rest is not wanted, and not paid for
    found.seconds = time.perf_counter() - begin
    if cut:
        found.text, found.finish = cut_at_stop(found.text, stops), "stop"
    elif found.finish is None:
        raise ValueError("it ends in the midst")
    _count(found, exact and not cut)
    return found


def _read_choice(choice: Mapping[str, Any], found: Sampled) -> tuple[str, bool]:
    """Text of one piece, and whether there was anything new in it."""
    if choice.get("index"):
        raise ValueError("it holds several answers")
    delta = choice.get("delta", choice.get("message"))
    before = len(found.tokens)
    if isinstance(delta, Mapping):
        text = str(delta.get("content") or delta.get("refusal") or "")
        new = bool(text or delta.get("reasoning_content") or delta.get("reasoning"))
        for entry in (choice.get("logprobs") or {}).get("content") or ():
            found.tokens.append(token_id(str(entry["token"])))
            found.logprobs.append(float(entry["logprob"]))
    else:
        text = str(choice.get("text") or "")
        new = bool(text)
        logprobs = choice.get("logprobs") or {}
        names, values = logprobs.get("tokens") or (), logprobs.get("token_logprobs") or ()
        if len(names) != len(values):
            raise ValueError(f"{len(values)} log-probabilities for {len(names)} tokens")
        found.tokens += [token_id(str(name)) for name in names]
        found.logprobs += [float(value) for value in values]
    if choice.get("prompt_token_ids") is not None:
        found.prompt_ids = tuple(choice["prompt_token_ids"])
    reason = choice.get("finish_reason")
    if reason is not None:
        if reason == "content_filter":
            raise Refused("the answer was withheld by a content filter")
        if reason not in _REASONS:
            raise ValueError(f"it ends for the reason {reason!r}")
        found.finish = _REASONS[reason]
    return text, new or len(found.tokens) > before


def _count(found: Sampled, exact: bool) -> None:
    """Hold the tokens against the server's own count; where it shows none, take its count."""
    told = found.usage.get("completion_tokens")
    if not isinstance(told, int):
        return
    seen = len(found.tokens)
    if seen > told or (exact and seen != told):
        raise ValueError(f"{seen} tokens came, the server counts {told}")
    if not seen:
        found.tokens = [-1] * told
