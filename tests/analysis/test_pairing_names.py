"""Pairing by name: what was paired on trust is counted, and a name that means two things is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from forgetbench.analysis.pairing import Selection, pair_frames
from forgetbench.errors import IncomparableError

pytestmark = pytest.mark.unit


def frame(rows: Sequence[tuple[str | None, str, float]], **more: Any) -> pd.DataFrame:
    """(name, content hash, score) of each record."""
    return pd.DataFrame(
        [
            {
                "task": "t",
                "content_hash": content,
                "occurrence": 0,
                "task_type": "a/b",
                "view": "ability",
                "decode_id": "greedy",
                "sample": 0,
                "replicate": 0,
                "round": 0,
                "outcome": "ok",
                "scores": {"acc": score},
                "gold_hash": "g",
                "extra": {} if name is None else {"key": name},
                **more,
            }
            for name, content, score in rows
        ]
    )


def paired(base: pd.DataFrame, candidate: pd.DataFrame) -> tuple[list[tuple[float, float]], tuple[str, ...]]:
    pairing = pair_frames(base, candidate, selection=Selection(by="key"))
    (scores,) = pairing.scores
    return list(zip(scores.base.tolist(), scores.candidate.tolist(), strict=True)), pairing.notes


def test_names_pair_what_contents_cannot() -> None:
    base = frame([("x", "a1", 1.0), ("y", "a2", 0.0)])
    candidate = frame([("y", "b2", 1.0), ("x", "b1", 0.0)])
    with pytest.raises(IncomparableError, match="2 of 2 items only in base"):
        pair_frames(base, candidate)
    pairs, notes = paired(base, candidate)
    assert pairs == [(1.0, 0.0), (0.0, 1.0)]
    assert any("2 items bear the same name in both; 2 of them have other contents" in note for note in notes)


def test_equal_contents_stay_pairs_and_are_no_doubt() -> None:
    rows = [("x", "a1", 1.0), (None, "a2", 0.0)]
    pairs, notes = paired(frame(rows), frame(rows))
    assert pairs == [(1.0, 1.0), (0.0, 0.0)]
    assert notes[0] == "t: paired by key: 1 items bear the same name in both"


def test_a_name_of_two_items_is_refused() -> None:
    base = frame([("x", "a1", 1.0), ("x", "a2", 0.0)])
    with pytest.raises(IncomparableError, match="1 names stand for several items of base"):
        paired(base, frame([("x", "a1", 1.0), ("y", "a2", 0.0)]))


def test_what_differs_is_noted_and_not_refused() -> None:
    base = frame([("x", "a1", 1.0)], prompt_text_hash="p")
    candidate = frame([("x", "b1", 1.0)], prompt_text_hash="q").assign(gold_hash="h", task_type="c/d")
    _, notes = paired(base, candidate)
    text = "; ".join(notes)
    for what in ("the reference answer differs", "the task_type differs", "the rendered prompt differs"):
        assert f"t (ability): {what} on 1 of 1 items" in text


def test_without_any_name_all_pair_by_content() -> None:
    rows = [(None, "a1", 1.0)]
    pairs, notes = paired(frame(rows), frame(rows))
    assert pairs == [(1.0, 1.0)]
    assert notes[0].startswith("paired by key: no item of either side has a name")
