"""Response <-> one line of JSON, exactly.

Floats survive bit for bit (Python prints the shortest text that reads back the same); infinities and nan are
written as strings, so that a line is JSON for every reader. The many floats of a reading are packed: base64 of
little-endian binary, of 32 bits where that is exact (what an engine computed in float32), else of 64. Text survives
with lone surrogates, which a tokenizer can produce from half a character.

A line starts with the request id and whether the response is final, so that a scan needs no JSON parser.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.types import ContinuationScore, Generation, Reading, Response, TopTokens

CODEC_VERSION = 1

_HEAD = re.compile(rb'\{"id":"([^"\\]*)","final":(true|false),')


def is_final(response: Response) -> bool:
    """Whether a response may be reused. An empty one, or one with a failed sample, is asked again."""
    if response.error is not None or not (response.generations or response.scores or response.reading):
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


def _pack(xs: Iterable[float]) -> str:
    wide = array("d", xs)
    narrow = array("f", wide)
    # A float too large for 32 bits has become infinite, and nan equals nothing: both stay wide.
    packed = narrow if narrow.tolist() == wide.tolist() else wide
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.typecode + base64.b64encode(packed.tobytes()).decode("ascii")


def _unpack(text: str) -> tuple[float, ...]:
    packed = array(text[0])
    packed.frombytes(base64.b64decode(text[1:]))
    if sys.byteorder == "big":
        packed.byteswap()
    return tuple(packed)


def _lengths(rows: Sequence[Sequence[Any]]) -> int | list[int]:
    """One number where all rows are equally long."""
    found = [len(row) for row in rows]
    return found[0] if found and found.count(found[0]) == len(found) else found


def _cut(flat: Iterable[Any], lengths: int | list[int], rows: int) -> Iterator[tuple[Any, ...]]:
    rest = iter(flat)
    for n in [lengths] * rows if isinstance(lengths, int) else lengths:
        yield tuple(islice(rest, n))


def _reading(r: Reading) -> dict[str, Any]:
    return {
        "logprobs": _pack(r.logprobs),
        "entropies": _pack(r.entropies),
        "nucleus_sizes": [int(n) for n in r.nucleus_sizes],
        "argmax": [int(i) for i in r.argmax],
        "top": None
        if r.top is None
        else [
            _lengths([t.ids for t in r.top]),
            [int(i) for t in r.top for i in t.ids],
            _pack(x for t in r.top for x in t.logprobs),
            _pack(t.tail_mass for t in r.top),
        ],
        "at": None if r.at is None else [_lengths(r.at), len(r.at), _pack(chain.from_iterable(r.at))],
    }


def _read_reading(raw: dict[str, Any]) -> Reading:
    top, at = raw["top"], raw["at"]
    if top is not None:
        lengths, ids, logprobs, tails = top[0], top[1], _unpack(top[2]), _unpack(top[3])
        rows = len(tails)
        parts = zip(_cut(ids, lengths, rows), _cut(logprobs, lengths, rows), tails, strict=True)
        top = tuple(TopTokens(*part) for part in parts)
    return Reading(
        logprobs=_unpack(raw["logprobs"]),
        entropies=_unpack(raw["entropies"]),
        nucleus_sizes=tuple(raw["nucleus_sizes"]),
        argmax=tuple(raw["argmax"]),
        top=top,
        at=None if at is None else tuple(_cut(_unpack(at[2]), at[0], at[1])),
    )


def encode(response: Response) -> bytes:
    """One line of JSON in UTF-8 without its newline. For a response that `decode` kept the line of: that line."""
    if response.line is not None:
        return response.line
    raw: dict[str, Any] = {
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
    if response.reading is not None:  # else the line is what earlier versions wrote
        raw["reading"] = _reading(response.reading)
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
    seconds, first, reading = raw["seconds"], raw.get("first_token_seconds"), raw.get("reading")
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
        reading=None if reading is None else _read_reading(reading),
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
