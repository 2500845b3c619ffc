"""Small made-up files in the formats that results come in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from forgetbench.runs.importers.gather import Options, gather
from forgetbench.runs.importers.store import Imported
from forgetbench.tasks.base import Task

QUESTIONS = [f"How many legs do {n} tables and one more table of the same kind have?" for n in range(6)]


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lm_eval_row(n: int, filter_: str = "none", *, right: bool = True, **more: Any) -> dict[str, Any]:
    """A row as lm-eval 0.4.13 writes it."""
    question = QUESTIONS[n]
    return {
        "doc_id": n,
        "doc": {"question": question, "answer": str(4 * n + 4)},
        "target": str(4 * n + 4),
        "arguments": {"gen_args_0": {"arg_0": f"Q: {question}\nA:", "arg_1": {"until": ["\n"], "do_sample": False}}},
        "resps": [[f"I say {n}"]],
        "filtered_resps": [str(n)],
        "filter": filter_,
        "metrics": ["exact_match"],
        "doc_hash": "d" * 64,
        "prompt_hash": "p" * 64,
        "target_hash": "t" * 64,
        "exact_match": float(right),
        **more,
    }


def inspect_sample(n: int, epoch: int = 1, *, value: Any = "C", **more: Any) -> dict[str, Any]:
    """A sample as Inspect writes it."""
    return {
        "id": n,
        "epoch": epoch,
        "input": QUESTIONS[n],
        "target": str(4 * n + 4),
        "messages": [
            {"role": "system", "content": "Count."},
            {"role": "user", "content": QUESTIONS[n]},
            {"role": "assistant", "content": f"{n}!"},
        ],
        "output": {
            "model": "made/up",
            "choices": [{"message": {"role": "assistant", "content": f"{n}!"}, "stop_reason": "max_tokens"}],
            "usage": {"input_tokens": 20, "output_tokens": 3},
            "time": 0.5,
        },
        "scores": {"match": {"value": value, "answer": str(n), "explanation": f"said {n}"}},
        **more,
    }


def inspect_log(path: Path, samples: Iterable[Mapping[str, Any]], *, status: str = "success", **spec: Any) -> Path:
    header = {
        "version": 2,
        "status": status,
        "eval": {"task": "made/legs", "model": "made/up", "model_generate_config": {"temperature": 0.5}, **spec},
        "results": {},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
        log.writestr("_journal/start.json", json.dumps({"version": 2, "eval": header["eval"]}))
        for sample in samples:
            log.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        log.writestr("summaries.json", "[]")
        log.writestr("header.json", json.dumps(header))
    return path


def imported(path: Path, known: Task | None = None, **options: Any) -> list[Imported]:
    """The tasks of a file's only model."""
    options.setdefault("models", {"m": "m"})
    made, _ = gather([path], Options(**options), lambda name: known)
    (tasks,) = made.values()
    return tasks
