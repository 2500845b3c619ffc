"""Log-probabilities of continuations over /completions.

Two ways, both exact:
- `echo`: the prompt and one continuation go out together, the server answers each token's log-probability, and
  those of the continuation are summed. One request for each continuation.
- `logprob_token_ids` (vLLM): where every continuation is one token, one new token after the prompt is asked for
  together with the log-probabilities of just those tokens. One request for all of them, and it uses the server's
  prefix cache, which echo does not.

With a local tokenizer the prompt goes out as token ids, and the number of the prompt's own ids says where the
continuation begins. Without one it goes out as text, and the tokens' places in the text say so. Never their
strings alone: different tokens decode to the same string, so that a table keyed by string loses some.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetbench.engines.common import NOT_FINITE

_FLOOR = -9999.0
"""What vLLM writes for minus infinity, which JSON does not have."""
_NAME = "token_id:"


class Unscorable(Exception):
    """This continuation has no log-probability there; the text says why."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """An echoed text: for each token its log-probability given what is before it (None: the first), whether no
    other was likelier, and where it begins in the text (text prompts only)."""

    logprobs: tuple[float | None, ...]
    greedy: tuple[bool, ...]
    starts: tuple[int, ...] = ()


def read_ids(answer: Any, ids: Sequence[int]) -> Tokens:
    """The echo of token ids. Raises ValueError when it is not the echo of these."""
    logprobs = answer["choices"][0]["logprobs"]
    values, names = logprobs["token_logprobs"], logprobs["tokens"]
    if len(values) < len(ids) or len(names) != len(values):
        raise ValueError(f"{len(values)} log-probabilities for {len(ids)} tokens")
    for name, token in zip(names, ids, strict=False):
        if str(name).startswith(_NAME) and name != f"{_NAME}{token}":
            raise ValueError(f"it echoes {name} where {token} was sent")
    return _tokens(values[: len(ids)], logprobs.get("top_logprobs"))


def read_text(answer: Any, text: str) -> Tokens:
    """The echo of a text. Raises ValueError when it is not the echo of this one, Unscorable when its tokens cannot
    be placed in it."""
    choice = answer["choices"][0]
    logprobs, echoed = choice["logprobs"], str(choice["text"])
    values, names = logprobs["token_logprobs"], [str(n) for n in logprobs["tokens"]]
    if not echoed.startswith(text):
        raise ValueError("it does not echo the text that was sent")
    if len(names) != len(values):
        raise ValueError(f"{len(values)} log-probabilities for {len(names)} tokens")
    starts = _places(names, logprobs.get("text_offset"), echoed)
    count = sum(1 for s in starts if s < len(text))
    return _tokens(values[:count], logprobs.get("top_logprobs"), starts[:count])


def _tokens(values: Sequence[Any], top: Any, starts: Sequence[int] = ()) -> Tokens:
    read = tuple(None if v is None else float(v) for v in values)
    greedy = []
    for place, value in enumerate(read):
        others: Any = top[place] if top and place < len(top) else None
        # One of top's entries is the token itself: greedy if none is likelier. Without a table it is not known.
        greedy.append(value is not None and bool(others) and value >= max(others.values()))
    return Tokens(read, tuple(greedy), tuple(starts))


def _places(names: Sequence[str], offsets: Any, text: str) -> list[int]:
    """Where each token begins. BOS that the server added begins before the text."""
    joined = "".join(names)
    if joined.endswith(text):
        places, place = [], len(text) - len(joined)
        for name in names:
            places.append(place)
            place += len(name)
        return places
    # Tokens that are parts of characters do not join to the text; then the server's own count has to do.
    if not isinstance(offsets, list) or len(offsets) != len(names) or any(not isinstance(o, int) for o in offsets):
        raise Unscorable("the server does not say where its tokens lie in the text (text_offset)")
    if sorted(offsets) != offsets or (offsets and offsets[-1] > len(text)):
        raise Unscorable("the places of the server's tokens (text_offset) do not fit the text; give `tokenizer:`")
    return list(offsets)


def boundary(tokens: Tokens, head: int) -> int:
    """How many of a text's tokens lie before its character `head`. Raises Unscorable for a token across it."""
    count = sum(1 for s in tokens.starts if s < head)
    if count == len(tokens.starts) or tokens.starts[count] != head:
        raise Unscorable("a token lies across the end of the prompt; give `tokenizer:`, so that it can be split")
    return count


def part(tokens: Tokens, begin: int) -> tuple[tuple[float, ...], bool]:
    """Log-probabilities of the tokens from `begin` on, and whether greedy decoding would write them."""
    values = []
    for value in tokens.logprobs[begin:]:
        if value is None:
            raise Unscorable("the first token has nothing before it that its log-probability could be given")
        if not math.isfinite(value) or value <= _FLOOR:
            raise Unscorable(NOT_FINITE)
        values.append(value)
    return tuple(values), all(tokens.greedy[begin:])


def read_choices(answer: Any, ids: Sequence[int]) -> dict[int, tuple[float, bool]]:
    """Token id -> (log-probability as the next token, whether it is the likeliest). Raises KeyError where one is
    missing, as from a server that ignores `logprob_token_ids`."""
    logprobs = answer["choices"][0]["logprobs"]
    found: Mapping[str, Any] = logprobs["top_logprobs"][0]
    chosen = str(logprobs["tokens"][0])
    if not chosen.startswith(_NAME):
        raise ValueError("tokens come by their strings")
    result = {i: (float(found[f"{_NAME}{i}"]), chosen == f"{_NAME}{i}") for i in ids}
    if any(not math.isfinite(v) or v <= _FLOOR for v, _ in result.values()):
        raise Unscorable(NOT_FINITE)
    return result


def token_id(name: str) -> int:
    """The id that a token's name gives, -1 where it is a string."""
    digits = name.removeprefix(_NAME)
    return int(digits) if name.startswith(_NAME) and digits.isdigit() else -1
