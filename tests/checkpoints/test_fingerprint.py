"""Digests of files are remembered for exactly as long as the file is the same."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from forgetbench.checkpoints import fingerprint
from forgetbench.checkpoints.fingerprint import FingerprintStore, default_cache_dir, digest_json

pytestmark = pytest.mark.unit


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were really read."""
    seen: list[Path] = []
    original = fingerprint.sha256_file

    def spy(path: Path) -> str:
        seen.append(path)
        return original(path)

    monkeypatch.setattr(fingerprint, "sha256_file", spy)
    return seen


def old_file(path: Path, content: bytes) -> Path:
    """A file whose times are past the store's caution about the clock's ticks."""
    path.write_bytes(content)
    time.sleep(0.06)
    return path


def test_read_once(tmp_path: Path, reads: list[Path]) -> None:
    file = old_file(tmp_path / "w", b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    for _ in range(3):
        assert FingerprintStore(tmp_path / "cache").sha256(file) == expected
    assert len(reads) == 1


def test_same_size_and_mtime_but_other_content_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    file = old_file(tmp_path / "w", b"abc")
    store = FingerprintStore(tmp_path / "cache")
    store.sha256(file)
    stat = file.stat()
    file.write_bytes(b"abd")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # ctime cannot be set back
    assert store.sha256(file) == hashlib.sha256(b"abd").hexdigest()
    assert len(reads) == 2


def test_another_file_moved_into_place_is_read_again(tmp_path: Path, reads: list[Path]) -> None:
    file = old_file(tmp_path / "w", b"abc")
    other = old_file(tmp_path / "other", b"xyz")
    store = FingerprintStore(tmp_path / "cache")
    store.sha256(file)
    other.replace(file)
    assert store.sha256(file) == hashlib.sha256(b"xyz").hexdigest()


def test_a_file_written_just_now_is_not_trusted(tmp_path: Path, reads: list[Path]) -> None:
    """Two writes within one tick leave the same times."""
    store = FingerprintStore(tmp_path / "cache")
    file = tmp_path / "w"
    file.write_bytes(b"abc")
    os.utime(file, ns=(10**18, 10**18))  # a file system with whole seconds
    store.sha256(file)
    store.sha256(file)
    assert len(reads) == 2


def test_hub_blobs_name_themselves(tmp_path: Path, reads: list[Path]) -> None:
    name = hashlib.sha256(b"large").hexdigest()
    blob = tmp_path / "models--a--b" / "blobs" / name
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"large")
    link = tmp_path / "models--a--b" / "snapshots" / "c0" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    store = FingerprintStore(tmp_path / "cache")
    assert store.sha256(link) == name
    assert reads == []
    small = blob.parent / ("a" * 40)  # a git hash, not a sha256 of the content
    small.write_bytes(b"{}")
    config = link.parent / "config.json"
    config.symlink_to(small)
    assert store.sha256(config) == hashlib.sha256(b"{}").hexdigest()
    assert len(reads) == 1


def test_a_damaged_or_forbidden_store_costs_time_only(tmp_path: Path, reads: list[Path]) -> None:
    file = old_file(tmp_path / "w", b"abc")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fingerprints.sqlite3").write_bytes(b"this is no database" * 100)
    (tmp_path / "taken").write_text("a file where the folder should be")
    for folder in (tmp_path / "cache", tmp_path / "taken"):
        store = FingerprintStore(folder)
        assert store.sha256(file) == hashlib.sha256(b"abc").hexdigest()
        assert store.fact("k", lambda: [1]) == [1]
    assert len(reads) == 2


def test_facts_are_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, int | None]:
        calls.append(1)
        return {"id": 3, "none": None}

    for _ in range(3):
        assert FingerprintStore(tmp_path).fact("key", compute) == {"id": 3, "none": None}
    assert len(calls) == 1
    assert FingerprintStore(tmp_path).fact("other", lambda: None) is None


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": [1, "é"]}) == digest_json({"b": [1, "é"], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": "1"})
    assert len(digest_json(None)) == 16


def test_default_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORGETBENCH_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("FORGETBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "forgetbench"
