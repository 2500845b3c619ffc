"""Checkpoints run side by side in child processes: what each sees, what is shown, what is left after a fault."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forgetbench import devices
from forgetbench.cli import progress
from forgetbench.cli.work import How, flags
from forgetbench.runs import list_runs
from forgetbench.runs.segments import scan_folder
from forgetbench.workspace import open_workspace

from . import workspace

REPOSITORY = Path(__file__).resolve().parents[2]
ALIASES = ("base", "sft", "third")

# Every answer leaves a line behind: who, where, when, which process.
SCRIPT = """
import json, os, pathlib, time
HERE = pathlib.Path(__file__).parent
ME = pathlib.Path(__file__).stem
FIRST = True

def answer(request):
    global FIRST
    seen = {"device": os.environ.get("CUDA_VISIBLE_DEVICES"), "at": time.time(), "pid": os.getpid()}
    with (HERE / f"{ME}.log").open("a") as f:
        f.write(json.dumps({**seen, "id": request.request_id}) + "\\n")
    if FIRST:
        FIRST = False
        meet()
    HOOK
    number = int(request.prompt.text.rpartition("Q: ")[2].split()[0])
    return str(number + 1)

def meet():
    others = [HERE / f"{name}.log" for name in MEET]
    end = time.time() + 60
    while time.time() < end and not all(p.exists() for p in others):
        time.sleep(0.01)
    if not all(p.exists() for p in others):
        raise RuntimeError("the other never came")
"""


def write(folder: Path, meet: tuple[str, ...] = (), hooks: dict[str, str] | None = None) -> Path:
    config = copy.deepcopy(workspace.CONFIG)
    config["models"] = {
        alias: {"path": f"{alias}.py", "engine": "scripted", "engine_args": {"script": f"{alias}.py"}}
        for alias in ALIASES
    }
    scripts = {}
    for alias in ALIASES:
        text = SCRIPT.replace("MEET", repr(meet)).replace("HOOK", (hooks or {}).get(alias, "pass"))
        scripts[f"{alias}__py"] = f"# {alias}\n{text}"
    return workspace.write(folder, forgetbench__yaml=config, **scripts)


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "forgetbench", *arguments, "--config", str(config)]


def start(config: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(config, *arguments),
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test started in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def log(folder: Path, alias: str) -> list[dict[str, Any]]:
    path = folder / f"{alias}.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def stored(folder: Path) -> set[str]:
    places = (folder / ".forgetbench/runs").glob("*/tasks/*/responses")
    return {i for place in places for i in scan_folder(place).locations}


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_two_run_at_once_each_with_its_own_device(tmp_path: Path) -> None:
    """Each waits at its first answer for the other's: in turn they would wait in vain."""
    config = write(tmp_path, meet=("base", "sft"))
    code, out, err = finish(start(config, "compare", "base", "sft", "--devices", "0,1", "--study", "none", "--json"))
    assert code == 0, err
    assert json.loads(out)["exit_code"] == 0
    logs = [log(tmp_path, alias) for alias in ("base", "sft")]
    assert [{line["device"] for line in each} for each in logs] == [{"0"}, {"1"}]
    assert [len({line["pid"] for line in each}) for each in logs] == [1, 1]
    spans = [(each[0]["at"], each[-1]["at"]) for each in logs]
    assert max(s[0] for s in spans) < min(s[1] for s in spans)
    assert [len(each) for each in logs] == [200, 200]
    lines = err.splitlines()
    assert any(line.startswith("base: 200 of 200 requests") for line in lines)
    assert sum(line.startswith("sft: 200 requests, ") for line in lines) == 1
    assert not any("progress" in line or "/runs/" in line for line in lines)
    code, _, err = finish(start(config, "compare", "base", "sft", "--devices", "0,1", "--study", "none"))
    assert code == 0
    assert [len(log(tmp_path, alias)) for alias in ("base", "sft")] == [200, 200], "what is on disk was asked again"
    assert not any(line.startswith(("base: 200 requests", "sft: 200 requests")) for line in err.splitlines())


