"""Stop strings: noticing them while tokens arrive, and cutting the text before the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the stop string that is complete first.

    "First" is by where a stop string *ends*: reading character by character, generation halts at that point,
    so the result does not depend on how the text happened to be split into tokens. Of two that end at the
    same place the longer counts.
    """
    found = [(place + len(s), place) for s in stops if s and (place := text.find(s)) >= 0]
    return text[: min(found)[1]] if found else text


class StopMatcher:
    """Tells after each token whether a stop string has just been completed.

    Only the tail of the tokens is decoded: a stop string of b bytes spans at most b tokens, so that a window
    of b + 4 holds it together with what byte-level decoding needs around it. Before that, a look at the
    newest token alone rules out nearly all tokens: a stop string's last character must be in it.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self.stops = tuple(s for s in stops if s)
        self._tokenizer = tokenizer
        self._window = max((len(s.encode("utf-8")) for s in self.stops), default=0) + 4
        self._last = frozenset(s[-1] for s in self.stops)
        # Decoders may strip spaces around a lone token, so then a lone token tells nothing.
        self._tells = not any(c.isspace() and c != "\n" for c in self._last)
        self._may_end: dict[int, bool] = {}

    def _can_complete(self, token: int) -> bool:
        known = self._may_end.get(token)
        if known is None:
            text = self._tokenizer.decode([token])
            # U+FFFD: part of a character, whose other bytes came before.
            known = "�" in text or not self._last.isdisjoint(text) or not text
            self._may_end[token] = known
        return known

    def hit(self, token_ids: Sequence[int]) -> bool:
        """Whether the newest token completes a stop string (special tokens count as their text)."""
        if not self.stops or (self._tells and not self._can_complete(token_ids[-1])):
            return False
        tail = self._tokenizer.decode(list(token_ids[-self._window :]))
        return any(s in tail for s in self.stops)

    def text(self, token_ids: Sequence[int], hit: bool) -> str:
        """The generated text without special tokens, cut before the first stop string."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        cut = cut_at_stop(text, self.stops)
        if hit and len(cut) == len(text) and token_ids:
            # The stop string is (part of) a special token, which the text does not show.
            text = self._tokenizer.decode(list(token_ids[:-1]), skip_special_tokens=True)
            cut = cut_at_stop(text, self.stops)
        return cut
