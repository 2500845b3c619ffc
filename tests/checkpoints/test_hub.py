"""Hub ids: out of a (synthetic) cache, without look-ups when offline."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.checkpoints.hub import is_offline
from forgetbench.errors import UsageError

pytestmark = pytest.mark.unit
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client lays it out, with one model; any look-up fails the test."""
    repo = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(original, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a look-up while offline")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "hub"


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_model(hub_cache: Path, original: Path, revision: str | None) -> None:
    found = resolve(ModelSpec("m", "acme/tiny", revision=revision), cache_dir=hub_cache)
    assert found.folder == hub_cache / "models--acme--tiny" / "snapshots" / COMMIT
    assert found.digest == resolve(ModelSpec("x", str(original)), cache_dir=hub_cache).digest


@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        ("acme/other", None, "nor revision 'main' of it in the hub's cache"),
        ("acme/tiny", "v2", "nor revision 'v2'"),
        ("acme/tiny", "f" * 40, "nor revision 'ffff"),
    ],
)
def test_what_is_not_cached(hub_cache: Path, name: str, revision: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        resolve(ModelSpec("m", name, revision=revision), cache_dir=hub_cache)
    assert "offline" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["./acme/tiny", "/acme/tiny", "acme/tiny/deep", "ac me", "", "../x", "a\nb", "~nobody-here/x", "a\0b", "x/" * 3000],
)
def test_what_is_no_hub_id_is_a_missing_folder(hub_cache: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"models\.m\.path: .*there is no such folder; check the path"):
        resolve(ModelSpec("m", name), cache_dir=hub_cache)


def test_offline_is_said_in_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "FORGETBENCH_OFFLINE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert not is_offline()
    for name in names:
        monkeypatch.setenv(name, "1")
        assert is_offline()
        monkeypatch.setenv(name, "0")
        assert not is_offline()
