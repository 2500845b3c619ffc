"""What engines that load a local checkpoint have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.types import Prompt, Request

NOT_FINITE = "the model's log-probability is not finite (NaN or infinite)"


def as_text(request: Request, checkpoint: Checkpoint) -> Request:
    """A prompt of messages becomes text under the checkpoint's own template."""
    messages = request.prompt.messages
    if messages is None:
        return request
    prefill = messages[-1].content if messages[-1].role == "assistant" else ""
    text = checkpoint.render_chat(messages[:-1] if prefill else messages, prefill)
    return replace(request, prompt=Prompt(text=text, add_special_tokens=False))


def dtype_of(wanted: str, config: Mapping[str, Any]) -> str:
    """The dtype's name; `auto` is what config.json says (float32 where it says nothing)."""
    if wanted != "auto":
        return wanted
    text_config = config.get("text_config")
    for source in (config, text_config if isinstance(text_config, dict) else {}):
        for key in ("dtype", "torch_dtype"):
            if isinstance(source.get(key), str):
                return str(source[key]).removeprefix("torch.")
    return "float32"


def fit_prompt(
    ids: tuple[int, ...], max_tokens: int, limit: int, vocabulary: int
) -> tuple[tuple[int, ...], str | None]:
    """What is kept of a prompt to generate after, cut on the left, and what is wrong with it, if anything.

    `limit`: context length in tokens, prompt and answer together. `vocabulary`: ids from there on cannot be fed.
    """
    room = limit - max_tokens
    kept = ids[-room:] if room > 0 else ids
    if room <= 0:
        return kept, f"max_tokens {max_tokens} leaves no room for a prompt in a context of {limit} tokens"
    if not ids:
        return kept, "the prompt is empty and the tokenizer has neither BOS nor EOS to begin with"
    return kept, beyond_vocabulary(ids, vocabulary)


def beyond_vocabulary(ids: Sequence[int], vocabulary: int) -> str | None:
    """What is wrong with token ids that the model has no embedding for; None where it has all."""
    largest = max(ids)
    return f"token id {largest} is beyond the model's vocabulary of {vocabulary}" if largest >= vocabulary else None


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA and CPU allocators say it differently; both mean that a smaller batch may do."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
