"""What a server can do, found out with a handful of one-token requests before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.endpoint_state import Limits
from forgetbench.engines.openai_client import Client, Refused, Unanswered
from forgetbench.engines.openai_score import Unscorable, read_choices, read_ids, read_text
from forgetbench.errors import EngineError, UsageError

TEXT = "The quick brown fox asks: A, B, C or D? Answer:"
_OPTIONS = ("stream_options", "logprobs", "seed")
"""Fields that not every server takes, in the order in which they are given up."""
_NEUTRAL: dict[str, dict[str, Any]] = {
    "vllm": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    "sglang": {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "llamacpp": {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
}
"""By what /models calls its owner. These servers fill in what is not sent from the model's generation_config.json
or from defaults of their own; decoding is the suite's alone."""


@dataclass(frozen=True, slots=True)
class Served:
    limits: Limits = field(default_factory=Limits)
    dialect: str = ""
    """vllm, sglang, llamacpp, or "" for any other."""
    max_length: int | None = None
    """The context that the server tells."""
    echo_tokens: int = 0
    """max_tokens to send with echo: some servers want to generate at least one."""
    choices: bool = False
    """Whether it serves `logprob_token_ids`."""
    options: frozenset[str] = frozenset()
    """Optional fields that /completions takes."""
    chat_options: frozenset[str] = frozenset()
    neutral: Mapping[str, Any] = field(default_factory=dict)


async def probe(client: Client, checkpoint: Checkpoint) -> Served:
    """Ask. Raises UsageError, one line, for a server that is down, a wrong key or an unknown model."""
    where, address = f"models.{checkpoint.alias}.engine_args", client.args.base_url
    try:
        served = await _listed(client, where)
        served = await _generating(client, checkpoint, served)
        if not served.limits.complete:
            served = await _scoring(client, checkpoint, served)
    except Unanswered as error:
        raise UsageError(f"{where}.base_url: {address}", str(error), "start the server, or mend the address") from None
    except EngineError as error:
        cure = "check model, base_url and the variable that api_key_env names"
        raise UsageError(where, str(error).partition(": ")[2], cure) from None
    limits = served.limits
    if limits.complete:
        served = replace(served, limits=replace(limits, score=limits.complete))
    if limits.complete and (limits.chat or not checkpoint.sends_messages):
        problem = f"the server serves neither text ({limits.complete}) nor chat ({limits.chat or 'not asked for'})"
        raise UsageError(f"{where}.base_url: {address}", problem, "name a server that does, or set `chat: true`")
    return served


async def _listed(client: Client, where: str) -> Served:
    """What /models says. A server without it is asked all the same."""
    try:
        answer = await client.get("/models")
        entries = [e for e in answer["data"] if isinstance(e, Mapping)]
    except Refused:
        return Served()
    except EngineError as error:
        if " answers 404" not in str(error):
            raise
        return Served()
    except (TypeError, KeyError):
        return Served()
    entry = next((e for e in entries if e.get("id") == client.args.model), None)
    if entry is None:
        names = ", ".join(str(e.get("id")) for e in entries[:8]) + (", ..." if len(entries) > 8 else "")
        if entries and len(entries) < 100:
            raise UsageError(f"{where}.model", f"the server has no '{client.args.model}'", f"it serves {names}")
        return Served()
    dialect = str(entry.get("owned_by", "")).lower()
    length = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx_train")
    known = dialect in _NEUTRAL
    return Served(
        dialect=dialect if known else "",
        max_length=length if isinstance(length, int) else None,
        neutral=_NEUTRAL[dialect] if known else {},
    )


async def _generating(client: Client, checkpoint: Checkpoint, served: Served) -> Served:
    limits = served.limits
    prompt = {"prompt": _prompt(checkpoint)}
    options, refused = await _options(client, "/completions", prompt, served)
    chat_options: frozenset[str] = frozenset()
    if checkpoint.sends_messages:
        messages = {"messages": [{"role": "user", "content": TEXT}]}
        chat_options, no_chat = await _options(client, "/chat/completions", messages, served)
        limits = replace(limits, chat=no_chat and f"/chat/completions refuses: {no_chat}")
    limits = replace(limits, complete=refused and f"/completions refuses: {refused}")
    return replace(served, limits=limits, options=options, chat_options=chat_options)


