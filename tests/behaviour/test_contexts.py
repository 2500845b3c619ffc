"""Which checkpoints may read each other's texts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forgetbench.behaviour.contexts import same_tokens

pytestmark = pytest.mark.unit

MODEL = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}


def side(folder: Path, digest: str, added: dict[str, int], model: dict[str, Any] = MODEL) -> Any:
    folder.mkdir()
    tokens = [{"content": text, "id": number} for text, number in added.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": tokens}), encoding="utf-8")
    return SimpleNamespace(point=SimpleNamespace(parts={"tokenizer": digest}, tokenizer_folder=folder))


def test_new_special_tokens_leave_ordinary_text_as_it_is(tmp_path: Path) -> None:
    base = side(tmp_path / "base", "1", {"<end>": 3})
    assert same_tokens(base, side(tmp_path / "sft", "2", {"<end>": 3, "<user>": 4}))


@pytest.mark.parametrize(
    ("added", "model"), [({"<end>": 7}, MODEL), ({"<end>": 3}, {**MODEL, "merges": []}), ({"<end>": 3}, {})]
)
def test_another_cut_or_number_is_another_text(tmp_path: Path, added: dict[str, int], model: dict[str, Any]) -> None:
    base = side(tmp_path / "base", "1", {"<end>": 3})
    assert not same_tokens(base, side(tmp_path / "sft", "2", added, model))


def test_without_a_file_only_equal_digests_count(tmp_path: Path) -> None:
    base = side(tmp_path / "base", "1", {})
    nothing = SimpleNamespace(point=SimpleNamespace(parts={"tokenizer": "2"}, tokenizer_folder=None))
    assert not same_tokens(base, nothing)  # type: ignore[arg-type]