def test_a_device_that_falls_free_takes_the_next(tmp_path: Path) -> None:
    config = write(tmp_path, hooks={"base": "time.sleep(0.02)"})
    code, out, err = finish(start(config, "run", *ALIASES, "--devices", "3,5", "--limit", "100", "--json"))
    assert code == 0, err
    assert [r["model"] for r in json.loads(out)["runs"]] == list(ALIASES)
    seen = {alias: {line["device"] for line in log(tmp_path, alias)} for alias in ALIASES}
    assert seen["base"] == {"3"}
    assert seen["sft"] == {"5"}
    assert len(seen["third"]) == 1
    assert seen["third"] <= {"3", "5"}
    assert len({log(tmp_path, alias)[0]["pid"] for alias in ALIASES}) == 3


@pytest.mark.parametrize("how", [["--devices", "1"], []])
def test_one_device_or_none_means_in_turn_in_this_process(tmp_path: Path, how: list[str]) -> None:
    config = write(tmp_path)
    process = start(config, "run", "base", "sft", "--limit", "20", *how)
    code, _, err = finish(process)
    assert code == 0, err
    lines = [line for alias in ("base", "sft") for line in log(tmp_path, alias)]
    assert {line["pid"] for line in lines} == {process.pid}
    expected = "1" if how else os.environ.get("CUDA_VISIBLE_DEVICES")
    assert {line["device"] for line in lines} == {expected}


def test_a_single_one_that_is_left_to_run_runs_here_and_sees_all_devices(tmp_path: Path) -> None:
    config = write(tmp_path)
    assert finish(start(config, "run", "base", "--limit", "20"))[0] == 0
    process = start(config, "run", "base", "sft", "--limit", "20", "--devices", "0,1")
    assert finish(process)[0] == 0
    assert {(line["pid"], line["device"]) for line in log(tmp_path, "sft")} == {(process.pid, "0,1")}


SLOW = "time.sleep(0 if os.environ.get('HURRY') else 0.05)"


def under_way(folder: Path, started: list[subprocess.Popen[str]]) -> tuple[Path, subprocess.Popen[str]]:
    """Two checkpoints side by side, each with a quarter of its answers."""
    config = write(folder, meet=("base", "sft"), hooks=dict.fromkeys(ALIASES, SLOW))
    process = start(config, "run", "base", "sft", "--devices", "0,1", "--no-cache", "--limit", "100")
    started.append(process)
    wait_until(lambda: min(len(log(folder, alias)) for alias in ("base", "sft")) >= 25)
    return config, process


def assert_resumes(folder: Path, config: Path) -> None:
    before = stored(folder)
    assert len(before) >= 40
    asked = {alias: len(log(folder, alias)) for alias in ("base", "sft")}
    assert finish(start(config, "run", "base", "sft", "--no-cache", "--limit", "100", HURRY="1"))[0] == 0
    later = {line["id"] for alias in ("base", "sft") for line in log(folder, alias)[asked[alias] :]}
    assert later
    assert not later & before
    assert len(stored(folder)) == 200


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_children_and_what_was_stored_stays(
    tmp_path: Path, started: list[subprocess.Popen[str]], how: signal.Signals
) -> None:
    config, process = under_way(tmp_path, started)
    process.send_signal(how)
    code, _, err = finish(process)
    assert code == 130, err
    assert err.splitlines()[-1].startswith("forgetbench: interrupted")
    for alias in ("base", "sft"):
        assert any(line.startswith(f"{alias}: interrupted: ") for line in err.splitlines()), err
        assert not alive(log(tmp_path, alias)[0]["pid"])
    assert_resumes(tmp_path, config)


