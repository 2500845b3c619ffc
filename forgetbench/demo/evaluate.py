"""A quick greedy evaluator for choosing settings and for tests. The tool's own pipeline reports the figures.

Prompts of equal length are batched together, so that no padding and no mask is needed.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from forgetbench.demo.abilities import distinct
from forgetbench.demo.text import STOP, few_shot
from forgetbench.demo.tokenizer import chat_text
from forgetbench.demo.world import Item, World

MAX_TOKENS = 24
SHOTS = 3


def generate(model: Any, prompts: Sequence[Sequence[int]], stop_ids: set[int], max_tokens: int = MAX_TOKENS,
             batch: int = 64) -> list[list[int]]:  # fmt: skip
    """Greedy continuations, without the token that stopped them."""
    import torch

    model.eval()
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    out: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode():
        for indices in by_length.values():
            for start in range(0, len(indices), batch):
                group = indices[start : start + batch]
                ids = torch.tensor([list(prompts[i]) for i in group])
                past = None
                open_rows = set(range(len(group)))
                for _ in range(max_tokens):
                    result = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
                    past = result.past_key_values
                    ids = result.logits[:, -1].argmax(-1, keepdim=True)
                    for row, token in enumerate(ids[:, 0].tolist()):
                        if row in open_rows and token in stop_ids:
                            open_rows.discard(row)
                        elif row in open_rows:
                            out[group[row]].append(token)
                    if not open_rows:
                        break
    return out


def accuracy(model: Any, tokenizer: Any, world: World, task_types: Sequence[str], count: int, *, style: str,
             split: str = "dev", seed: int = 1) -> dict[str, float]:  # fmt: skip
    """Exact-match share for each task_type, `raw` (3 shots) or `chat` (none)."""
    rng = random.Random(f"evaluate {split} {seed}")
    items: list[Item] = []
    texts: list[str] = []
    for task_type in task_types:
        chosen = distinct(task_type, count, rng, split, world)
        shots = distinct(task_type, SHOTS, rng, "shots", world)
        items += chosen
        texts += [few_shot(shots, i.prompt) if style == "raw" else chat_text(i.prompt, "")[0] for i in chosen]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    newline = tokenizer.encode(STOP, add_special_tokens=False)
    double = tokenizer.encode(STOP * 2, add_special_tokens=False)
    ends = tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    answers = generate(model, ids, {*newline, *double, *ends})
    right: dict[str, list[bool]] = defaultdict(list)
    for item, answer in zip(items, answers, strict=True):
        right[item.task_type].append(tokenizer.decode(answer).strip() == item.answer)
    return {name: 100 * sum(hits) / len(hits) for name, hits in right.items()}


def by_top_level(scores: dict[str, float]) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for name, score in scores.items():
        groups[name.split("/")[0]].append(score)
    return {name: sum(values) / len(values) for name, values in groups.items()}
