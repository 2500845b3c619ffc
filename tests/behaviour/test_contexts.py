"""Which checkpoints may read each other's texts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forgetbench.behaviour.contexts import fixed_texts, same_tokens
from forgetbench.behaviour.fixed import FixedText
from tests.engines.tiny import make_tokenizer

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


def reader(tokenizer: Any, **engine_args: Any) -> Any:
    served = SimpleNamespace(served=SimpleNamespace(engine_args=engine_args))
    return cast("Any", SimpleNamespace(tokenizer=lambda: tokenizer, spec=served))


def test_fixed_texts_begin_as_raw_prompts_do() -> None:
    """A model that always saw BOS is another one without it: its first tokens would cost bits that say nothing."""
    tokenizer = make_tokenizer(bos=True)
    text = "The quick brown fox. " * 50
    pieces = fixed_texts([FixedText("a", text), FixedText("b", "x"), FixedText("c", "")], reader(tokenizer))
    assert [p.name for p in pieces] == ["a#0", "a#1", "b#0"]  # after BOS one token can be read
    assert {p.prompt.token_ids for p in pieces} == {(tokenizer.bos_token_id,)}
    assert "".join(tokenizer.decode(list(p.token_ids)) for p in pieces) == text + "x"
    assert sum(p.n_bytes or 0 for p in pieces) == len(text) + 1
    assert all(p.cost == 1 + len(p.token_ids) for p in pieces)
    bare = fixed_texts([FixedText("a", text)], reader(tokenizer, add_bos_token=False))
    assert all(tokenizer.bos_token_id not in (p.prompt.token_ids or ()) for p in bare)


def test_fixed_texts_are_cut_into_pieces_that_know_their_bytes() -> None:
    tokenizer = make_tokenizer(bos=False)
    point = reader(tokenizer)
    text = "Übergröße, naïve café. " * 50
    pieces = fixed_texts([FixedText("a.txt", text), FixedText("b.txt", "x")], point)
    assert [p.name for p in pieces] == ["a.txt#0", "a.txt#1"]  # one token alone cannot be read
    read = [tokenizer.decode([*(p.prompt.token_ids or ()), *p.token_ids]) for p in pieces]
    assert "".join(read) == text
    for piece, whole in zip(pieces, read, strict=True):
        first = tokenizer.decode(list(piece.prompt.token_ids or ()))
        assert piece.n_bytes == len(whole.encode()) - len(first.encode())
        assert (piece.cost, piece.cluster) == (1 + len(piece.token_ids), None)
    many = fixed_texts([FixedText(f"{i}", "one two three") for i in range(20)], point)
    assert [p.cluster for p in many] == [str(i) for i in range(20)]
