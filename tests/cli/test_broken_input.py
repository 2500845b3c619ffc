"""Every mistake a user can write gets one clear line and exit 2; never a traceback, never a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import workspace
from .broken import Case, cases
from .conftest import Run

pytestmark = pytest.mark.unit

CASES = cases()


def test_there_are_two_hundred_of_them() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_one_clear_line_and_exit_2(case: Case, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = case.make(tmp_path)
    code = run("compare", "base", "sft", "--config", str(config))
    out, err = capsys.readouterr()
    assert code == 2, f"exit {code}: {err}"
    assert out == ""
    lines = err.strip().splitlines()
    assert lines, "nothing was said"
    for line in lines:
        assert line.startswith("forgetbench: "), line
        assert len(line) < 600, line
        assert "; " in line, f"no cure: {line}"
    assert "Traceback" not in err
    assert case.mentions in err, err
    assert not list(tmp_path.glob(".forgetbench/runs/*/manifest.json")), "something was run"


def test_the_unbroken_workspace_passes(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the cases above could fail for a reason that is not theirs."""
    config = workspace.write(tmp_path)
    assert run("validate", "--config", str(config)) == 0, capsys.readouterr().err


def test_all_mistakes_of_a_file_are_told_at_once(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(
        tmp_path, sums__jsonl='{"task_type": "a/b"}\n{"prompt": "x", "references": ["y"]}\nnot json\n'
    )
    assert run("validate", "--config", str(config)) == 2
    err = capsys.readouterr().err
    assert all(f"sums.jsonl:{n}" in err for n in (1, 2, 3)), err


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "base", "nobody"),
        ("compare", "base", "sft", "--engine", "warp"),
        ("compare", "base", "sft", "--limit", "0"),
        ("compare", "base", "sft", "--limit", "many"),
        ("compare", "base", "sft", "--suite", "nothing"),
        ("compare", "base", "sft", "--suite", "no/such.yaml"),
        ("compare", "base", "sft", "--policy", "nothing"),
        ("compare", "base", "sft", "--data-dir", "no/such/folder"),
        ("compare", "base", "sft", "--no-such-flag"),
        ("compare", "base"),
        ("compare", "base", "base", "sft"),
        ("run", "nobody"),
        ("report", "base", "sft", "--out", "/proc/no/such.html"),
        ("no-such-command",),
    ],
    ids=" ".join,
)
def test_flags(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    config = workspace.write(tmp_path)
    more = () if arguments == ("no-such-command",) else ("--config", str(config))
    if arguments[0] == "report":
        assert run("run", "base", "sft", *more) == 0
    assert run(*arguments, *more) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_config_is_told(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["compare", "base", "sft"], ["validate"], ["run", "base"]):
        assert run(*command) == 2
        assert "forgetbench init" in capsys.readouterr().err
    assert run("ls") == 0
    assert run("compare", "base", "sft", "--config", "absent.yaml") == 2
    assert "absent.yaml" in capsys.readouterr().err
