"""lm-eval 0.4.13 itself, offline, on the same files as ours, with a tiny model.

The test converts the original files to the layout that lm-eval loads and writes YAML files that *include* the
registered ones by absolute path: prompts, shots, filters and metrics are lm-eval's own.
"""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.tasks.gsm8k import Gsm8k
from forgetbench.tasks.mmlu import SUBJECTS, Mmlu
from forgetbench.tasks.source import DataSource, read_csv, read_jsonl

from . import tiny

PER_SUBJECT = 2
GSM8K_ITEMS = 50


@pytest.fixture(scope="session")
def mmlu(data_dir: Path) -> Mmlu:
    return Mmlu(DataSource(data_dir=data_dir))


@pytest.fixture(scope="session")
def gsm8k(data_dir: Path) -> Gsm8k:
    return Gsm8k(DataSource(data_dir=data_dir))


@pytest.fixture(scope="session")
def lm_eval_manager(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """lm-eval's TaskManager over YAML files that load our data: mmlu_<subject> (first items), gsm8k (whole)."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    registered = Path(lm_eval.__file__).parent / "tasks"
    folder = tmp_path_factory.mktemp("lm_eval_tasks")

    def write(name: str, include: Path, splits: dict[str, list[dict[str, Any]]]) -> None:
        files = {}
        for split, docs in splits.items():
            path = folder / f"{name}_{split}.jsonl"
            path.write_text("".join(json.dumps(d) + "\n" for d in docs), encoding="utf-8")
            files[split] = str(path)
        entry = {
            "include": str(include),
            "task": name,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")

    for subject in SUBJECTS:
        splits = {}
        for split, limit in (("dev", None), ("test", PER_SUBJECT)):
            rows = read_csv(data_dir / "mmlu" / split / f"{subject}_{split}.csv", 6)
            splits[split] = [
                {"question": r[0], "subject": subject, "choices": r[1:5], "answer": "ABCD".index(r[5])} for _, r in rows
            ][:limit]
        write(f"mmlu_{subject}", registered / "mmlu" / "default" / f"mmlu_{subject}.yaml", splits)
    fields = ("question", "answer")
    write(
        "gsm8k",
        registered / "gsm8k" / "gsm8k.yaml",
        {
            "train": [d for _, d in read_jsonl(data_dir / "gsm8k" / "train.jsonl.gz", fields)],
            "test": [d for _, d in read_jsonl(data_dir / "gsm8k" / "test.jsonl", fields)],
        },
    )
    return TaskManager(include_defaults=False, include_path=str(folder))


@pytest.fixture(scope="session")
def corpus(data_dir: Path) -> list[str]:
    """Text to train tiny tokenizers and models on."""
    with gzip.open(data_dir / "gsm8k" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        docs = [json.loads(line) for line in lines]
    texts = [f"Question: {d['question']}\nAnswer: {d['answer']}\n\n" for d in docs[:400]]
    for path in sorted((data_dir / "mmlu" / "dev").glob("*.csv")):
        texts += [f"{r[0]}\nA. {r[1]}\nB. {r[2]}\nAnswer: {r[5]}\n\n" for _, r in read_csv(path, 6)]
    return texts


@pytest.fixture(scope="session")
def qwen_folder(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-type checkpoint: no BOS, ChatML template, trained a little so that it stops and counts."""
    return tiny.build(tmp_path_factory.mktemp("tiny_qwen3"), corpus, bos=False, train_steps=120)


@pytest.fixture(scope="session")
def llama_folder(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama-type checkpoint: the tokenizer adds BOS, and the template writes BOS itself. Random weights."""
    return tiny.build(tmp_path_factory.mktemp("tiny_llama"), corpus, bos=True, train_steps=0)
