"""The demo's model: a Qwen3 of about 0.8 million parameters, as transformers builds it.

Heads are 32 wide, because vLLM takes no smaller ones; positions reach 16,384, so that long few-shot prompts
of real benchmarks fit (it was trained on 128 tokens and is at chance there).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

HIDDEN = 128
LAYERS = 3
HEADS = 4
HEAD_SIZE = 32
FEED_FORWARD = 384
MAX_POSITIONS = 16384


def make_model(vocabulary: int, seed: int, eos_id: int, pad_id: int) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_SIZE,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.06,
        bos_token_id=None,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
    )
    return Qwen3ForCausalLM(config).float()


def load_model(folder: Path) -> Any:
    import torch
    from transformers import Qwen3ForCausalLM

    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def save_model(model: Any, folder: Path, eos_ids: list[int], pad_id: int) -> None:
    """Weights, config and generation defaults. `eos_ids[0]` ends an answer; the others end a text."""
    from transformers import GenerationConfig

    ends: Any = eos_ids if len(eos_ids) > 1 else eos_ids[0]
    model.config.eos_token_id = ends
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad_id, do_sample=False)
    model.save_pretrained(folder)
