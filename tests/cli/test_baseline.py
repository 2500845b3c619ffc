"""The baseline lock on real run folders: what it accepts, what it refuses, and what it names."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.workspace import ITEMS, SHOTS, SUITE, script, write

Run = Callable[..., int]
pytestmark = pytest.mark.unit


@pytest.fixture
def here(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("compare", "base", "sft") == 0
    assert run("baseline", "set", "base") == 0
    capsys.readouterr()
    return tmp_path


def gate(run: Run, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = run("gate", "base", "sft", "--baseline", "baseline.lock.json", *more)
    return code, capsys.readouterr().err


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "baseline.lock.json"
    lock = json.loads(file.read_text(encoding="utf-8"))
    change(lock)
    file.write_text(json.dumps(lock), encoding="utf-8")


def test_the_file(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lock = json.loads((here / "baseline.lock.json").read_text(encoding="utf-8"))
    assert (lock["schema_version"], lock["alias"], lock["suite"]) == (1, "base", "tiny")
    assert lock["engine"]["name"] == "scripted"
    (task,) = lock["tasks"]
    assert (task["task"], task["view"], task["n_items"]) == ("sums", "ability", 200)
    assert list(task["scores"].values()) == [1.0]
    assert str(here) not in json.dumps(lock)
    assert gate(run, capsys) == (0, "")
    assert run("compare", "base", "sft", "--baseline", "baseline.lock.json") == 0


def test_a_run_made_again_elsewhere_still_matches(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Times are in the records and not in the lock."""
    shutil.rmtree(here / ".forgetbench")
    assert run("compare", "base", "sft", "--baseline", "baseline.lock.json") == 0
    capsys.readouterr()
    assert gate(run, capsys)[0] == 0


def test_a_base_that_answers_otherwise_is_refused(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "base.json").write_text(json.dumps(script(wrong=range(3))), encoding="utf-8")
    code = run("compare", "base", "sft", "--baseline", "baseline.lock.json")
    err = capsys.readouterr().err
    assert code == 12
    assert "baseline.lock.json: checkpoint: " in err
    assert "forgetbench baseline set base --out baseline.lock.json" in err
    assert "requests" not in err  # said before anything ran


def test_other_items_are_refused(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [*ITEMS[:-1], {**ITEMS[-1], "references": ["1000"]}]
    (here / "sums.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    assert run("compare", "base", "sft") in (0, 11)
    capsys.readouterr()
    code, err = gate(run, capsys)
    assert code == 12
    assert "sums (ability, greedy): " in err
    assert run("compare", "base", "sft", "--limit", "50", "--baseline", "baseline.lock.json") == 12
    assert "locked is" in capsys.readouterr().err


def test_another_suite_or_task_is_refused(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "more.jsonl").write_text("".join(json.dumps(x) + "\n" for x in ITEMS[:40]), encoding="utf-8")
    (here / "more.shots.jsonl").write_text(json.dumps(SHOTS[0]) + "\n", encoding="utf-8")
    more = {**copy.deepcopy(SUITE["tasks"][0]), "set": "more.jsonl", "fewshot": "more.shots.jsonl"}
    write(here, suite__yaml={**SUITE, "tasks": [SUITE["tasks"][0], more]})
    assert run("compare", "base", "sft", "--baseline", "baseline.lock.json") == 12
    assert "more (ability, greedy) is in the run and not locked" in capsys.readouterr().err
    write(here, suite__yaml={**SUITE, "name": "other"})
    code, err = gate(run, capsys)
    assert code == 12
    assert "suite is other, locked is tiny" in err


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda x: x.update(checkpoint="f" * 16, parts={**x["parts"], "weights": "0"}), 12, "checkpoint: weights is"),
        (lambda x: x.update(engine={**x["engine"], "name": "vllm"}), 12, "engine: name is scripted, locked is vllm"),
        (lambda x: x["tasks"][0].update(records_sha256="0" * 64), 12, "the answers differ, the scores do not"),
        (lambda x: x["tasks"][0].update(scores=dict.fromkeys(x["tasks"][0]["scores"], 0.5)), 12, "edited by hand"),
        (lambda x: x["tasks"][0].update(scorer_version="0"), 12, "scorer_version is"),
        (lambda x: x["tasks"][0].update(task="gone"), 12, "gone (ability, greedy) is locked and not in the run"),
        (lambda x: x.update(tasks=[]), 2, "`tasks` is []"),
        (lambda x: x.update(schema_version=2), 2, "`schema_version` is 2"),
        (lambda x: x.pop("parts"), 2, "`parts` is missing"),
        (lambda x: x.update(more=1), 2, "`more` is not a known key"),
    ],
)
def test_what_is_refused(
    here: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    code: int,
    message: str,
) -> None:
    edit(here, change)
    got, err = gate(run, capsys)
    assert got == code
    assert message in err
    assert "Traceback" not in err


def test_files_that_are_none(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("", "[]", "{", "\x00"):
        (here / "baseline.lock.json").write_text(content, encoding="utf-8")
        assert gate(run, capsys)[0] == 2
    (here / "baseline.lock.json").unlink()
    code, err = gate(run, capsys)
    assert (code, "there is no such baseline lock" in err) == (2, True)


def test_set_needs_a_complete_run(here: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "base.json").write_text(json.dumps(script(wrong=range(3))), encoding="utf-8")
    assert run("baseline", "set", "base") == 2
    assert "run it first: forgetbench run base" in capsys.readouterr().err
