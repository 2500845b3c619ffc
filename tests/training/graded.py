"""Graders that need no engine, and a world whose retention can be lost."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from forgetbench.training import fit
from forgetbench.training.retention import judge_with
from tests.training import tiny


class Scripted:
    """Gives the states of a list by step, and draws random numbers of every kind while it does."""

    def __init__(self, states: Mapping[int, str]) -> None:
        self.states, self.asked = states, list[str]()

    def grade(self, alias: str, folder: Path, say: Any) -> Any:
        import numpy as np
        import torch

        self.asked.append(alias)
        random.random()
        np.random.rand()
        torch.rand(3)
        torch.manual_seed(0)
        assert (folder / "model.safetensors").is_file()
        state = self.states[int(alias.split("-")[-1])]
        rule = SimpleNamespace(rule=SimpleNamespace(name="copy"), delta=-0.1)
        return SimpleNamespace(verdict=SimpleNamespace(state=state, reason="as told", rules=[rule]))


def scripted(states: Mapping[int, str]) -> Scripted:
    """Have runs of this process judged so, until the next call."""
    grader = Scripted(states)

    def judge_of(recipe: Any, root: Any, base: Any, output: Path, *rest: Any) -> Any:
        return None if recipe.retention is None else judge_with(grader, output.name, lambda _: None)  # type: ignore[arg-type]

    fit.judge_of = judge_of
    return grader


def world(folder: Path, **settings: Any) -> Path:
    """tiny.world with a suite (what is answered may be anything but a row of a's) and its policy."""
    tiny.world(folder, **settings)
    items = [{"task_type": "x/y", "prompt": f"q{i}", "references": ["^(?!a*$)"], "scorer": "regex"} for i in range(40)]
    tiny.write_jsonl(folder / "talk.jsonl", items)
    suite = {"name": "talk", "views": ["chat"], "tasks": [{"set": "talk.jsonl", "max_tokens": 6}]}
    rule = {"name": "talk", "task_type": "x", "view": "chat", "margin": 20, "min_n": 30, "max_truncated": 1.0}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    (folder / "policy.yaml").write_text(yaml.safe_dump({"name": "talk", "alpha": 0.05, "rules": [rule]}))
    return folder
