"""The code tasks from the command line: refused without a sandbox before anything is asked, run with
`--unsafe-exec`, and every result says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.runs.store import open_run
from forgetbench.scoring.sandbox import Result, host
from forgetbench.tasks import code
from forgetbench.types import Record

from .conftest import Run

N = 12


def problem(n: int) -> dict[str, str]:
    return {
        "task_id": f"HumanEval/{n}",
        "prompt": f'def add{n}(x):\n    """Add {n}."""\n',
        "canonical_solution": f"    return x + {n}\n",
        "entry_point": f"add{n}",
        "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "data" / "humaneval").mkdir(parents=True)
    rows = "".join(json.dumps(problem(n)) + "\n" for n in range(N))
    (tmp_path / "data" / "humaneval" / "HumanEval.jsonl").write_text(rows, encoding="utf-8")
    models = {}
    for alias, wrong in (("base", ()), ("sft", range(4))):
        rules = [
            {"match": f"def add{n}(", "text": "    return None" if n in wrong else f"    return x + {n}"}
            for n in range(N)
        ]
        (tmp_path / f"{alias}.json").write_text(json.dumps({"rules": rules}), encoding="utf-8")
        script = f"{alias}.json"
        models[alias] = {"path": script, "engine": "scripted", "engine_args": {"script": script}}
    suite = {"name": "code", "views": ["ability"], "tasks": [{"task": "humaneval"}]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    settings: dict[str, Any] = {"models": models, "suite": "./suite.yaml", "paths": {"data": "data"}}
    file = tmp_path / "forgetbench.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_shared", {})
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == "bwrap" else which(name, *rest))


def records(folder: Path) -> dict[str, list[Record]]:
    runs = [open_run(m.parent) for m in sorted(folder.glob(".forgetbench/runs/*/manifest.json"))]
    return {run.alias: run.read_records() for run in runs}


@pytest.mark.usefixtures("no_sandbox")
def test_refused_before_anything_is_asked(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "base", "sft", "--config", str(config)) == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if "no sandbox" in x]
    assert "bwrap is not installed" in line
    assert "--unsafe-exec" in line
    assert not list(config.parent.glob("**/responses/*"))
    # What runs nothing needs no sandbox.
    assert run("compare", "--plan", "base", "sft", "--config", str(config)) == 0
    assert run("validate", "--config", str(config)) == 0


@pytest.mark.usefixtures("no_sandbox")
def test_unsafe_results_say_so(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "base", "sft", "--config", str(config), "--unsafe-exec", "--json") in (10, 11)
    verdict = json.loads(capsys.readouterr().out)
    assert "without a sandbox (--unsafe-exec)" in json.dumps(verdict)
    report = Path(verdict["report"]).read_text(encoding="utf-8")
    assert "without a sandbox (--unsafe-exec)" in report
    for alias, wrong in (("base", 0), ("sft", 4)):
        rows = records(config.parent)[alias]
        assert sum(r.scores["pass@1"] for r in rows) == N - wrong
        assert all("It ran without a sandbox" in r.why for r in rows)
    # The gate finds them by the same flag only: without it they are other results.
    assert run("gate", "base", "sft", "--config", str(config), "--unsafe-exec") in (10, 11)
    assert run("gate", "base", "sft", "--config", str(config)) == 2


def test_what_the_sandbox_failed_on_is_scored_again(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        def __init__(self, outcome: Any) -> None:
            self.outcome, self.runs = outcome, 0

        def run(self, program: Any) -> Result:
            self.runs += 1
            return Result(self.outcome, "the sandbox failed: it does not answer")

    failing, working = Failing("infra_error"), Failing("pass")
    monkeypatch.setattr(code, "get_sandbox", lambda unsafe: failing)
    assert run("run", "base", "--config", str(config)) == 0
    assert {r.outcome for r in records(config.parent)["base"]} == {"infra_error"}
    monkeypatch.setattr(code, "get_sandbox", lambda unsafe: working)
    assert run("run", "base", "--config", str(config)) == 0
    assert {r.outcome for r in records(config.parent)["base"]} == {"ok"}
    assert (failing.runs, working.runs) == (N, N)
    assert run("run", "base", "--config", str(config)) == 0
    assert working.runs == N  # done: nothing is scored a third time
    capsys.readouterr()
