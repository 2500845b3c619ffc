"""How many tokens a set of requests holds, and how many an engine with a prefix cache has to compute. Pure.

A request's *sequences* are what a model has to read for it: prompt plus continuation without its last token for
each continuation of a score (the last token is only predicted), the same with the tokens of a read, the prompt alone
for a generation. Their trie has one node for each distinct prefix; its size is the least that any engine can compute
without knowing better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from forgetbench.engines.encode import Encoder
from forgetbench.engines.prefix import common_prefix
from forgetbench.types import Generate, Read, Request, Score


@dataclass(frozen=True, slots=True)
class TokenReport:
    """Exact counts under one tokenizer."""

    requests: int
    duplicates: int
    """Sequences that another one equals (the four letters of a multiple-choice question read one prompt)."""
    prompt_tokens: int
    """Of all requests, each prompt once a request."""
    trie_tokens: int
    """Distinct prefixes of all sequences."""
    overlaps: tuple[tuple[int, int], ...]
    """Of each distinct sequence in lexicographic order: its length, and how much of it the one before begins with."""

    def block_tokens(self, block: int) -> int:
        """The least that an engine computes whose cache holds whole blocks of that many tokens.

        A block is found again only where all its tokens and all before it are equal, and at least the last token of
        a sequence is computed anew, since its logits are wanted (shared < length: a sequence that another one begins
        with comes before it in the order).
        """
        if block < 1:
            raise ValueError(f"a block of {block} tokens")
        return sum(length - shared // block * block for length, shared in self.overlaps)


def count_tokens(requests: int, prompt_tokens: int, sequences: Iterable[Sequence[int]]) -> TokenReport:
    """The report over given sequences (empty ones count nothing)."""
    every = [tuple(s) for s in sequences if len(s)]
    # In sorted order no earlier sequence has more in common with one than the neighbour before it.
    ordered = sorted(set(every))
    shared = [0, *(common_prefix(a, b) for a, b in pairwise(ordered))]
    overlaps = tuple((len(ids), common) for ids, common in zip(ordered, shared, strict=False))
    return TokenReport(
        requests=requests,
        duplicates=len(every) - len(ordered),
        prompt_tokens=prompt_tokens,
        trie_tokens=sum(length - common for length, common in overlaps),
        overlaps=overlaps,
    )


def report(requests: Sequence[Request], encoder: Encoder) -> TokenReport:
    """Counts of requests whose prompts are text or token ids, tokenised as engines do it.

    A request that cannot be tokenised (an engine answers it with an error) counts no tokens.
    """
    sequences: list[tuple[int, ...]] = []
    prompt_tokens = 0
    scores = [(r.prompt, r.body.continuations) for r in requests if isinstance(r.body, Score)]
    for pairs in encoder.pairs(scores):
        known = [pair for pair in pairs if not isinstance(pair, str)]
        sequences += [pair.context + pair.continuation[:-1] for pair in known]
        prompt_tokens += len(known[-1].context) if known else 0
    prompts = encoder.prompts([r.prompt for r in requests if isinstance(r.body, Generate)])
    reads = [(r.prompt, r.body.token_ids) for r in requests if isinstance(r.body, Read)]
    for ids, (_, tokens) in zip(encoder.contexts([prompt for prompt, _ in reads]), reads, strict=True):
        if ids:
            prompt_tokens += len(ids)
            sequences.append(ids + tokens[:-1])
    prompt_tokens += sum(len(ids) for ids in prompts)
    return count_tokens(len(requests), prompt_tokens, [*sequences, *prompts])
