"""Fixed texts: files, and rows of a dataset read by the `datasets` library itself from a folder; no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forgetbench import studying
from forgetbench.behaviour import fixed
from forgetbench.behaviour.fixed import FixedText, HubTexts, count, files_of, hub_texts, parse_hub
from forgetbench.errors import UsageError
from forgetbench.tasks.source import DataSource

pytestmark = pytest.mark.unit

COMMIT = "b08601e04326c79dfdd32d625aee71d232d685c3"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hub:a/b", HubTexts("a/b")),
        (f"hub:a/b.c@{COMMIT}", HubTexts("a/b.c", COMMIT)),
        ("hub:a/b@refs/pr/1:cfg:test:body", HubTexts("a/b", "refs/pr/1", "cfg", "test", "body")),
        ("hub:a/b:::content", HubTexts("a/b", field="content")),
        ("hub:a/b::validation", HubTexts("a/b", split="validation")),
    ],
)
def test_how_a_dataset_is_named(value: str, expected: HubTexts) -> None:
    assert parse_hub(value, "x") == expected


@pytest.mark.parametrize("value", ["hub:", "hub:a", "hub:../b", "hub:a/b/c", "hub:a/b@", "hub:a/b:1:2:3:4", "hub:/a/b"])
def test_what_names_none(value: str) -> None:
    with pytest.raises(UsageError, match="names no dataset") as caught:
        parse_hub(value, "suite.yaml: study: texts")
    assert "hub:OWNER/NAME" in caught.value.cure


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which `datasets` finds the dataset own/corpus; its own cache beside it."""
    folder = tmp_path / "own" / "corpus"
    folder.mkdir(parents=True)
    for split, texts in (("train", ["first\ntext", " ", "second", "x" * 50]), ("test", ["held out"])):
        rows = [{"text": t, "title": t.upper(), "number": 1} for t in texts]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("offline", [False, True])
