"""A tiny base that knows twenty answers, training data that knows others, and a sweep over both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.training import tiny

KNOWN = [(f"q{i}", "abcdefghij"[i % 10]) for i in range(20)]
NEW = [(f"n{i}", "z") for i in range(20)]


def _set(pairs: list[tuple[str, str]], task_type: str) -> list[dict[str, Any]]:
    return [
        {"id": p, "task_type": task_type, "prompt": p, "references": [a], "scorer": "exact", "cluster": p}
        for p, a in pairs
    ]


def _yaml(file: Path, content: Any) -> None:
    file.write_text(yaml.safe_dump(content))


def base(folder: Path) -> Path:
    """Train the base into `folder`/base: about 400 steps of a model of 6,000 parameters."""
    import torch

    from forgetbench.training.fit import run
    from forgetbench.training.recipe import Recipe

    torch.set_num_threads(1)
    tiny.world(folder / "raw", hidden_size=32, intermediate_size=64, head_dim=16)
    tiny.write_jsonl(
        folder / "known.jsonl", [{"prompt": p, "answer": a, "task_type": "known/letter"} for p, a in KNOWN]
    )
    recipe = Recipe.model_validate(
        {
            "base": "raw",
            "data": [{"path": "known.jsonl"}],
            "lr": 5e-3,
            "steps": 300,
            "batch": {"samples": 20},
            "loss": {"reduction": "per_sample"},
            "weight_decay": 0.0,
        }
    )
    return run(recipe, folder, str(folder / "raw" / "base"), folder / "base-run")


def write(folder: Path, model: Path, **sweep: Any) -> Path:
    """A workspace around the base, with a sweep of the learning rate; returns sweep.yaml."""
    tiny.write_jsonl(folder / "new.jsonl", [{"prompt": p, "answer": a, "task_type": "new/letter"} for p, a in NEW])
    tiny.write_jsonl(folder / "known.set.jsonl", _set(KNOWN, "known/letter"))
    tiny.write_jsonl(folder / "new.set.jsonl", _set(NEW, "new/letter"))
    tasks = [{"set": f"{name}.set.jsonl", "name": name, "stop": ["\n"], "max_tokens": 4} for name in ("known", "new")]
    _yaml(folder / "suite.yaml", {"name": "tiny", "views": ["chat"], "tasks": tasks})
    rule = {"name": "known", "task_type": "known", "view": "chat", "margin": 5, "max_truncated": 1.0}
    _yaml(folder / "policy.yaml", {"name": "tiny", "rules": [rule]})
    _yaml(folder / "forgetbench.yaml", {"models": {"base": {"path": str(model)}}})
    recipe = {
        "base": "base",
        "data": [{"path": "new.jsonl"}],
        "lr": 1e-3,
        "steps": 20,
        "batch": {"samples": 20},
        "loss": {"reduction": "per_sample"},
        "scheduler": "constant",
        "warmup": 0,
    }
    _yaml(folder / "recipe.yaml", recipe)
    settings = {
        "recipe": "recipe.yaml",
        "sweep": {"key": "lr", "low": 1e-6, "high": 3e-2},
        "suite": "suite.yaml",
        "policy": "policy.yaml",
        "margin": 25,
        "target": ["new/letter"],
        "points": 6,
        **sweep,
    }
    _yaml(folder / "sweep.yaml", settings)
    return folder / "sweep.yaml"
