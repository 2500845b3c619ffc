"""A cache file that cannot be used, or has no room, stops nothing: one line says so."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from forgetbench.engines import cache_file, cache_store
from forgetbench.engines.cache import cached
from forgetbench.execute import execute
from tests.engines.test_cache import ask, requests_of
from tests.runs.fakes import IDENTITY, FakeEngine, checkpoint, jobs, plan

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "responses.sqlite"


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as f:
        f.seek(at)
        f.write(data)


def _garbage(path: Path) -> None:
    size = path.stat().st_size
    _overwrite(path, 8192, b"\xa5" * (size - 8192))


def _newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={cache_file.VERSION + 1}")


def _foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text)")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


TROUBLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "header": (lambda p: _overwrite(p, 0, b"not a database, really"), "is damaged (file is not a database); remove"),
    "pages": (_garbage, "is damaged (database disk image is malformed); remove it: forgetbench cache prune --all"),
    "newer": (_newer, "was written by a newer forgetbench (format 2, this one: 1); remove it"),
    "foreign": (_foreign, "is an SQLite file of something else; move it away"),
    "folder": (_folder, "cannot be read and written (unable to open database file)"),
}


@pytest.mark.parametrize("name", list(TROUBLE))
def test_a_file_that_cannot_be_used_is_said_once_and_stops_nothing(file: Path, name: str) -> None:
    requests = requests_of()
    ask(file, requests)
    spoil, expected = TROUBLE[name]
    spoil(file)
    before = None if file.is_dir() else file.read_bytes()
    notes: list[str] = []
    hits, asked = ask(file, requests, on_note=notes.append)
    assert (hits, len(asked)) == (0, len(requests))
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert notes[0].startswith(f"response cache not used from here on: {file}: ")
    assert expected in notes[0]
    assert before is None or file.read_bytes() == before


def test_a_full_disk_is_one_line_and_the_run_goes_on(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cache_file.open_file

    def small(path: Path) -> sqlite3.Connection:
        connection = real(path)
        connection.execute("PRAGMA max_page_count=12")  # what SQLite says then is what it says of a full disk
        return connection

    monkeypatch.setattr(cache_store, "open_file", small)
    monkeypatch.setattr(cache_store, "BATCH", 20)
    todo, model, notes = jobs(400), checkpoint(), list[str]()
    inner = FakeEngine()
    wrapped = cached(inner, model, IDENTITY, file, on_note=notes.append)
    run = execute(plan(todo), todo, model, lambda: wrapped, tmp_path / "run", engine_identity=IDENTITY)
    assert len(inner.asked) == len(plan(todo).requests)
    assert all(e.state == "complete" for e in run.entries)
    assert [n.partition(": ")[2] for n in notes] == [
        f"{file}: no space left on the disk; free some, or: forgetbench cache prune --all"
    ]
    monkeypatch.setattr(cache_store, "open_file", real)
    requests = requests_of(n=400)
    hits, _ = ask(file, requests)  # what fitted is served, the rest is stored now that there is room
    assert 0 < hits < len(requests)
    assert ask(file, requests) == (len(requests), [])
