"""`forgetbench cache ls` and `prune`."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from forgetbench.cli import cache as command
from forgetbench.engines.cache_store import ResponseCache, Source, canonical
from forgetbench.errors import UsageError
from forgetbench.types import Generation, Response

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit
ENGINE = {"name": "transformers", "transformers": "5.19.0", "dtype": "float32", "device": "cpu", "attention": "sdpa"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A project with a cache of two models, one under two engines."""
    file = workspace.write(tmp_path)
    with ResponseCache(command.cache_file(file), clock=lambda: 0.0) as cache:
        for i in range(30):
            who = [("base", "c0ffee0123456789", {}), ("base", "c0ffee0123456789", {"attention": "eager"})][i % 2]
            alias, digest, other = who if i < 20 else ("sft", "feed0123456789ab", {})
            text = Generation(f"{i} " * 50, (1,), "stop")
            cache.put(b"%d" % i, Response(str(i), (text,)), Source(digest, alias, canonical({**ENGINE, **other})))
    return file


def said(run: Run, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert run("cache", *arguments) == code
    out, err = capsys.readouterr()
    return out, err


def test_ls_lists_who_answered(run: Run, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    out, err = said(run, capsys, "ls", "--config", str(config))
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["model", "checkpoint", "engine", "answers", "size", "written", "used"]
    assert sorted(line[:2] + line[2:-5] for line in lines[1:]) == [
        ["base", "c0ffee012345", "transformers", "5.19.0", "float32", "cpu", "attention=eager"],
        ["base", "c0ffee012345", "transformers", "5.19.0", "float32", "cpu", "attention=sdpa"],
        ["sft", "feed01234567", "transformers", "5.19.0", "float32", "cpu", "attention=sdpa"],
    ]
    assert all(line[-5] == "10" and line[-2:] == ["1970-01-01"] * 2 for line in lines[1:])
    assert err.startswith("30 answers, ")
    assert str(command.cache_file(config)) in err


def test_json(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(said(run, capsys, "ls", "--config", str(config), "--json")[0])
    assert [(s["alias"], s["count"]) for s in shown["sources"]] == [("sft", 10), ("base", 10), ("base", 10)]
    assert shown["sources"][0]["engine"] == ENGINE
    dry = json.loads(said(run, capsys, "prune", "-c", str(config), "--model", "base", "--dry-run", "--json")[0])
    assert (dry["removed"], dry["dry_run"], dry["file_after"]) == (20, True, dry["file_before"])
    done = json.loads(said(run, capsys, "prune", "-c", str(config), "--model", "base", "--json")[0])
    assert (done["removed"], done["dry_run"], done["bytes"]) == (20, False, dry["bytes"])


def test_prune_says_what_went(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("-c", str(config))
    assert "would remove 30 answers" in said(run, capsys, "prune", *where, "--older-than", "30d", "--dry-run")[1]
    assert "removed 0 answers" in said(run, capsys, "prune", *where, "--max-size", "5GB")[1]
    assert "removed 10 answers" in said(run, capsys, "prune", *where, "--model", "feed0123")[1]
    assert "removed 20 answers" in said(run, capsys, "prune", *where, "--all")[1]
    assert said(run, capsys, "ls", *where) == ("", f"no answers in {command.cache_file(config)}\n")


def test_without_a_cache_nothing_is_made(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = workspace.write(tmp_path)
    for arguments in (["ls"], ["prune", "--all"], ["ls", "--json"]):
        said(run, capsys, *arguments, "-c", str(file))
    assert not command.cache_file(file).parent.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "cache prune: nothing says what is to go; give --all, or"),
        (["--all", "--model", "base"], "--all: goes with no other choice"),
        (["--older-than", "soon"], "--older-than: 'soon' is no number of days; write 30d or 4w"),
        (["--older-than", "0d"], "--older-than: '0d' is no number of days"),
        (["--max-size", "5 apples"], "--max-size: '5 apples' is no size; write 5GB"),
        (["--model", "nobody"], "holds no answers of 'nobody'; aliases in it: base, sft"),
    ],
)
def test_mistakes_are_one_line(
    run: Run, config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    out, err = said(run, capsys, "prune", "-c", str(config), *arguments, code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert problem in err


def test_a_damaged_file_is_said_and_removed_by_all_alone(
    run: Run, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = command.cache_file(config)
    path.write_bytes(b"no database" * 1000)
    for arguments in (["ls"], ["prune", "--older-than", "1d"]):
        assert (
            "is damaged (file is not a database); remove it"
            in said(run, capsys, *arguments, "-c", str(config), code=2)[1]
        )
    assert "would remove the file" in said(run, capsys, "prune", "-c", str(config), "--all", "--dry-run")[1]
    assert path.exists()
    said(run, capsys, "prune", "-c", str(config), "--all")
    assert not path.exists()


def test_a_file_of_something_else_is_never_removed(run: Run, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = command.cache_file(config)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text)")
    before = path.read_bytes()
    assert (
        "is an SQLite file of something else; move it away"
        in said(run, capsys, "prune", "-c", str(config), "--all", code=2)[1]
    )
    assert path.read_bytes() == before


def test_sizes_and_days() -> None:
    texts = ("5GB", "1.5 MiB", "700", "3k", "2 tb")
    assert [command.size(t) for t in texts] == [5 * 10**9, 3 * 2**19, 700, 3000, 2 * 10**12]
    assert [command.days(t) for t in ("1d", "4w", " 30D ")] == [1, 28, 30]
    assert [command.human(n) for n in (0, 999, 1234, 99_900, 5_260_000_000)] == [
        "0 B",
        "999 B",
        "1.2 kB",
        "100 kB",
        "5.3 GB",
    ]
    with pytest.raises(UsageError):
        command.size("-1")


def test_all_frees_a_full_disk(
    run: Run, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking answers out writes a log first, for which there is no room: the file goes as a whole."""

    def full(*arguments: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("forgetbench.engines.cache_prune.remove", full)
    problem = "no space left on the disk; free some, or: forgetbench cache prune --all"
    assert problem in said(run, capsys, "prune", "-c", str(config), "--model", "sft", code=2)[1]
    assert command.cache_file(config).exists()
    said(run, capsys, "prune", "-c", str(config), "--all")
    assert not command.cache_file(config).exists()
