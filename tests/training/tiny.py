"""Models of a few thousand parameters and a byte tokenizer with a chat template, for the trainer's tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgetbench.demo.tokenizer import CHAT_TEMPLATE

SPECIALS = ("<|endoftext|>", "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHATML = (
    "{%- for m in messages -%}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>\n{% endif -%}"
)
"""No generation block; a line end behind each turn."""


def tokenizer(template: str | None = CHAT_TEMPLATE) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate([*SPECIALS, *alphabet])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=[s for s in SPECIALS if s not in ("<|end|>", "<|pad|>")],
    )
    made.chat_template = template
    return made


def model(kind: str = "Llama", vocabulary: int = 262, seed: int = 0, **settings: Any) -> Any:
    import torch
    import transformers

    special: dict[str, dict[str, Any]] = {
        "Mistral": {"sliding_window": 4},
        "Gemma3": {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    }
    config = getattr(transformers, "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config")
    torch.manual_seed(seed)
    return getattr(transformers, f"{kind}ForCausalLM")._from_config(
        config(
            **{
                "vocab_size": vocabulary,
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 8,
                "max_position_embeddings": 512,
                "initializer_range": 0.3,
                "eos_token_id": 2,
                "pad_token_id": 1,
                **special.get(kind, {}),
                **{k: v for k, v in settings.items() if k != "attn_implementation"},
            }
        ),
        attn_implementation=settings.get("attn_implementation", "sdpa"),
    )


def write_jsonl(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def world(folder: Path, **settings: Any) -> Path:
    """A folder with a base (`base/`), training, replay and held-out data."""
    tokenizer().save_pretrained(folder / "base")
    model(**settings).save_pretrained(folder / "base")
    rows = [
        {"prompt": f"q{i}", "answer": "a" * (1 + i % 5), "task_type": "x/even" if i % 2 == 0 else "x/odd"}
        for i in range(24)
    ]
    write_jsonl(folder / "data.jsonl", rows)
    write_jsonl(folder / "held.jsonl", rows[:5])
    (folder / "replay.txt").write_text("\n\n".join(f"some text {i}" for i in range(9)))
    return folder