def test_children_do_not_outlive_a_parent_that_was_killed(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    config, process = under_way(tmp_path, started)
    process.kill()
    finish(process)
    pids = [log(tmp_path, alias)[0]["pid"] for alias in ("base", "sft")]
    wait_until(lambda: not any(alive(pid) for pid in pids), 20)
    assert all(len(log(tmp_path, alias)) < 100 for alias in ("base", "sft"))
    assert_resumes(tmp_path, config)


def test_a_failing_child_ends_the_others_and_gives_its_line_and_code(tmp_path: Path) -> None:
    config = write(tmp_path, hooks={"base": "time.sleep(0.05)"})
    with (tmp_path / "sft.py").open("a") as f:  # good in the parent, where both devices are seen
        f.write("\nif os.environ['CUDA_VISIBLE_DEVICES'] == '1': raise OSError('no card here')\n")
    code, out, err = finish(start(config, "run", "base", "sft", "--devices", "0,1"))
    assert code == 2
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("forgetbench: ")
    assert "sft.py: fails on import (OSError: no card here); mend the script" in last
    assert err.count("no card here") == 1
    for line in log(tmp_path, "base"):
        assert not alive(line["pid"])
    assert len(log(tmp_path, "base")) < 200


def test_a_child_that_is_killed_is_named_with_its_device(tmp_path: Path) -> None:
    config = write(tmp_path, hooks={"sft": "os.kill(os.getpid(), 9)"})
    code, _, err = finish(start(config, "run", "base", "sft", "--devices", "0,1"))
    assert code == 1
    line = "forgetbench: sft: the process on device 1 ended by signal 9 (SIGKILL) and gave no reason"
    assert err.splitlines()[-1] == line


def test_failed_requests_are_not_tried_once_more_by_the_parent(tmp_path: Path) -> None:
    config = write(tmp_path, hooks={"sft": "if 'Q: 7 + 1\\n' in request.prompt.text: raise MemoryError('no room')"})
    code, _, err = finish(start(config, "run", "base", "sft", "--devices", "0,1", "--limit", "20"))
    assert code == 0, err
    assert len(log(tmp_path, "sft")) == 21  # tried twice by the child
    (run,) = [r for r in list_runs(tmp_path / ".forgetbench/runs") if r.alias == "sft"]
    assert run.entries[0].n_infra_error == 1


@pytest.mark.slow
def test_folders_with_one_name_keep_their_aliases_in_children(tmp_path: Path) -> None:
    """The second is called after its parent, because the first has the name: also where it is run alone."""
    from tests.engines.tiny import save

    for parent in ("one", "two"):
        save(tmp_path / parent / "model", "llama", seed=len(parent) + ord(parent[0]))
    suite = copy.deepcopy(workspace.SUITE)
    workspace.write(tmp_path, suite__yaml=suite)
    (tmp_path / "forgetbench.yaml").unlink()
    arguments = ["run", "one/model", "two/model", "--suite", "suite.yaml", "--limit", "4", "--devices", "0,1"]
    process = subprocess.run(
        [sys.executable, "-m", "forgetbench", *arguments, "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert [r["model"] for r in json.loads(process.stdout)["runs"]] == ["model", "two-model"]
    assert len(list((tmp_path / ".forgetbench/runs").iterdir())) == 2


@pytest.mark.unit
def test_a_child_is_told_the_models_as_typed_and_which_to_run(tmp_path: Path) -> None:
    config = write(tmp_path)
    given = flags(
        config=config,
        suite=None,
        data_dir=None,
        offline=True,
        limit=5,
        samples=4,
        temperatures=(0.7,),
        unsafe_exec=False,
        engine="scripted",
    )
    how = How(("base", "sft"), given, "0,1", use_cache=False)
    ws = open_workspace(config, models=["base", "sft"])
    assert how.child(ws, ["third", "sft"]) == [
        *("run", "--config", str(config), "--limit", "5", "--engine", "scripted", "--samples", "4"),
        *("--temperature", "0.7", "--offline", "--no-cache"),
        *("--only", "third", "--only", "sft", "--", "base", "sft", "third"),
    ]


@pytest.mark.unit
def test_only_what_was_named_can_be_run_alone(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path)
    assert run("run", "base", "--only", "sft", "--config", str(config)) == 2
    assert "'sft' is none of the models named" in capsys.readouterr().err
    assert run("run", "base", "sft", "--only", "sft", "--config", str(config), "--limit", "3") == 0
    assert [r.alias for r in list_runs(tmp_path / ".forgetbench/runs")] == ["sft"]
    monkeypatch.setenv(devices.VARIABLE, "")
    assert run("run", "base", "--devices", "x", "--config", str(config)) == 2
    assert "--devices: 'x' is no GPU" in capsys.readouterr().err


@pytest.mark.unit
def test_progress_crosses_a_pipe_unchanged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(progress.VARIABLE, "json")
    with progress.bars() as of:
        of("a: b")("mmlu", "ability", 3, 7, 1234)
    line = capsys.readouterr().err.rstrip("\n")
    assert progress.Told.read(line) == ("a: b", "mmlu", "ability", 3, 7, 1234)
    for other in ("", "base: 3 of 4", '{"progress": ["a"]}', '{"progress": [1, 2, 3, "x", 5, 6]}', '{"progress": ['):
        assert progress.Told.read(other) is None
