"""The commands end to end on the scripted engine: exit codes, what they print, what they leave on disk."""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit


def _compare(run: Run, config: Path, *more: str) -> int:
    return run("compare", "base", "sft", "--config", str(config), *more)


def test_no_change_passes(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config) == 0
    out = capsys.readouterr().out
    assert "Pass" in out
    assert (tmp_path / ".forgetbench/reports/base-sft.html").is_file()


def test_a_proven_loss_blocks(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    assert _compare(run, config) == 10
    assert "-30.0" in capsys.readouterr().out.replace("−", "-")


def test_a_doubtful_loss_is_inconclusive(run: Run, tmp_path: Path) -> None:
    assert _compare(run, workspace.write(tmp_path, sft__json=workspace.script(wrong=range(7)))) == 11


def test_few_items_never_pass(run: Run, tmp_path: Path) -> None:
    """Twenty equal answers exclude no loss of five points."""
    assert _compare(run, workspace.write(tmp_path), "--limit", "20") == 11


def test_a_gain_passes(run: Run, tmp_path: Path) -> None:
    assert _compare(run, workspace.write(tmp_path, base__json=workspace.script(wrong=range(60)))) == 0


def test_base_against_itself_passes(run: Run, tmp_path: Path) -> None:
    assert run("compare", "base", "base", "--config", str(workspace.write(tmp_path))) == 0


def test_several_candidates_end_in_the_verdict_of_the_last(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy.deepcopy(workspace.CONFIG)
    config["models"]["worse"] = {
        "path": "worse.json",
        "engine": "scripted",
        "engine_args": {"script": "worse.json"},
    }
    file = workspace.write(tmp_path, forgetbench__yaml=config, worse__json=workspace.script(wrong=range(60)))
    assert run("compare", "base", "worse", "sft", "--config", str(file), "--json") == 0
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    assert [(v["candidate"], v["state"]) for v in verdicts] == [("worse", "FAIL"), ("sft", "PASS")]
    assert run("compare", "base", "sft", "worse", "--config", str(file)) == 10


def test_changed_prompts_are_incomparable(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run made under another question template must not be averaged into a comparison."""
    from forgetbench import flow
    from forgetbench.analysis.compare import compare_runs
    from forgetbench.errors import IncomparableError
    from forgetbench.workspace import open_workspace

    first = tmp_path / "a"
    second = tmp_path / "b"
    first.mkdir()
    second.mkdir()
    suite = copy.deepcopy(workspace.SUITE)
    suite["tasks"][0]["raw"]["question"] = "Sum: {prompt}\nA:"
    runs = []
    for config in (workspace.write(first), workspace.write(second, suite__yaml=suite)):
        ws = open_workspace(config, models=["base"])
        runs.append(flow.run(ws, "base", ws.tasks(), say=lambda line: None))
    with pytest.raises(IncomparableError) as caught:
        compare_runs(*runs, suite="tiny")
    assert int(caught.value.exit_code) == 12
    assert any("prompt" in d for d in caught.value.differences), caught.value.differences


def test_json_is_one_object_on_stdout(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config, "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["exit_code"] == 0
    assert out["verdicts"][0]["rules"][0]["n"] == 200
    for command in (["ls"], ["validate"], ["gate", "base", "sft"], ["report", "base", "sft"]):
        run(*command, "--config", str(config), "--json")
        assert isinstance(json.loads(capsys.readouterr().out), dict), command


def test_what_is_on_disk_is_not_run_again(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config) == 0
    from forgetbench.engines.scripted import ScriptedEngine

    def refuse(*arguments: object) -> None:
        raise AssertionError("the engine was asked again")

    monkeypatch.setattr(ScriptedEngine, "run", refuse)
    assert _compare(run, config) == 0
    assert run("gate", "base", "sft", "--config", str(config)) == 0


def test_a_changed_checkpoint_is_run_again(run: Run, tmp_path: Path) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config) == 0
    workspace.write(tmp_path, sft__json=workspace.script(wrong=range(60)))
    assert _compare(run, config) == 10


def test_gate_and_report_never_run_anything(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(tmp_path)
    for command in ("gate", "report"):
        assert run(command, "base", "sft", "--config", str(config)) == 2
        assert "run it first: forgetbench run base" in capsys.readouterr().err
    assert not list(tmp_path.glob(".forgetbench/runs/*/manifest.json"))


def test_plan_runs_nothing_and_tells_the_power(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config, "--plan", "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert [m["requests"] for m in out["models"]] == [200, 200]
    (rule,) = out["rules"]
    assert rule["n"] == 200
    assert 0 < rule["p_pass_no_change"] < 1
    assert out["joint"]["p_pass_no_change"] == rule["p_pass_no_change"]
    assert not (tmp_path / ".forgetbench/runs").exists()


def test_init_writes_a_config_that_is_read_back(run: Run, tmp_path: Path) -> None:
    from forgetbench.config import load_config

    assert run("init", str(tmp_path)) == 0
    assert set(load_config(tmp_path / "forgetbench.yaml").models) == {"base", "sft_v1"}
    assert run("init", str(tmp_path)) == 2  # an existing file is never overwritten silently
    assert run("init", str(tmp_path), "--force") == 0


def test_extends_merges_deeply_and_the_nearer_wins(tmp_path: Path) -> None:
    from forgetbench.config import load_config

    (tmp_path / "shared.yaml").write_text("models: {base: {path: a}, sft: {path: b}}\nsuite: quick\n")
    (tmp_path / "forgetbench.yaml").write_text("extends: shared.yaml\nmodels: {sft: {path: c}}\n")
    config = load_config(tmp_path / "forgetbench.yaml")
    assert (config.models["base"].path, config.models["sft"].path, config.suite) == ("a", "c", "quick")


def test_doctor_never_shows_a_key(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("HF_TOKEN", "hf-very-secret")
    assert run("doctor", "--config", str(workspace.write(tmp_path))) == 0
    out, err = capsys.readouterr()
    assert "torch" in out
    assert "very-secret" not in out + err


def test_underscores_and_dashes_are_the_same(run: Run, tmp_path: Path) -> None:
    """lm-eval's users write --data_dir."""
    config = workspace.write(tmp_path)
    assert run("validate", "--config", str(config), "--data_dir", str(tmp_path)) == 0


@pytest.mark.slow
def test_help_and_ls_are_quick(tmp_path: Path) -> None:
    """`--help` < 0.3 s, `ls` < 1 s: medians of 5 in fresh processes."""
    config = workspace.write(tmp_path)
    command = [sys.executable, "-m", "forgetbench"]
    subprocess.run([*command, "run", "base", "sft", "-c", str(config)], check=True, capture_output=True)

    def median(*arguments: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([*command, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    assert median("--help") < 0.3
    assert median("ls", "-c", str(config)) < 1.0


def test_a_corrected_reference_is_scored_again_without_asking(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config) == 0
    items = copy.deepcopy(workspace.ITEMS)
    for item in items[:60]:
        item["references"] = ["another answer"]
    workspace.write(tmp_path, sums__jsonl=items)
    from forgetbench.engines.scripted import ScriptedEngine

    monkeypatch.setattr(ScriptedEngine, "run", lambda *a: pytest.fail("the engine was asked again"))
    capsys.readouterr()
    assert _compare(run, config, "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdicts"][0]["rules"][0]["base"] == pytest.approx(0.7)
