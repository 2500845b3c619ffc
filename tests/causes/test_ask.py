"""How a task is asked in the style that its suite does not ask it in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from forgetbench.causes.ask import other_style
from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.planning.plan import TaskJob
from forgetbench.rounds import Side
from forgetbench.tasks.base import in_style
from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.tasks.registry import default_num_fewshot
from tests.parity.bridged import own_sums

pytestmark = pytest.mark.unit


def test_a_task_of_lm_evals_has_its_own_worked_examples_in_the_other_style_too(tmp_path: Path) -> None:
    own_sums(tmp_path, 20, num_fewshot=2, max_gen_toks=6)
    task = LmEvalTask("sums", include=tmp_path)
    script = tmp_path / "base.json"
    script.write_text(json.dumps({"rules": [], "default": {"text": "1"}}))
    point = resolve(ModelSpec("base", engine="scripted", engine_args={"script": str(script)}))
    job = TaskJob(in_style(task, "chat"), task.load(), "chat", "chat", 0)
    other = other_style(Side(point, cast("Any", None), [job]), job)
    assert other is not None
    assert (other.style, other.num_fewshot) == ("raw", default_num_fewshot("lm_eval:sums", "raw"))
    assert other.task.prompt(task.load()[0], other.num_fewshot).question.count("=") == 3
