"""`forgetbench run` and `compare` on a suite with lm-eval's tasks, found in a folder beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from forgetbench.runs.store import list_runs
from tests.engines import tiny
from tests.parity.bridged import own, own_sums

from .conftest import Run

pytestmark = pytest.mark.unit
SENTENCES = [
    {"sentence": "The cup fits the box since the _ is small.", "option1": "cup", "option2": "box", "answer": 1},
    {"sentence": "The cat fled the dog since the _ was loud.", "option1": "cat", "option2": "dog", "answer": 2},
    {"sentence": "The key opens the lock since the _ is right.", "option1": "key", "option2": "lock", "answer": 1},
]


def write(folder: Path) -> Path:
    yamls = folder / "tasks"
    yamls.mkdir()
    before, after = "sentence.split('_')[0]", "sentence.split('_')[1]"
    own(
        yamls, "blanks", SENTENCES, output_type="multiple_choice", doc_to_text="{{answer - 1}}",
        doc_to_target="{{" + after + ".strip()}}", metric_list=[{"metric": "acc"}],
        doc_to_choice="{{[" + before + " + option1, " + before + " + option2]}}",
    )  # fmt: skip
    own_sums(yamls, 4, num_fewshot=1, max_gen_toks=4)
    suite = {
        "name": "bridged",
        "views": ["ability", "chat"],
        "tasks": [
            {"task": "lm_eval:blanks", "include": "tasks", "task_type": "reasoning"},
            {"task": "lm_eval:sums", "include": "tasks", "limit": 2, "max_tokens": 3, "name": "adding"},
        ],
    }
    models = {
        name: {"path": str(tiny.save(folder / name, seed=seed)), "dtype": "float32", "engine_args": {"device": "cpu"}}
        for seed, name in enumerate(("base", "sft"))
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    config = folder / "forgetbench.yaml"
    config.write_text(yaml.safe_dump({"models": models, "suite": "suite.yaml"}), encoding="utf-8")
    return config


def test_run_and_compare(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path)
    assert run("run", "base", "--config", str(config)) == 0
    [stored] = list_runs(tmp_path / ".forgetbench/runs")
    records = stored.read_records()
    assert Counter((r.task, r.view) for r in records) == {
        ("blanks", "ability"): 3, ("blanks", "chat"): 3, ("adding", "ability"): 2, ("adding", "chat"): 2,
    }  # fmt: skip
    assert {r.outcome for r in records} <= {"ok", "truncated", "unparsed"}
    assert {r.task_type for r in records} == {"reasoning/blanks", "sums/sums"}
    blanks = [r for r in records if r.task == "blanks"]
    assert all(len(r.extra["choice_logprobs"]) == 2 and "+" in (r.request_id or "") for r in blanks)
    assert [r.gold for r in blanks[:2]] == ["The cup fits the box since the cup", "The cat fled the dog since the dog"]
    assert {r.n_output_tokens for r in records if r.task == "adding"} <= {0, 1, 2, 3}
    before = {p: p.stat().st_mtime_ns for p in stored.path.rglob("*.parquet")}
    capsys.readouterr()
    code = run("compare", "base", "sft", "--config", str(config))
    assert code in (0, 10, 11), capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in before} == before  # the base was not asked again
    out = capsys.readouterr().out
    assert "reasoning" in out
    assert "sums" in out


def test_a_name_that_lm_eval_does_not_have(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path)
    file = tmp_path / "suite.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("lm_eval:sums", "lm_eval:sum"), encoding="utf-8")
    assert run("run", "base", "--config", str(config)) == 2
    assert "did you mean 'sums'?" in capsys.readouterr().err
