"""--verdict-json, --junit, --comment, --gitlab, --github: what is written says how the command ended, however it did."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from forgetbench import resources

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)


def _flags(folder: Path) -> list[str]:
    named = {"--verdict-json": "v.json", "--junit": "j.xml", "--comment": "c.md", "--gitlab": "g.json"}
    return [text for flag, name in named.items() for text in (flag, str(folder / name))]


def _agree(folder: Path, code: int) -> None:
    """All four files there, each saying what the exit code says."""
    told = json.loads((folder / "v.json").read_text(encoding="utf-8"))
    schema = json.loads(resources.path("configs", "schemas", "verdict.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(told)
    assert told["exit_code"] == code
    top = ET.parse(folder / "j.xml")
    assert bool(top.findall(".//failure") + top.findall(".//error")) == (code != 0)
    word = {0: "Pass", 10: "Blocked", 11: "Inconclusive"}.get(code, "No verdict")
    assert word in (folder / "c.md").read_text(encoding="utf-8").splitlines()[1]
    assert bool(json.loads((folder / "g.json").read_text(encoding="utf-8"))) == (code != 0)


@pytest.mark.parametrize(("wrong", "code"), [(0, 0), (60, 10), (7, 11)])
def test_gate_and_compare_write_what_they_exit_with(run: Run, tmp_path: Path, wrong: int, code: int) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(wrong)))
    for command in ("compare", "gate"):
        out = tmp_path / "out" / command
        assert run(command, "base", "sft", "-c", str(config), *_flags(out)) == code
        _agree(out, code)


def test_an_earlier_candidate_that_is_blocked_does_not_turn_the_files_red(run: Run, tmp_path: Path) -> None:
    models = copy.deepcopy(workspace.CONFIG)
    models["models"]["worse"] = {"path": "w.json", "engine": "scripted", "engine_args": {"script": "w.json"}}
    config = workspace.write(tmp_path, forgetbench__yaml=models, w__json=workspace.script(wrong=range(60)))
    assert run("compare", "base", "worse", "sft", "-c", str(config), *_flags(tmp_path)) == 0
    top = ET.parse(tmp_path / "j.xml")
    assert not top.findall(".//failure")
    assert next(s.get("message", "")[:27] for s in top.findall(".//skipped")) == "a later candidate decides; "
    assert json.loads((tmp_path / "v.json").read_text())["state"] == "PASS"
    assert run("compare", "base", "sft", "worse", "-c", str(config), *_flags(tmp_path)) == 10
    _agree(tmp_path, 10)


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"policy__yaml": "name: x\nrules: []\n"}, 2),
        ({"forgetbench__yaml": "models: {\n"}, 2),
        ({"suite__yaml": None}, 2),
    ],
    ids=["policy", "config", "suite"],
)
def test_an_old_pass_never_outlives_an_error(run: Run, tmp_path: Path, broken: dict[str, str], code: int) -> None:
    config = workspace.write(tmp_path)
    assert run("compare", "base", "sft", "-c", str(config), *_flags(tmp_path)) == 0
    _agree(tmp_path, 0)
    (tmp_path / "suite.yaml").unlink()
    workspace.write(tmp_path, **broken)
    for command in ("compare", "gate"):
        assert run(command, "base", "sft", "-c", str(config), *_flags(tmp_path)) == code
        _agree(tmp_path, code)
        told = json.loads((tmp_path / "v.json").read_text())
        assert told["state"] == "ERROR"
        assert told["errors"]


def test_a_killed_command_leaves_no_old_pass(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = workspace.write(tmp_path)
    assert run("compare", "base", "sft", "-c", str(config), *_flags(tmp_path)) == 0
    from forgetbench import flow

    seen = []

    def killed(*_: object) -> None:
        seen.extend(sorted(p.name for p in tmp_path.glob("[vjcg].*")))
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "policies", killed)
    assert run("gate", "base", "sft", "-c", str(config), *_flags(tmp_path)) == 130
    assert seen == []
    _agree(tmp_path, 130)
    monkeypatch.setattr(flow, "policies", lambda *_: 1 / 0)
    assert run("gate", "base", "sft", "-c", str(config), *_flags(tmp_path)) == 1
    _agree(tmp_path, 1)
    assert "ZeroDivisionError" in json.loads((tmp_path / "v.json").read_text())["errors"][0]


def test_what_goes_wrong_after_the_verdict_takes_it_back(run: Run, tmp_path: Path) -> None:
    """The exit code is 2, so no file may say pass: neither where the report nor where one of the files fails."""
    config = workspace.write(tmp_path)
    report = ("--report", "/proc/no/such.html")
    assert run("compare", "base", "sft", "-c", str(config), *_flags(tmp_path), *report) == 2
    _agree(tmp_path, 2)
    from forgetbench.runs import files

    real = files.atomic_write

    def full(path: Path, blob: bytes) -> None:
        if path.suffix == ".md":
            raise files.DiskFullError(path)
        real(path, blob)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "atomic_write", full)
        assert run("gate", "base", "sft", "-c", str(config), *_flags(tmp_path)) == 1
    assert json.loads((tmp_path / "v.json").read_text())["state"] == "ERROR"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--junit", "policy.yaml"), "--junit: 'policy.yaml' is no .xml file; choose a name that ends in .xml"),
        (("--verdict-json", "verdict"), "--verdict-json: 'verdict' is no .json file"),
        (("--comment", "suite.yaml"), "is no .md file"),
        (("--verdict-json", "a.json", "--gitlab", "./a.json"), "name the same file twice"),
        (("--junit", "/proc/no/such.xml"), "--junit: '/proc/no/such.xml' cannot be written"),
        (("--junit", "folder.xml"), "--junit: 'folder.xml' cannot be written"),
        (("--junit", "base.json/x.xml"), "cannot be written"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_a_file_that_cannot_be_is_told_before_anything_runs(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    told: str,
) -> None:
    config = workspace.write(tmp_path)
    (tmp_path / "folder.xml").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    monkeypatch.chdir(tmp_path)
    assert run("compare", "base", "sft", "-c", str(config), *flags) == 2
    assert told in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert not (tmp_path / ".forgetbench").exists()


def test_findings_are_pinned_to_the_policy_or_the_config(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    monkeypatch.chdir(tmp_path)

    def path(*more: str) -> str:
        assert run("compare", "base", "sft", "--gitlab", "g.json", *more) == 10
        (found,) = {f["location"]["path"] for f in json.loads((tmp_path / "g.json").read_text())}
        return str(found)

    assert path() == "forgetbench.yaml"
    assert path("--policy", str(tmp_path / "policy.yaml")) == "policy.yaml"
    monkeypatch.setenv("CI_PROJECT_DIR", str(tmp_path.parent))
    assert path("-c", "forgetbench.yaml") == f"{tmp_path.name}/forgetbench.yaml"


# GitHub


def _obeyed(text: str) -> list[str]:
    """The commands that the runner obeys in a step's output (actions/runner, ActionCommandManager)."""
    token, found = None, []
    for line in text.splitlines():
        command = line.strip()
        if token is not None:
            token = None if command == f"::{token}::" else token
        elif command.startswith("::stop-commands::"):
            token = command.removeprefix("::stop-commands::")
        elif re.match(r"::[\w-]+( .*?)?::", command) or "##[" in command:
            found.append(command)
    assert token is None, "the runner is left deaf"
    return found


