"""A small valid workspace on disk that broken variants are made from. No weights: the scripted engine answers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "models": {
        "base": {"path": "base.json", "engine": "scripted", "engine_args": {"script": "base.json"}},
        "sft": {"path": "sft.json", "engine": "scripted", "engine_args": {"script": "sft.json"}},
    },
    "suite": "suite.yaml",
    "policy": "policy.yaml",
}
SUITE: dict[str, Any] = {
    "name": "tiny",
    "views": ["ability"],
    "tasks": [
        {
            "set": "sums.jsonl",
            "fewshot": "sums.shots.jsonl",
            "scorer": "exact",
            "raw": {"question": "Q: {prompt}\nA:", "delimiter": " ", "separator": "\n\n", "num_fewshot": 1},
            "chat": {"question": "{prompt}", "num_fewshot": 0},
            "stop": ["\n"],
            "max_tokens": 8,
        }
    ],
}
POLICY: dict[str, Any] = {
    "name": "strict",
    "alpha": 0.05,
    "rules": [{"name": "sums", "task_type": "reasoning/sum", "margin": 5, "min_n": 1}],
}
ITEMS: list[dict[str, Any]] = [
    {"id": f"i{n}", "task_type": "reasoning/sum", "prompt": f"{n} + 1", "references": [str(n + 1)]} for n in range(200)
]
SHOTS: list[dict[str, Any]] = [
    {"id": "s0", "task_type": "reasoning/sum", "prompt": "900 + 1", "references": ["901"], "scorer": "exact"}
]


def script(wrong: range = range(0)) -> dict[str, Any]:
    """Right answers to all items but those in `wrong`."""
    return {
        "rules": [{"match": f"Q: {n} + 1\nA:", "text": str(n + 1) if n not in wrong else "none"} for n in range(200)]
    }


def write(folder: Path, **override: Any) -> Path:
    """Write the workspace; keyword arguments replace one file's content (text, bytes, or data)."""
    files: dict[str, Any] = {
        "forgetbench.yaml": copy.deepcopy(CONFIG),
        "suite.yaml": copy.deepcopy(SUITE),
        "policy.yaml": copy.deepcopy(POLICY),
        "sums.jsonl": ITEMS,
        "sums.shots.jsonl": SHOTS,
        "base.json": script(),
        "sft.json": script(),
    }
    files |= {key.replace("__", "."): value for key, value in override.items()}
    for name, content in files.items():
        path = folder / name
        if content is None:
            continue
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
        elif name.endswith(".json"):
            path.write_text(json.dumps(content), encoding="utf-8")
        else:
            path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder / "forgetbench.yaml"
