"""manifest.json and the runs that it describes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import UsageError
from forgetbench.runs import list_runs, open_run, run_folder
from forgetbench.runs.files import DiskFullError, atomic_write, remove_stale, safe_name
from forgetbench.runs.manifest import (
    Manifest,
    identity_digest,
    read_manifest,
    update_manifest,
    write_manifest,
)
from forgetbench.runs.types import TaskEntry, TaskIdentity
from tests.runs.fakes import FakeEngine, checkpoint, jobs
from tests.runs.test_execute import go

pytestmark = pytest.mark.unit

IDENTITY = TaskIdentity("mmlu", "1", "ability", "c0ffee", {"name": "fake"}, {"decode_id": "greedy", "stop": ["x"]})


def entry(**changes: Any) -> TaskEntry:
    identity = changes.pop("identity", IDENTITY)
    base = TaskEntry(identity, identity_digest(identity), "tasks/mmlu@1", "running", 3, 0, "items", "1")
    return dataclasses.replace(base, **changes)


def manifest(*entries: TaskEntry, **changes: Any) -> Manifest:
    fields = {"alias": "base", "checkpoint": "c0ffee", "parts": {"weights": "aa"}, "engine": {"name": "fake"}}
    return Manifest(**fields | {"created": "2020-01-01", "updated": "2020-01-01", "tasks": entries} | changes)


def test_round_trip(tmp_path: Path) -> None:
    written = manifest(entry(), entry(state="complete", items_hash="b"), notes=("a note",), info={"x": [1, None]})
    write_manifest(tmp_path, written)
    assert read_manifest(tmp_path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_every_part_of_the_identity_changes_the_digest() -> None:
    changed = {
        "task": "gsm8k",
        "task_version": "2",
        "view": "chat",
        "checkpoint": "decaf",
        "engine": {"name": "fake", "dtype": "bfloat16"},
        "decode": {"decode_id": "greedy", "stop": ["y"]},
        "replicate": 1,
    }
    assert set(changed) == {f.name for f in dataclasses.fields(TaskIdentity)}
    digests = {identity_digest(dataclasses.replace(IDENTITY, **{k: v})) for k, v in changed.items()}
    assert len(digests | {identity_digest(IDENTITY)}) == 8
    assert all(len(d) == 12 for d in digests)
    reordered = dataclasses.replace(IDENTITY, decode={"stop": ["x"], "decode_id": "greedy"})
    assert identity_digest(reordered) == identity_digest(IDENTITY)


def test_the_last_complete_entry_of_a_slot_is_current() -> None:
    done, other = entry(state="complete", n_items=1), entry(state="complete", items_hash="b", n_items=2)
    running = entry(items_hash="c", n_items=3)
    chat = entry(identity=dataclasses.replace(IDENTITY, view="chat"))
    assert [e.n_items for e in manifest(done, other).current()] == [2]
    assert [e.n_items for e in manifest(done, running).current()] == [1]
    assert [e.state for e in manifest(running, chat).current()] == ["running", "running"]
    assert [e.n_items for e in manifest(running, done, other, running).current()] == [2]
    # Asking for the first one again makes it the current one again.
    assert [e.n_items for e in manifest(done, other).with_entries([done]).current()] == [1]


def test_entries_of_the_same_key_are_replaced() -> None:
    twice = manifest(entry()).with_entries([entry(state="complete", n_records=9)])
    assert [(e.state, e.n_records) for e in twice.tasks] == [("complete", 9)]


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest(entry()))
    before = (tmp_path / "manifest.json").stat().st_mtime_ns
    update_manifest(tmp_path, lambda m: m or manifest())
    assert (tmp_path / "manifest.json").stat().st_mtime_ns == before
    new = update_manifest(tmp_path, lambda m: (m or manifest()).with_entries([entry(n_items=9)]))
    assert new.updated != "2020-01-01"
    assert read_manifest(tmp_path) == new


def broken() -> dict[str, bytes]:
    good = json.loads(json.dumps(dataclasses.asdict(manifest(entry()))))

    def changed(path: str, value: Any) -> bytes:
        raw = json.loads(json.dumps(good))
        *outer, last = path.split(".")
        at = raw
        for name in outer:
            at = at[int(name)] if name.isdigit() else at[name]
        if value is ...:
            del at[last]
        else:
            at[last] = value
        return json.dumps(raw).encode()

    cases = {
        "empty": b"",
        "cut": json.dumps(good).encode()[:-30],
        "not utf-8": b"\xff\xfe{}",
        "list": b"[]",
        "null": b"null",
        "number": b"3",
        "deep": b"[" * 100_000,
        "no keys": b"{}",
        "newer": changed("schema_version", 99),
        "folder out of the run": changed("tasks.0.folder", "../../etc"),
        "absolute records": changed("tasks.0.records", "/etc/passwd"),
        "state": changed("tasks.0.state", "half"),
    }
    for path in ("alias", "checkpoint", "parts", "engine", "created"):
        cases[f"no {path}"] = changed(path, ...)
        cases[f"{path} is a number"] = changed(path, 7)
    for path in ("tasks.0.identity", "tasks.0.digest", "tasks.0.n_items", "tasks.0.identity.view"):
        cases[f"no {path}"] = changed(path, ...)
        cases[f"{path} is a list"] = changed(path, [1])
    cases["tasks is an object"] = changed("tasks", {})
    cases["an entry is a string"] = changed("tasks", ["x"])
    return cases


@pytest.mark.parametrize("case", broken())
def test_a_broken_manifest_is_one_line(tmp_path: Path, case: str) -> None:
    (tmp_path / "manifest.json").write_bytes(broken()[case])
    with pytest.raises(UsageError) as caught:
        read_manifest(tmp_path)
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "manifest.json"))
    assert "\n" not in line
    assert len(line) < 500


def test_keys_of_a_later_version_do_no_harm(tmp_path: Path) -> None:
    raw = dataclasses.asdict(manifest(entry()))
    raw["colour"] = raw["tasks"][0]["colour"] = "blue"
    (tmp_path / "manifest.json").write_text(json.dumps(raw))
    assert read_manifest(tmp_path) == manifest(entry())


def test_a_folder_without_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run here"):
        open_run(tmp_path)


# --- files ----------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    atomic_write(path, b"old")

    def full(fd: int, blob: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFullError, match=r"no space left on the disk; free some"):
        atomic_write(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_the_device_that_is_always_full_is_recognised() -> None:
    from forgetbench.runs.files import full_disk_is_one_line, write_all

    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(DiskFullError, match="no space left"), full_disk_is_one_line(Path("x")):
            write_all(fd, b"abc")
    finally:
        os.close(fd)


def test_only_old_litter_is_removed(tmp_path: Path) -> None:
    for name, age in ((".a.tmp", 7200), (".b.tmp", 5), ("c", 7200)):
        (tmp_path / name).touch()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    remove_stale(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.tmp", "c"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [("mmlu", "mmlu"), ("a/b", "a_b"), ("../../x", "x"), ("..", "_"), ("名", "_"), ("sft_v2.1", "sft_v2.1")],
)
def test_names_are_harmless_path_components(name: str, safe: str) -> None:
    assert safe_name(name) == safe


# --- runs -----------------------------------------------------------------------------------------------------


def test_the_folder_of_a_run_names_alias_checkpoint_and_engine() -> None:
    folder = run_folder(Path("runs"), "sft/v1", "0123456789abcdef", {"name": "fake"})
    assert folder.name.startswith("sft_v1-0123456789ab-")
    assert len(folder.name.rpartition("-")[2]) == 6
    assert folder != run_folder(Path("runs"), "sft/v1", "0123456789abcdef", {"name": "other"})


def test_listing_runs_goes_on_after_a_damaged_one(tmp_path: Path) -> None:
    go(tmp_path / "one", jobs(), FakeEngine())
    go(tmp_path / "three", jobs(), FakeEngine(), model=checkpoint(alias="three"))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "manifest.json").write_text("{")
    (tmp_path / "empty").mkdir()
    errors: list[UsageError] = []
    assert [r.alias for r in list_runs(tmp_path, on_error=errors.append)] == ["base", "three"]
    assert len(errors) == 1
    with pytest.raises(UsageError):
        list_runs(tmp_path)
    assert list_runs(tmp_path / "nowhere") == []


def test_records_of_one_task_or_view(tmp_path: Path) -> None:
    run = go(tmp_path, jobs(), FakeEngine())
    frame = run.records()
    assert len(frame) == run.records("pick").shape[0] + run.records("add").shape[0] + run.records("dice").shape[0]
    assert set(run.records("add", "chat")["view"]) == {"chat"}
    assert set(run.records(view="ability")["task"]) == {"pick", "add", "dice"}
    assert list(run.records("pick", columns=["task", "scores"]).columns) == ["task", "scores"]
    for wrong in (("nope", None), ("pick", "chat")):
        with pytest.raises(UsageError, match="no records of"):
            run.records(*wrong)
    json.dumps(run.manifest_dict())
    entry_ = run.entries[0]
    assert len(run.responses(entry_).locations) == entry_.n_items


def test_a_task_that_is_not_complete_says_so(tmp_path: Path) -> None:
    from forgetbench.errors import EngineError

    with pytest.raises(EngineError):
        go(tmp_path, jobs(), FakeEngine(die_after=3))
    run = open_run(tmp_path)
    assert len(run.incomplete) == 5
    assert len(run.records()) == 0
    with pytest.raises(UsageError, match=r"add/ability is not complete \(12 items asked\)"):
        run.records("add", "ability")


def test_a_snapshot_reads_records_that_another_call_mended(tmp_path: Path) -> None:
    broken_first = go(tmp_path, jobs(), FakeEngine(fails=lambda i, attempt: True))
    assert set(broken_first.records()["outcome"]) == {"infra_error"}
    go(tmp_path, jobs(), FakeEngine())
    assert "infra_error" not in set(broken_first.records()["outcome"])


def test_listing_loads_neither_pandas_nor_torch(tmp_path: Path) -> None:
    go(tmp_path / "one", jobs(), FakeEngine())
    code = (
        "import sys; from pathlib import Path; from forgetbench.runs.store import list_runs; import forgetbench.execute;"
        f"assert len(list_runs(Path({str(tmp_path)!r}))) == 1;"
        "heavy = {'pandas', 'pyarrow', 'numpy', 'torch', 'transformers', 'scipy', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
