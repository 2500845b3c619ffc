"""Small checkpoints on disk for the tests of drift."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from forgetbench.drift.weights import Side

HIDDEN, INNER, VOCABULARY, LAYERS = 24, 40, 50, 3
SPECIAL = {47: "<|user|>", 48: "<|assistant|>", 49: "<|end|>"}


def tensors(seed: int = 0, *, head: bool = False, vocabulary: int = VOCABULARY) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    found = {"model.embed_tokens.weight": draw(vocabulary, HIDDEN), "model.norm.weight": draw(HIDDEN)}
    for i in range(LAYERS):
        found |= {
            f"model.layers.{i}.self_attn.q_proj.weight": draw(HIDDEN, HIDDEN),
            f"model.layers.{i}.mlp.down_proj.weight": draw(HIDDEN, INNER),
            f"model.layers.{i}.input_layernorm.weight": draw(HIDDEN),
        }
    if head:
        found["lm_head.weight"] = draw(vocabulary, HIDDEN)
    return found


def save(folder: Path, values: Mapping[str, torch.Tensor], *, shards: int = 1, config: Any = None) -> Side:
    """A folder with shards, an index where there are several, and a tokenizer that names SPECIAL."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(values)
    if shards == 1:
        save_file({n: values[n].contiguous() for n in names}, folder / "model.safetensors")
    else:
        index = {}
        for i in range(shards):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            mine = names[i::shards]
            save_file({n: values[n].contiguous() for n in mine}, folder / file)
            index |= dict.fromkeys(mine, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    tied = "lm_head.weight" not in values
    config = {"model_type": "llama", "tie_word_embeddings": tied, **(config or {})}
    (folder / "config.json").write_text(json.dumps(config))
    rows = values["model.embed_tokens.weight"].shape[0] if "model.embed_tokens.weight" in values else VOCABULARY
    words = {f"w{i}": i for i in range(rows) if i not in SPECIAL}
    added = [{"id": i, "content": text, "special": True} for i, text in SPECIAL.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}, "added_tokens": added}))
    return Side(folder.name, folder, None, folder, config)


def direct(before: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
    """The measures by numpy's full SVD in float64, written as plainly as can be."""
    base, delta = before.double().numpy(), (after.double() - before.double()).numpy()
    sigma = np.linalg.svd(delta, compute_uv=False)
    p = [s / sum(sigma) for s in sigma]
    return {
        "relative": math.sqrt((delta**2).sum()) / math.sqrt((base**2).sum()),
        "spectral": float(max(sigma)),
        "stable_rank": float((delta**2).sum() / max(sigma) ** 2),
        "effective_rank": math.exp(-sum(x * math.log(x) for x in p if x > 0)),
    }