def test_rows_of_a_dataset(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    source = DataSource(offline=offline, cache_dir=tmp_path / "hub")
    found = hub_texts(parse_hub("hub:own/corpus", "x"), tmp_path / "cache", source, "x")
    assert found == [
        FixedText("own/corpus:train:0", "first\ntext"),
        FixedText("own/corpus:train:2", "second"),
        FixedText("own/corpus:train:3", "x" * 50),
    ]
    (other,) = hub_texts(parse_hub("hub:own/corpus::test:title", "x"), tmp_path / "cache", source, "x")
    assert other.text == "HELD OUT"
    assert count(found) == "3 fixed texts"


def test_they_are_kept_and_read_again_without_the_dataset(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    source = DataSource(offline=True, cache_dir=tmp_path / "hub")
    wanted = parse_hub("hub:own/corpus", "x")
    first = hub_texts(wanted, tmp_path / "cache", source, "x")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("kept, and asked for again")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    assert hub_texts(wanted, tmp_path / "cache", source, "x") == first
    with pytest.raises(UsageError):  # another revision is another text
        hub_texts(parse_hub("hub:own/corpus@v2", "x"), tmp_path / "cache", source, "x")


def test_no_more_is_read_than_the_bounds_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    taken: list[int] = []
    asked: list[tuple[Any, ...]] = []

    def stream(name: str, config: str | None, **options: Any) -> Iterator[dict[str, str]]:
        asked.append((name, config, options["split"], options["revision"], options["streaming"]))
        for n in range(10**6):
            taken.append(n)
            yield {"text": "ten chars." if n else "\ud800" * 10}

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(datasets, "load_dataset", stream)
    monkeypatch.setattr(fixed, "MOST_CHARACTERS", 95)
    wanted = parse_hub(f"hub:a/b@{COMMIT}:cfg:test", "x")
    found = hub_texts(wanted, tmp_path, DataSource(), "x")
    assert asked == [("a/b", "cfg", "test", COMMIT, True)]
    assert sum(len(t.text) for t in found) == 95
    assert [t.text for t in found[:2]] == ["?" * 10, "ten chars."]
    assert len(taken) <= 11
    assert found[-1].name == f"a/b@{COMMIT}:cfg:test:9"
    monkeypatch.setattr(fixed, "MOST_ROWS", 3)
    assert len(hub_texts(wanted, tmp_path, DataSource(), "x")) == 3


def test_every_text_has_a_name_of_its_own(hub: Path, tmp_path: Path) -> None:
    """Two sides are paired by it: texts of one name would be held against each other."""
    for folder in ("one", "one/deep", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text(folder, encoding="utf-8")
    entries = ["one", "two", "two", "one/notes.txt", "hub:own/corpus", "hub:own/corpus::train:title"]
    ws = SimpleNamespace(
        suite_file=tmp_path / "suite.yaml",
        suite=SimpleNamespace(study=SimpleNamespace(texts=entries)),
        cache=tmp_path / "cache",
        offline=True,
        file=lambda value: tmp_path / value,
    )
    found = studying.texts(cast("Any", ws))
    files = ["one/deep/notes.txt", "one/notes.txt", "two/notes.txt"]
    rows = [f"own/corpus:{kind}:{n}" for kind in ("train", ":train:title") for n in (0, 2, 3)]
    assert [t.name for t in found] == files + rows
    for kept in (tmp_path / "cache" / "texts").iterdir():  # as a version without the field in its names left it
        kept.write_text(kept.read_text(encoding="utf-8").replace("::train:title:", ":train:"), encoding="utf-8")
    assert studying.texts(cast("Any", ws)) == found


def test_a_field_that_is_not_there_or_no_text(hub: Path, tmp_path: Path) -> None:
    source = DataSource(offline=True, cache_dir=tmp_path / "hub")
    for field in ("body", "number"):
        with pytest.raises(UsageError, match=f"no text in the field '{field}'; it has text, title, number"):
            hub_texts(parse_hub(f"hub:own/corpus:::{field}", "x"), tmp_path / "cache", source, "x")
    (hub / "train.jsonl").write_text('{"text": " ", "title": "", "number": 1}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="holds no text"):
        hub_texts(parse_hub("hub:own/corpus", "x"), tmp_path / "cache", source, "x")


def test_offline_without_the_dataset_is_one_line_with_a_cure(tmp_path: Path) -> None:
    source = DataSource(offline=True, cache_dir=tmp_path / "hub")
    with pytest.raises(UsageError) as caught:
        hub_texts(parse_hub("hub:nobody/nothing", "x"), tmp_path / "cache", source, "suite.yaml: study: texts")
    assert "not in the hub's cache, and offline was asked for" in str(caught.value)
    assert "run once without --offline" in caught.value.cure
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("late", [False, True])
def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, late: bool) -> None:
    import datasets

    def fail(*_: Any, **__: Any) -> Any:
        def rows() -> Iterator[dict[str, str]]:
            yield {"text": "one"}
            raise ConnectionError("cannot reach the server\nTraceback ...")

        if late:
            return rows()
        raise ConnectionError("cannot reach the server\nTraceback ...")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UsageError) as caught:
        hub_texts(parse_hub("hub:a/b", "x"), tmp_path, DataSource(), "x")
    assert "ConnectionError: cannot reach the server)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.jsonl"))  # half of a text is not kept


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in (("b.md", "B"), ("a.txt", "A"), ("c.csv", "C"), ("sub/d.txt", "D")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert [t.text for t in files_of(tmp_path, "x")] == ["A", "B", "D"]
    assert [t.text for t in files_of(tmp_path / "c.csv", "x")] == ["C"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UnicodeDecodeError"):
        files_of(tmp_path, "x")
    with pytest.raises(UsageError, match="there is no"):
        files_of(tmp_path / "nowhere", "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.txt or \.md file"):
        files_of(tmp_path / "empty", "x")
