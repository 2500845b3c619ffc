"""Several processes on one run: nothing is lost, nothing is asked twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forgetbench.runs import open_run
from forgetbench.runs.lock import locked
from forgetbench.runs.manifest import Manifest, read_manifest, update_manifest
from tests.runs.fakes import FakeEngine, FakeTask, job, jobs
from tests.runs.test_execute import go

pytestmark = pytest.mark.unit
REPOSITORY = Path(__file__).resolve().parents[2]

RUN = """
import json, sys
from pathlib import Path
from forgetbench.execute import execute
from tests.runs.fakes import FakeEngine, FakeTask, IDENTITY, checkpoint, job, jobs, plan
folder, seed, which = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
todo = jobs() if which == "same" else [job(FakeTask(f"task{seed}", 12))]
engine, notes = FakeEngine(delay=0.01, seed=seed), []
print("ready", flush=True); sys.stdin.readline()
run = execute(plan(todo), todo, checkpoint(), lambda: engine, folder, engine_identity=IDENTITY, on_note=notes.append)
print(json.dumps({"asked": engine.asked, "notes": notes, "records": len(run.read_records())}))
"""


def start(commands: list[list[str]]) -> list[subprocess.Popen[str]]:
    """Start Python processes and let them go at the same moment."""
    children = [
        subprocess.Popen(
            [sys.executable, *command], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return children


def together(folder: Path, n: int, which: str) -> list[dict[str, list[str]]]:
    """Run RUN in `n` processes at once; return what each says."""
    children = start([["-c", RUN, str(folder), str(seed), which] for seed in range(n)])
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0] * n
    return [json.loads(line) for line in said]


def test_the_same_command_twice_at_once_asks_everything_once(tmp_path: Path) -> None:
    said = together(tmp_path / "run", 2, "same")
    asked = [i for s in said for i in s["asked"]]
    expected = go(tmp_path / "alone", jobs(), FakeEngine())
    assert len(asked) == len(set(asked)) == len({r.request_id for r in expected.read_records()})
    assert said[0]["records"] == said[1]["records"]
    notes = [n for s in said for n in s["notes"]]
    assert any(n.startswith("waiting for process ") for n in notes)
    assert open_run(tmp_path / "run").read_records() == expected.read_records()


def test_different_tasks_at_once_all_enter_the_manifest(tmp_path: Path) -> None:
    together(tmp_path, 4, "different")
    entries = read_manifest(tmp_path).current()
    assert sorted(e.identity.task for e in entries) == [f"task{i}" for i in range(4)]
    assert all(e.state == "complete" for e in entries)
    assert len(open_run(tmp_path).read_records()) == 48


def test_no_update_of_the_manifest_is_lost(tmp_path: Path) -> None:
    code = """
import sys
from dataclasses import replace
from pathlib import Path
from forgetbench.runs.manifest import Manifest, update_manifest
folder, me = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True); sys.stdin.readline()
for i in range(25):
    update_manifest(folder, lambda m: replace(m, notes=(*m.notes, f"{me} {i}")))
"""
    update_manifest(tmp_path, lambda m: Manifest("base", "c0ffee", {}, {}, "now", "now"))
    children = start([["-c", code, str(tmp_path), str(n)] for n in range(3)])
    assert all(child.wait(timeout=60) == 0 for child in children)
    expected = {f"{n} {i}" for n in range(3) for i in range(25)}
    assert set(read_manifest(tmp_path).notes) == expected
    assert not list(tmp_path.glob(".*.tmp"))


def test_without_locks_segments_alone_keep_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks: two processes ask the same, and both answers stand, once in the records."""
    import errno
    import fcntl

    def unsupported(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    todo = [job(FakeTask("add", 5))]
    inner: list[str] = []

    def meanwhile(request_id: str) -> None:
        if not inner:
            inner.append(request_id)
            go(tmp_path, todo, FakeEngine(seed=3))

    outer = FakeEngine(on_ask=meanwhile)
    run = go(tmp_path, todo, outer)
    assert len(outer.asked) == 5
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2
    assert run.read_records() == go(tmp_path / "alone", todo, FakeEngine()).read_records()


def test_a_lock_is_held_against_another_process_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from forgetbench.runs.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        waited: list[str] = []

        def kill_owner(owner: str) -> None:
            waited.append(owner)
            os.kill(child.pid, signal.SIGKILL)

        start = time.monotonic()
        with locked(path, on_wait=kill_owner, poll=0.01):
            assert time.monotonic() - start < 30
        assert waited == [f"process {child.pid} on {os.uname().nodename}"]
    finally:
        child.kill()
        child.wait()


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from forgetbench.runs.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    pid = os.fork()\n"
        "    if pid == 0: time.sleep(20); os._exit(0)\n"
        "    print(pid, flush=True); os.kill(os.getpid(), 9)"
    )
    # Not through pipes that the orphan would hold open.
    out = tmp_path / "out"
    with out.open("w") as f:
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], cwd=REPOSITORY, stdout=f, check=False)
    orphan = int(out.read_text())
    try:
        os.kill(orphan, 0)
        start = time.monotonic()
        with locked(tmp_path / "lock", poll=0.01):
            assert time.monotonic() - start < 10
    finally:
        os.kill(orphan, signal.SIGKILL)
