"""Amounts, copies, replay, held-out and retention data."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from forgetbench.training.check.duplicates import NEAR, overlaps, shingles
from forgetbench.training.preflight.mixture import amounts, held_out, repetitions, replay, retention
from forgetbench.training.recipe import FromBase, Replay
from tests.cli.workspace import write as write_workspace
from tests.training.made import rows as made_rows
from tests.training.preflight.made import chats, gathered

pytestmark = pytest.mark.unit
WORDS = [f"word{i}" for i in range(200)]


def _texts(rng: random.Random, n: int) -> list[tuple[str, str]]:
    return [(" ".join(rng.choices(WORDS, k=30)), " ".join(rng.choices(WORDS, k=10))) for _ in range(n)]


@pytest.mark.parametrize("seed", range(4))
def test_overlaps_equal_those_of_comparing_all_with_all(seed: int) -> None:
    rng = random.Random(seed)
    train = _texts(rng, 60)
    held = _texts(rng, 20)
    for i in range(0, 20, 2):  # copies with 0 to 6 words swapped
        swapped = train[rng.randrange(60)][0].split()
        for _ in range(rng.randrange(4)):
            swapped[rng.randrange(30)] = rng.choice(WORDS)
        held[i] = (" ".join(swapped), train[rng.randrange(60)][1])
    held[1] = train[7]
    rows, others = made_rows(train), made_rows(held)
    expected: dict[int, float] = {}
    for i, other in enumerate(others):
        theirs = shingles(other.text)
        best = max(len(theirs & shingles(r.text)) / len(theirs | shingles(r.text)) for r in rows)
        if best >= NEAR:
            expected[i] = best
    found = overlaps(rows, others)
    assert {i: s for i, _, s in found} == pytest.approx(expected)
    assert (1, 7, 1.0) in found


def test_short_examples_overlap_word_for_word_only() -> None:
    rows = made_rows([("What is 1 + 1?", "2"), ("What is 2 + 1?", "3")])
    others = made_rows([("what is  1 + 1?", "2"), ("What is 1 + 2?", "3")])
    assert overlaps(rows, others) == [(0, 0, 1.0)]
    assert overlaps(rows, []) == overlaps([], others) == []


def test_held_out_data_that_is_trained_fails_or_warns(tmp_path: Path) -> None:
    long = chats(1, answer="one two three four five six seven eight nine ten eleven twelve")
    near = chats(1, answer="one two three four five six seven eight nine ten eleven thirteen")
    fresh = chats(12)[8:]
    found = held_out(gathered(tmp_path, held=fresh, max_length=128))
    assert (found.state, found.figures["held_out"]) == ("pass", 4)
    found = held_out(gathered(tmp_path, held=[*fresh, chats()[2]]))
    assert (found.state, found.figures["exact"]) == ("fail", 1)
    assert found.lines == (f"{tmp_path / 'held.jsonl'}:5 like {tmp_path / 'data.jsonl'}:3 (1.00)",)
    found = held_out(gathered(tmp_path, [*chats(), *long], held=near, max_length=128))
    assert (found.state, found.figures["near"]) == ("warn", 1)
    found = held_out(gathered(tmp_path, held=fresh, replay=fresh[:1], max_length=128))
    assert (found.state, found.figures["exact"]) == ("fail", 1)


def test_held_out_data_that_is_missing_or_never_read_warns(tmp_path: Path) -> None:
    assert held_out(gathered(tmp_path)).state == "warn"
    found = held_out(gathered(tmp_path, held=chats(12)[8:], eval_every=None))
    assert (found.state, found.cure) == ("warn", "set `eval_every`")


def test_amounts_of_the_run(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, steps=None, epochs=3)
    found = amounts(inputs)
    assert found.state == "pass"
    assert found.figures["tokens"] == sum(len(s.ids) for s in inputs.target.samples)
    assert (found.figures["passes"], found.figures["task_types"]) == (3, {"a/even": 4, "a/odd": 4})
    assert amounts(gathered(tmp_path, [{"text": "abc"}])).state == "warn"


def test_replay_is_counted_in_tokens_of_the_run(tmp_path: Path) -> None:
    texts = [{"text": f"text number {i}"} for i in range(12)]
    inputs = gathered(tmp_path, replay=texts, share=0.3, steps=40)
    found = replay(inputs)
    replayed = whole = 0
    for batch in inputs.batches:
        for d in (d for row in batch.rows for d in row):
            whole += len(inputs.documents[d].ids)
            replayed += len(inputs.documents[d].ids) if d >= 8 else 0
    assert found.figures["share"] == pytest.approx(replayed / whole)
    assert (found.state, found.figures["share"]) == ("pass", pytest.approx(0.3, abs=0.02))
    far = replay(gathered(tmp_path, replay=[{"text": "x" * 90}], share=0.02, steps=40))
    assert far.state == "warn"
    assert replay(gathered(tmp_path)).state == "warn"
    recipe = inputs.recipe.model_copy(update={"replay": Replay(share=0.1, from_base=FromBase(n=7))})
    own = replay(dataclasses.replace(inputs, recipe=recipe))
    assert (own.state, own.figures["asked"]) == ("pass", 0.1)
    assert "7 texts that the base writes" in own.evidence


def test_copies_and_conflicts_are_told(tmp_path: Path) -> None:
    assert repetitions(gathered(tmp_path)).state == "pass"
    found = repetitions(gathered(tmp_path, [*chats(), chats()[0]]))
    assert (found.state, found.figures["duplicates: exact"]) == ("warn", 1)
    assert repetitions(gathered(tmp_path, chats() * 2)).state == "fail"
    planted = [{**c, "task_type": "canary/fact-x4"} for c in chats(1, answer="varnole") * 4]
    found = repetitions(gathered(tmp_path, [*chats()[1:], *planted]))
    assert found.state == "pass"
    assert "4 lines of canaries are left out" in found.evidence
    assert repetitions(gathered(tmp_path, [*chats(), *chats(1, answer="no")])).figures["duplicates: conflict"] == 1


def test_items_of_the_retention_suite_in_the_data_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORGETBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    write_workspace(tmp_path)
    asked: dict[str, Any] = {"retention": {"suite": "suite.yaml", "every": 1}}
    assert retention(gathered(tmp_path)).state == "warn"
    found = retention(gathered(tmp_path, **asked))
    assert (found.state, found.figures["total"]) == ("pass", 200)
    leak = {"messages": [{"role": "user", "content": "21 + 1"}, {"role": "assistant", "content": "22"}]}
    found = retention(gathered(tmp_path, [*chats(), leak], **asked))
    assert (found.state, found.figures["count"]) == ("fail", 1)
    assert f"{tmp_path / 'data.jsonl'}:9" in found.lines[0]


def test_a_suite_that_cannot_be_read_fails_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = retention(gathered(tmp_path, retention={"suite": "nothing", "every": 1}))
    assert found.state == "fail"
    assert "there is no suite 'nothing'" in found.evidence
    assert "\n" not in found.evidence
