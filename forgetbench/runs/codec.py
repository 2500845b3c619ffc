"""Response <-> one line of JSON, exactly.

Floats survive bit for bit (Python prints the shortest text that reads back the same); infinities and nan are
written as strings, so that a line is JSON for every reader. Text survives with lone surrogates, which a
tokenizer can produce from half a character.

A line starts with the request id and whether the response is final, so that a scan needs no JSON parser.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.types import ContinuationScore, Generation, Response, TopTokens

CODEC_VERSION = 1

_HEAD = re.compile(rb'\{"id":"([^"\\]*)","final":(true|false),')


def is_final(response: Response) -> bool:
    """Whether a response may be reused. An empty one, or one with a failed sample, is asked again."""
    if response.error is not None or not (response.generations or response.scores):
        return False
    return all(g.finish_reason != "error" for g in response.generations)


def _float(x: float) -> float | str:
    x = float(x)
    return x if math.isfinite(x) else repr(x)


def _floats(xs: Iterable[float] | None) -> list[float | str] | None:
    return None if xs is None else [_float(x) for x in xs]


def _read_floats(xs: list[float | str] | None) -> tuple[float, ...] | None:
    return None if xs is None else tuple(map(float, xs))


def _generation(g: Generation) -> dict[str, Any]:
    return {
        "text": g.text,
        "token_ids": [int(i) for i in g.token_ids],
        "finish_reason": g.finish_reason,
        "logprobs": _floats(g.logprobs),
        "entropies": _floats(g.entropies),
        "top": None
        if g.top is None
        else [[[int(i) for i in t.ids], _floats(t.logprobs), _float(t.tail_mass)] for t in g.top],
    }


def _read_generation(raw: dict[str, Any]) -> Generation:
    top = raw["top"]
    return Generation(
        text=raw["text"],
        token_ids=tuple(raw["token_ids"]),
        finish_reason=raw["finish_reason"],
        logprobs=_read_floats(raw["logprobs"]),
        entropies=_read_floats(raw["entropies"]),
        top=None
        if top is None
        else tuple(TopTokens(tuple(ids), _read_floats(lps) or (), float(tail)) for ids, lps, tail in top),
    )


def _score(s: ContinuationScore) -> list[Any]:
    return [_float(s.logprob), bool(s.is_greedy), int(s.n_tokens), _floats(s.token_logprobs)]


def _read_score(raw: list[Any]) -> ContinuationScore:
    logprob, is_greedy, n_tokens, token_logprobs = raw
    return ContinuationScore(float(logprob), is_greedy, n_tokens, _read_floats(token_logprobs))


def encode(response: Response) -> bytes:
    """One line of JSON in UTF-8 without its newline. For a response that `decode` kept the line of: that line."""
    if response.line is not None:
        return response.line
    raw = {
        "id": response.request_id,
        "final": is_final(response),
        "v": CODEC_VERSION,
        "generations": [_generation(g) for g in response.generations],
        "scores": [_score(s) for s in response.scores],
        "prompt_tokens": int(response.prompt_tokens),
        "prompt_token_hash": response.prompt_token_hash,
        "truncated_left": int(response.truncated_left),
        "computed_tokens": response.computed_tokens,
        "first_token_seconds": None if response.first_token_seconds is None else _float(response.first_token_seconds),
        "seconds": None if response.seconds is None else _float(response.seconds),
        "error": response.error,
    }
    text = json.dumps(raw, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # surrogatepass and not \u escapes: JSON joins an escaped pair into one character, so that text with two
    # lone surrogates side by side would not read back the same.
    return text.encode("utf-8", "surrogatepass")


def decode(blob: bytes, *, keep_line: bool = False) -> Response:
    """The response in a line that `encode` wrote. Raises UsageError for a line of a later version.

    `keep_line`: it is to be stored again, which then need not encode it.
    """
    raw = json.loads(blob.decode("utf-8", "surrogatepass"))
    if raw["v"] != CODEC_VERSION:
        raise UsageError(
            "responses",
            f"stored by another version of forgetbench (format {raw['v']!r}, this one reads {CODEC_VERSION})",
            "use that version, or delete the task's folder to ask again",
        )
    seconds, first = raw["seconds"], raw.get("first_token_seconds")
    response = Response(
        request_id=raw["id"],
        generations=tuple(_read_generation(g) for g in raw["generations"]),
        scores=tuple(_read_score(s) for s in raw["scores"]),
        prompt_tokens=raw["prompt_tokens"],
        prompt_token_hash=raw["prompt_token_hash"],
        truncated_left=raw["truncated_left"],
        # Not in lines that earlier versions wrote.
        computed_tokens=raw.get("computed_tokens"),
        first_token_seconds=None if first is None else float(first),
        seconds=None if seconds is None else float(seconds),
        error=raw["error"],
    )
    if keep_line:
        object.__setattr__(response, "line", blob)  # frozen, and no part of the value
    return response


def peek(blob: bytes) -> tuple[str, bool]:
    """(request id, final) of an encoded response, without parsing the rest of it."""
    head = _HEAD.match(blob)
    if head is None:  # an id that JSON had to escape
        raw = json.loads(blob.decode("utf-8", "surrogatepass"))
        return raw["id"], raw["final"]
    return head[1].decode("utf-8", "surrogatepass"), head[2] == b"true"
