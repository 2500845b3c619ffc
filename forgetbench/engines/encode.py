"""Text to tokens, the way lm-eval's Hugging Face model does it, so that log-probabilities can be compared.

The rules (each held by a parity test):
- A prompt and a continuation are tokenised *together* and split at the length of the prompt's own tokens,
  since " A" after "Answer:" need not be the tokens of " A" alone.
- Whitespace at the end of the prompt moves to the continuation before that.
- An empty prompt becomes one BOS token (EOS where there is no BOS).
- Text that already begins with BOS gets no second one; text that a chat template rendered gets none at all.
- What is too long loses tokens on the left.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forgetbench.types import Prompt


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A prompt's tokens and one continuation's. `continuation` is never empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Encoder:
    """Wraps a transformers tokenizer.

    `add_bos`: None lets the tokenizer decide for raw text; True or False overrules it (engine_args).
    """

    def __init__(self, tokenizer: Any, add_bos: bool | None = None) -> None:
        self.tokenizer = tokenizer
        self.add_bos = add_bos
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.prefix_id: int | None = None if prefix is None else int(prefix)
        self._prefix_text: str = "" if prefix is None else tokenizer.decode([prefix])

    def _special(self, prompt: Prompt, text: str) -> bool:
        if not prompt.add_special_tokens:
            return False
        if self._prefix_text and text.startswith(self._prefix_text):
            return False
        return True if self.add_bos is None else self.add_bos

    def texts(self, texts: Sequence[str], special: Sequence[bool]) -> list[list[int]]:
        """Token ids of each text; `special` says for each whether the tokenizer may add BOS."""
        out: list[list[int]] = [[] for _ in texts]
        for flag in (True, False):
            places = [i for i, s in enumerate(special) if s is flag]
            if places:
                batch = self.tokenizer(
                    [texts[i] for i in places],
                    add_special_tokens=flag,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                    verbose=False,
                )["input_ids"]
                for place, ids in zip(places, batch, strict=True):
                    out[place] = list(ids)
        return out

    def prompts(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """Token ids of prompts to generate after. An empty prompt becomes the prefix token."""
        texts = [p.text or "" for p in prompts]
        encoded = self.texts(texts, [self._special(p, t) for p, t in zip(prompts, texts, strict=True)])
        return [
            p.token_ids if p.token_ids is not None else tuple(ids) or self._prefix()
            for p, ids in zip(prompts, encoded, strict=True)
        ]

    def contexts(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """Token ids of prompts to read given tokens after: as `prompts`, and no ids at all become the prefix token too.

        Empty only where the tokenizer has neither BOS nor EOS.
        """
        return [ids or self._prefix() for ids in self.prompts(prompts)]

    def pairs(self, items: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[EncodedPair | str]]:
        """For each prompt, one EncodedPair per continuation, or a line that says why there is none."""
        texts: list[str] = []
        special: list[bool] = []
        for prompt, continuations in items:
            if not prompt.text:
                texts += continuations
                special += [False] * len(continuations)
                continue
            context = prompt.text.rstrip()
            flag = self._special(prompt, context)
            texts.append(context)
            special.append(flag)
            # prompt.text still ends in its whitespace, so that whitespace falls to the continuation.
            texts += [prompt.text + c for c in continuations]
            special += [flag] * len(continuations)
        encoded = iter(self.texts(texts, special))
        result: list[list[EncodedPair | str]] = []
        for prompt, continuations in items:
            head = list(prompt.token_ids or ()) if not prompt.text else next(encoded)
            row: list[EncodedPair | str] = []
            for continuation in continuations:
                ids = next(encoded)
                tail = ids if not prompt.text else ids[len(head) :]
                row.append(self._pair(head, tail, continuation))
            result.append(row)
        return result

    def _pair(self, head: list[int], tail: list[int], continuation: str) -> EncodedPair | str:
        if not tail:
            return f"the continuation {continuation!r} adds no token to the prompt"
        if head:
            return EncodedPair(tuple(head), tuple(tail))
        prefix = self._prefix()
        if not prefix:
            return "the prompt is empty and the tokenizer has neither BOS nor EOS to begin with"
        if tail[0] == prefix[0]:
            if len(tail) == 1:
                return f"the continuation {continuation!r} is nothing but the token every text begins with"
            tail = tail[1:]
        return EncodedPair(prefix, tuple(tail))

    def _prefix(self) -> tuple[int, ...]:
        return () if self.prefix_id is None else (self.prefix_id,)


def token_hash(ids: Sequence[int]) -> str:
    """16 hex digits of sha256 over token ids as 64-bit little-endian integers."""
    values = array("q", ids)
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
