"""Many samples of each prompt by the plainest loop that is quick enough: the oracle's own, no engine of ours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

ROWS = 1000
"""Samples side by side."""

Drawn = Counter[tuple[tuple[int, ...], bool]]
"""How often each answer came: its tokens without the one that ended it, and whether one did."""


def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    ends: set[int],
    max_tokens: int,
    count: int,
    temperature: float,
    seed: int,
) -> list[Drawn]:
    """`count` answers to each prompt at `temperature` (0: the greedy one, `count` must be 1), in the prompts' order.

    Prompts of one length go together: no padding, no mask. A prompt is read once, then its cache is repeated.
    """
    import torch

    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    source = torch.Generator().manual_seed(seed)
    found: list[Drawn] = [Counter() for _ in prompts]
    at_once = max(1, ROWS // count)
    with torch.inference_mode():
        for indices in by_length.values():
            for start in range(0, len(indices), at_once):
                group = indices[start : start + at_once]
                ids = torch.tensor([list(prompts[i]) for i in group])
                answers = _answers(model, ids, ends, max_tokens, count, temperature, source)
                for row, answer in enumerate(answers):
                    found[group[row // count]][answer] += 1
    return found


def _answers(
    model: Any, ids: Any, ends: set[int], max_tokens: int, count: int, temperature: float, source: Any
) -> list[tuple[tuple[int, ...], bool]]:
    result = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    cache, logits = result.past_key_values, result.logits[:, -1].repeat_interleave(count, 0)
    if count > 1:
        cache.batch_repeat_interleave(count)
    said: list[list[int]] = [[] for _ in range(len(logits))]
    ended = [False] * len(said)
    rows = list(range(len(said)))
    for place in range(max_tokens):
        tokens = _choose(logits, temperature, source)
        chosen = tokens[:, 0].tolist()
        for row, token in zip(rows, chosen, strict=True):
            if token in ends:
                ended[row] = True
            else:
                said[row].append(token)
        kept = [i for i, token in enumerate(chosen) if token not in ends]
        if not kept or place + 1 == max_tokens:
            break
        if len(kept) < len(rows):
            cache.batch_select_indices(kept)
            rows, tokens = [rows[i] for i in kept], tokens[kept]
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
    return [(tuple(tokens), end) for tokens, end in zip(said, ended, strict=True)]


def _choose(logits: Any, temperature: float, source: Any) -> Any:
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return (logits / temperature).softmax(-1).multinomial(1, generator=source)
