"""What a verdict is made with: the same digits as long as nothing that is asked has changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from forgetbench.training.grading import open_grader
from tests.training import graded

pytestmark = pytest.mark.unit


def _context(folder: Path, **model: object) -> str:
    config = {"models": {"b": {"path": "base", **model}}, "suite": "suite.yaml", "policy": "policy.yaml"}
    (folder / "forgetbench.yaml").write_text(yaml.safe_dump(config))
    return open_grader("b", config=folder / "forgetbench.yaml").context


def _shots(folder: Path, *answers: str) -> None:
    rows = [{"task_type": "x/y", "prompt": f"s{i}", "references": [a]} for i, a in enumerate(answers)]
    (folder / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_context_is_that_of_what_is_asked(tmp_path: Path) -> None:
    folder = graded.world(tmp_path)
    loaded = set(sys.modules)
    entry = {"set": "talk.jsonl", "fewshot": "shots.jsonl", "max_tokens": 6, "chat": {"num_fewshot": 2}}
    (folder / "suite.yaml").write_text(yaml.safe_dump({"name": "talk", "views": ["chat"], "tasks": [entry]}))
    _shots(folder, "a", "b", "c")
    first = _context(folder)
    assert _context(folder) == first
    assert len(first) == 16

    others = {
        _context(folder, dtype="bfloat16"),
        _context(folder, engine="vllm"),
        _context(folder, engine_args={"max_length": 32}),
    }
    _shots(folder, "a", "bb", "c")  # the very file that the suite names, with other words in it
    others.add(_context(folder))
    assert len(others - {first}) == 4
    _shots(folder, "a", "b", "c")
    assert _context(folder) == first
    waiver = {"rule": "talk", "reason": "known", "owner": "me", "until": "2999-01-01", "max_drop": 50}
    (folder / "waivers.yaml").write_text(yaml.safe_dump({"waivers": [waiver]}))
    config = yaml.safe_load((folder / "forgetbench.yaml").read_text())
    (folder / "forgetbench.yaml").write_text(yaml.safe_dump({**config, "waivers": "waivers.yaml"}))
    assert open_grader("b", config=folder / "forgetbench.yaml").context != first
    assert "vllm" not in set(sys.modules) - loaded  # no engine was begun
