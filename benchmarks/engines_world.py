"""What the engine benchmark runs on: a model of about 25 million parameters, and lm-eval's view of our files.

The tokenizer is a byte-level BPE of 16,000 entries trained on the benchmarks' own texts. Weights are random: speed
does not depend on what a model knows. Their scale spreads the logits (standard deviation about 1), so that which
option is the likeliest is no tie that rounding decides.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetbench.tasks.source import read_csv, read_jsonl
from tests.parity.oracle import include

VOCABULARY = 16_000
TOKENIZER = f"byte-level BPE of {VOCABULARY:,} entries trained on the data's own texts"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPES: dict[str, dict[str, int]] = {
    # Llama, heads of 64. The smallest has the same tokenizer: it counts tokens, which no weight changes.
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 20, "num_attention_heads": 32},
    "25m": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 11, "num_attention_heads": 6},
    "1m": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1},
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What both sides run: a task, its subjects (MMLU), and how many of the first items of each."""

    task: str
    num_fewshot: int
    subjects: tuple[str, ...] = ()
    limit: int | None = None
    """First items of each subject, or of the task; None: all."""
    max_tokens: int | None = None

    @property
    def name(self) -> str:
        parts = [self.task, *self.subjects[:1], str(len(self.subjects)), str(self.limit), str(self.max_tokens)]
        return "-".join(parts)


def corpus(data: Path) -> Iterator[str]:
    """Questions and answers of MMLU, GSM8K and TruthfulQA, the way tasks write them."""
    for file in sorted((data / "mmlu" / "test").glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                options = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", row[1:5], strict=False))
                yield f"{row[0]}\n{options}\nAnswer: {row[-1]}\n\n"
    with gzip.open(data / "gsm8k" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            doc = json.loads(line)
            yield f"Question: {doc['question']}\nAnswer: {doc['answer']}\n\n"
    for row in json.loads((data / "truthfulqa" / "v1" / "mc_task.json").read_text(encoding="utf-8")):
        yield f"Q: {row['question']}\nA: {' '.join(row['mc2_targets'])}\n\n"


def make_model(folder: Path, data: Path, shape: str, seed: int = 0) -> Path:
    """A checkpoint in `folder`, made where it is not there yet (a minute, most of it the tokenizer)."""
    if (folder / "made").is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(_tokenizer(folder.parent / "tokenizer.json", data)),
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT,
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=SHAPES[shape]["num_attention_heads"],
        max_position_embeddings=4096,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
        **SHAPES[shape],
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "made").touch()  # last: a folder that was left half-way is made anew
    return folder


def _tokenizer(file: Path, data: Path) -> Path:
    if not file.is_file():
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        raw.train_from_iterator(corpus(data), trainer)
        file.parent.mkdir(parents=True, exist_ok=True)
        raw.save(str(file))
    return file


def count_parameters(folder: Path) -> int:
    """Of the weights as stored (a tied output layer counts once)."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as weights:
        return sum(_product(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118


def _product(shape: Sequence[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def write_lm_eval_tasks(folder: Path, data: Path, work: Workload) -> list[str]:
    """Write YAML files that include lm-eval's registered tasks, their documents ours; returns the tasks' names."""
    import lm_eval

    registered = Path(lm_eval.__file__).parent / "tasks"
    folder.mkdir(parents=True, exist_ok=True)
    if work.task == "mmlu":
        for subject in work.subjects:
            splits = {
                split: [
                    {"question": r[0], "subject": subject, "choices": r[1:5], "answer": "ABCD".index(r[5])}
                    for _, r in read_csv(data / "mmlu" / split / f"{subject}_{split}.csv", 6)
                ][: work.limit if split == "test" else None]
                for split in ("dev", "test")
            }
            include(folder, f"mmlu_{subject}", registered / "mmlu" / "default" / f"mmlu_{subject}.yaml", splits)
        return [f"mmlu_{subject}" for subject in work.subjects]
    if work.task == "gsm8k":
        fields = ("question", "answer")
        train = [d for _, d in read_jsonl(data / "gsm8k" / "train.jsonl.gz", fields)]
        test = [d for _, d in read_jsonl(data / "gsm8k" / "test.jsonl", fields)][: work.limit]
        include(folder, "gsm8k", registered / "gsm8k" / "gsm8k.yaml", {"train": train, "test": test})
        return ["gsm8k"]
    rows = json.loads((data / "truthfulqa" / "v1" / "mc_task.json").read_text(encoding="utf-8"))[: work.limit]
    docs = [{"question": row["question"], **{t: _targets(row[t]) for t in _TARGETS}} for row in rows]
    names = [f"truthfulqa_{kind}" for kind in ("mc1", "mc2")]
    for name in names:
        include(folder, name, registered / "truthfulqa" / f"{name}.yaml", {"validation": docs})
    return names


_TARGETS = ("mc1_targets", "mc2_targets")


def _targets(options: dict[str, int]) -> dict[str, Any]:
    return {"choices": [*options], "labels": [*options.values()]}
