"""Tiny checkpoints in Hugging Face format: seeded, fp32, trained tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def build(folder: Path, corpus: list[str], *, bos: bool, train_steps: int, seed: int = 0) -> Path:
    """Write a checkpoint of hidden size 64, 2 layers, head size 32, 1,500 tokens; returns its folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

    torch.set_num_threads(1)
    special = ["<|begin|>", "<|end|>"] if bos else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator(corpus, trainer)
    if bos:
        begin = raw.token_to_id("<|begin|>")
        raw.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", begin)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|begin|>" if bos else None,
        eos_token="<|end|>" if bos else "<|im_end|>",
        pad_token="<|end|>" if bos else "<|endoftext|>",
        chat_template=WITH_BOS if bos else CHATML,
    )
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 6144,
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes) if bos else Qwen3Config(**sizes))
    if train_steps:
        _train(model, tokenizer, [_shortened(t) for t in corpus[:400]], train_steps)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _shortened(text: str) -> str:
    """Worked examples whose answers are a line or two, so that most generations reach the next question."""
    question, answer = text.split("\nAnswer: ", 1)
    return f"{question[:90]}\nAnswer: {' '.join(answer.split(chr(10))[-4:])}\n\n"


def _train(model, tokenizer, texts, steps):  # type: ignore[no-untyped-def]
    """A little next-token training: enough to write digits, line ends and the next question by itself."""
    import torch

    text = "".join(texts)
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(0, len(ids) - 129, (8,), generator=generator)
        batch = torch.stack([ids[s : s + 128] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
