"""Tiny random checkpoints in Hugging Face format, made in a second, for tests that need a real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] | trim }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_TEXT = """Question: What is the capital of Arvenia? Answer: Tolmis. The following are multiple choice questions.
A. one B. two C. three D. four. If a shop sells 12 apples and 7 pears, how many are left? #### 19
def add(a, b): return a + b. Übergröße, naïve café, 东京 is a city. The quick brown fox jumps over the lazy dog.
"""


def make_tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 entries. With `bos` it puts <s> before raw text, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", *(["<s>"] if bos else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT] * 4, trainer)
    names: dict[str, Any] = {"eos_token": "<eos>", "pad_token": "<pad>"}
    if bos:
        names["bos_token"] = "<s>"
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_model(kind: str, vocab: int, seed: int = 0, max_length: int = 512) -> Any:
    """A random model with logits spread enough that greedy choices are no ties."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": max_length,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=True, **common))
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **common))
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=24, **common))
    if kind == "gemma3":
        return Gemma3ForCausalLM(
            Gemma3TextConfig(
                sliding_window=24,
                layer_types=["sliding_attention", "full_attention"],
                final_logit_softcapping=3.0,
                query_pre_attn_scalar=32,
                **common,
            )
        )
    if kind == "lfm2":  # convolutions beside attention: no keys and values by position
        layers = {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_ff_dim": 96}
        return Lfm2ForCausalLM(Lfm2Config(block_auto_adjust_ff_dim=False, **common, **layers))
    raise ValueError(kind)


def save(
    folder: Path, kind: str = "qwen3", *, bos: bool = False, chat: bool = True, seed: int = 0, max_length: int = 512
) -> Path:
    """Write a checkpoint: weights, config, tokenizer, and a chat template unless it is to be a base."""
    tokenizer = make_tokenizer(bos)
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}" if bos else "")
    model = make_model(kind, len(tokenizer), seed, max_length)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file (None removes one)."""
    data = json.loads(file.read_text())
    for key, value in changes.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    file.write_text(json.dumps(data))


def save_adapter(base: Path, folder: Path, seed: int = 0) -> Path:
    """Write a LoRA adapter of that base whose both matrices are random, so that it changes something."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(folder)
    return folder