def test_github_gets_annotations_and_a_summary_and_obeys_nothing_else(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task_type out of a data file is printed at the start of a line, and is no command."""
    evil = "::add-mask::evil"
    items, shots = ([{**i, "task_type": f"{evil}/x"} for i in each] for each in (workspace.ITEMS, workspace.SHOTS))
    policy = {"name": "p", "rules": [{"name": "::warning::evil", "task_type": evil, "margin": 5}]}
    config = workspace.write(
        tmp_path,
        **{"sums.shots__jsonl": shots},
        sums__jsonl=items,
        policy__yaml=policy,
        sft__json=workspace.script(wrong=range(60)),
    )
    file = tmp_path / "summary.md"
    file.write_text("what an earlier step wrote\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    assert run("compare", "base", "sft", "-c", str(config)) == 10
    out = capsys.readouterr().out
    assert "\n::add-mask::evil" in out, "this test tries nothing"
    commands = _obeyed(out)
    assert [c.split("::")[1].partition(" ")[0] for c in commands] == ["error", "error"]
    assert "lost 30.0 points" in commands[0]
    written = file.read_text(encoding="utf-8")
    assert written.startswith("what an earlier step wrote\n### ✕ Blocked: sft against base")
    assert run("compare", "base", "sft", "-c", str(config), "--no-github") == 10
    assert "stop-commands" not in capsys.readouterr().out
    assert file.read_text(encoding="utf-8") == written


def test_json_stays_alone_on_stdout(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    assert run("compare", "base", "sft", "-c", str(config), "--github", "--json") == 10
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 10
    assert len(_obeyed(err)) == 2


def test_github_is_told_of_an_error_and_not_left_deaf(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = workspace.write(tmp_path, policy__yaml="name: x\nrulez: []\n")
    assert run("gate", "base", "sft", "-c", str(config), "--github") == 2
    assert any(
        c.startswith("::error title=forgetbench%3A verdict no verdict::") for c in _obeyed(capsys.readouterr().out)
    )
    plan = workspace.write(tmp_path)
    assert run("compare", "base", "sft", "-c", str(plan), "--github", "--plan") == 0
    assert _obeyed(capsys.readouterr().out) == []


def test_a_summary_that_cannot_be_written_changes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert run("compare", "base", "sft", "-c", str(workspace.write(tmp_path)), "--github") == 0
    assert "GITHUB_STEP_SUMMARY" in capsys.readouterr().err