async def _options(client: Client, path: str, prompt: Mapping[str, Any], served: Served) -> tuple[frozenset[str], str]:
    """The optional fields that a path takes, and why it refuses even without them ("": it does not)."""
    chat = "messages" in prompt
    taken = [*_OPTIONS]
    limit = "max_tokens"
    first = ""
    while True:
        body: dict[str, Any] = {
            "model": client.args.model,
            **client.args.extra_body,
            **prompt,
            **served.neutral,
            limit: 1,
            "temperature": 0.0,
        }
        body |= {"seed": 1} if "seed" in taken else {}
        body |= {"logprobs": True if chat else 1} if "logprobs" in taken else {}
        if "stream_options" in taken:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        try:
            if "stream_options" in taken:
                await client.stream(path, body, _drained)
            else:
                await client.post(path, body, lambda answer: answer["choices"][0])
        except Refused as error:
            first = first or str(error)
            if "max_completion_tokens" in str(error) and limit == "max_tokens":
                limit = "max_completion_tokens"
                continue
            named = [o for o in taken if o in str(error)]
            if not taken:
                return frozenset(), first
            taken.remove((named or taken)[0])
        except EngineError as error:
            if " answers 404" not in str(error):
                raise
            return frozenset(), str(error).partition(" answers ")[2]
        else:
            return frozenset([*taken, limit]), ""


async def _drained(pieces: Any, begin: float) -> None:
    count = 0
    async for piece in pieces:
        count += len(piece.get("choices") or ())
    if not count:
        raise ValueError("it is empty")


async def _scoring(client: Client, checkpoint: Checkpoint, served: Served) -> Served:
    """Whether and how continuations can be scored."""
    prompt = _prompt(checkpoint)
    refused = ""
    for echo_tokens in (0, 1):
        tried = replace(served, echo_tokens=echo_tokens)
        try:
            answer = await client.post("/completions", echo_body(client, prompt, tried), lambda a: a)
        except Refused as error:
            refused = refused or f"/completions refuses echo with logprobs: {error}"
            continue
        except Unanswered as error:  # servers that fail at it, as some do, cannot do it
            refused = refused or f"/completions fails at echo with logprobs: {error}"
            continue
        try:
            tokens = read_text(answer, prompt) if isinstance(prompt, str) else read_ids(answer, prompt)
        except (ValueError, KeyError, TypeError, IndexError, Unscorable) as error:
            refused = refused or f"/completions does not echo log-probabilities: {' '.join(str(error).split())}"
            continue
        if None in tokens.logprobs[1:]:
            refused = refused or "/completions gives no log-probabilities for the prompt"
            continue
        _check_tokenizer(answer, prompt, checkpoint)
        return replace(tried, choices=await _serves_choices(client, prompt, tried))
    return replace(served, limits=replace(served.limits, score=refused))


def _check_tokenizer(answer: Any, prompt: str | Sequence[int], checkpoint: Checkpoint) -> None:
    """Ids mean nothing under another tokenizer: the server has to read the text that was written."""
    text = answer["choices"][0].get("text")
    if not isinstance(prompt, str) and isinstance(text, str) and text and TEXT not in text:
        place = checkpoint.tokenizer_folder
        problem = f"is not the tokenizer of the served model: the server reads {text[:60]!r} for {TEXT!r}"
        raise UsageError(f"models.{checkpoint.alias}: {place}", problem, "give the served model's own tokenizer")


async def _serves_choices(client: Client, prompt: str | Sequence[int], served: Served) -> bool:
    if isinstance(prompt, str):
        return False
    ids = sorted(set(prompt))[:8]
    try:
        answer = await client.post("/completions", choices_body(client, prompt, ids, served), lambda a: a)
        read_choices(answer, ids)
    except (Refused, Unanswered, Unscorable, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False  # it ignores the field, or knows it and refuses
    return True


def _prompt(checkpoint: Checkpoint) -> str | list[int]:
    if checkpoint.tokenizer_folder is None:
        return TEXT
    return list(checkpoint.tokenizer().encode(TEXT, add_special_tokens=False))


def echo_body(client: Client, prompt: str | Sequence[int], served: Served) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": client.args.model,
        **client.args.extra_body,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "echo": True,
        "logprobs": 1,
        "max_tokens": served.echo_tokens,
        "temperature": 0.0,
    }
    if not isinstance(prompt, str) and served.dialect == "vllm":
        body["return_tokens_as_token_ids"] = True
    return body


def choices_body(client: Client, prompt: Sequence[int], ids: Sequence[int], served: Served) -> dict[str, Any]:
    return {
        "model": client.args.model,
        **client.args.extra_body,
        "prompt": list(prompt),
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": len(ids),
        "logprob_token_ids": list(ids),
        "return_tokens_as_token_ids": True,
        **served.neutral,
    }
