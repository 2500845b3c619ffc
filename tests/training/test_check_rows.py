"""Structure, lengths, shares and leaks of training data, in every layout."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgetbench.analysis.leaks import Question
from forgetbench.errors import ForgetbenchError
from forgetbench.probing.training_lines import read_examples
from forgetbench.training.check.leaks import leaks
from forgetbench.training.check.lengths import lengths, outliers, structure
from forgetbench.training.check.report import Finding
from forgetbench.training.check.rows import Row, Turn, read_rows, row_of
from forgetbench.training.check.run import check_data
from forgetbench.training.check.shares import shares
from forgetbench.training.data import TrainingText
from forgetbench.types import ItemKey
from tests.training.made import chat, row, rows, write
from tests.training.preflight.made import gathered

pytestmark = pytest.mark.unit
LAYOUTS: list[dict[str, Any]] = [
    chat("Hi?", "Yes."),
    {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Yes."}]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi?"}]},
            {"role": "assistant", "content": "Yes."},
        ]
    },
    {"instruction": "Hi?", "output": "Yes."},
    {"instruction": "Do", "input": "this", "output": "ok"},
    {"prompt": "P", "response": "R"},
    {"prompt": "P", "chosen": "C", "rejected": "R"},
    {"prompt": [{"role": "user", "content": "P"}], "completion": [{"role": "assistant", "content": "C"}]},
    {"question": "Q", "answer": "A"},
]


def _by(found: list[Finding]) -> dict[str, Finding]:
    return {f.check: f for f in found}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda x: "-".join(x))
def test_prompt_and_answer_are_those_of_the_probe(tmp_path: Path, layout: dict[str, Any]) -> None:
    file = write(tmp_path / "d.jsonl", [layout])
    (mine,), (theirs,) = read_rows([file]), read_examples([file])
    assert (mine.prompt, mine.answer, mine.where) == (theirs.prompt, theirs.answer, theirs.where)


def test_where_several_keys_stand_in_a_line_the_one_that_is_learnt_counts() -> None:
    made = row_of({"question": "q", "answer": "a", "output": 5, "system": "S", "input": "more"}, "d:1")
    assert (made.prompt, made.answer, [t.role for t in made.turns]) == (
        "S\nq\nmore",
        "a",
        ["system", "user", "assistant"],
    )
    assert row_of({"text": "T", "output": "o"}, "d:1").plain


def test_a_key_that_is_not_learnt_does_not_stop_the_look_before_training(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, [{"question": f"q{n}", "answer": "a", "output": 5} for n in range(3)])
    assert [(r.prompt, r.answer) for r in inputs.target.rows] == [("q0", "a"), ("q1", "a"), ("q2", "a")]


def test_plain_text_and_task_types(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree")
    found = read_rows([tmp_path / "a.txt", write(tmp_path / "b.jsonl", [{"text": "T", "task_type": " x/y "}])])
    assert [(r.where, r.text, r.plain, r.task_type) for r in found] == [
        ("a.txt:1", "one\ntwo", True, None),
        ("a.txt:4", "three", True, None),
        ("b.jsonl:1", "T", True, "x/y"),
    ]


@pytest.mark.parametrize(
    ("example", "check", "state"),
    [
        (chat("Hi?", "  "), "empty answers", "fail"),
        ({"prompt": "P", "response": ""}, "empty answers", "fail"),
        (chat(" ", "Yes"), "empty prompts", "fail"),
        ({"messages": [{"role": "assistant", "content": "Yes"}]}, "empty prompts", "fail"),
        ({"messages": [{"role": "usr", "content": "P"}, {"role": "assistant", "content": "Y"}]}, "roles", "fail"),
        ({"messages": [{"role": "user", "content": "P"}]}, "assistant turn", "fail"),
        ({"instruction": "P"}, "assistant turn", "fail"),
        ({"messages": [*chat("P", "A")["messages"], {"role": "user", "content": "and?"}]}, "last turn", "warn"),
    ],
)
def test_each_mistake_is_found_with_its_line(tmp_path: Path, example: dict[str, Any], check: str, state: str) -> None:
    file = write(tmp_path / "d.jsonl", [chat("Hi?", "Yes."), example])
    found = _by(structure(read_rows([file])))
    assert (found[check].state, found[check].count, found[check].evidence[0].where) == (state, 1, "d.jsonl:2")
    assert found[check].cure
    assert [f.check for f in found.values() if f.state != "pass"] == [check]


def test_a_tool_call_needs_no_text() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [1]}
    made = row_of({"messages": [{"role": "user", "content": "P"}, call, {"role": "tool", "content": "1"}, *chat("", "A")["messages"][1:]]}, "x:1")  # fmt: skip
    assert all(f.state == "pass" for f in structure([made]))


def test_outliers_against_a_direct_robust_z() -> None:
    rng = np.random.default_rng(0)
    values = [*rng.normal(3, 0.3, size=200), 9.0, -4.0]
    x = np.asarray(values)
    z = 0.6744897501960817 * (x - np.median(x)) / np.median(np.abs(x - np.median(x)))
    assert outliers(values) == list(np.flatnonzero(np.abs(z) > 3.5))
    assert {200, 201} <= set(outliers(values))
    close = [3.0 + 0.01 * (n % 7) for n in range(50)]
    assert outliers([*close, 3.5, 2.5, 3.8]) == [52], "less than a factor of two is no outlier, however alike the rest"
    assert outliers([1.0] * 20 + [2.0, 5.0]) == [21], "MAD 0: ten times the median is far"
    assert outliers([0.0, 9.0]) == []


def test_lengths_are_told_and_outliers_named() -> None:
    rng = random.Random(0)
    data = rows([("p " * rng.randint(8, 12), "a " * rng.randint(4, 6)) for _ in range(50)])
    data.append(row("p " * 10, "a " * 900, line=77))
    found = _by(lengths(data, limit=100))
    assert found["lengths: prompts"].state == "pass"
    assert (found["lengths: answers"].state, found["lengths: answers"].evidence[0].where) == ("warn", "made.jsonl:77")
    assert found["lengths: answers"].figures["most"] == 900
    assert (found["lengths: limit"].state, found["lengths: limit"].count) == ("fail", 1)


def test_shares_missing_types_and_what_is_tested_only() -> None:
    data = [*rows([("p", "a")] * 9, "support/route"), row("p", "a", None, 20), row("q", "b", "flat", 21)]
    found = _by(shares(data, {"support/route", "code/call"}))
    assert found["shares"].state == "warn"
    assert found["shares"].figures["task_types"]["support/route"]["share"] == pytest.approx(9 / 11)
    assert found["task_type: missing"].evidence[0].where == "made.jsonl:20"
    assert found["task_type: form"].evidence[0].where == "made.jsonl:21"
    assert found["task_type: tested, not trained"].figures["missing"] == ["code/call"]
    untyped = _by(shares(rows([("p", "a")] * 9, None)))
    assert (untyped["shares"].state, untyped["task_type: missing"].state) == ("pass", "warn")
    even = _by(shares([*rows([("p", "a")] * 5, "a/b"), *rows([("p", "a")] * 5, "c/d")], {"a/b"}))
    assert all(f.state == "pass" for f in even.values())


def test_leaks_fail_when_word_for_word_and_warn_when_near() -> None:
    text = "which of these seven rivers of the northern land has the longest course of all"
    question = Question(ItemKey("rivers", "abc"), text)
    found = leaks([question], [TrainingText(text.upper() + "?", "d.jsonl:3")])
    assert (found.state, found.evidence[0].where) == ("fail", "d.jsonl:3")
    words = text.split()
    words[5] = "big"
    near = leaks([question], [TrainingText(" ".join(words), "d.jsonl:3")])
    assert (near.state, near.count) == ("warn", 1)
    assert leaks([question], [TrainingText("something else", "d.jsonl:3")]).state == "pass"


def test_everything_at_once_and_broken_files(tmp_path: Path) -> None:
    rng = random.Random(3)
    good = [
        chat(f"question {rng.random()} about {n}", f"answer {rng.random()}", task_type=f"t/{n % 3}") for n in range(60)
    ]
    found = check_data([write(tmp_path / "good.jsonl", good)])
    assert (found.examples, found.state, int(found.exit_code)) == (60, "pass", 0)
    assert len(found.notes) == 2, "what was not looked at is said"
    bad = check_data([write(tmp_path / "bad.jsonl", [*good, chat("x", "")])], questions=[])
    assert (bad.state, int(bad.exit_code)) == ("fail", 10)
    (tmp_path / "broken.jsonl").write_text(json.dumps(good[0]) + "\n{\n")
    with pytest.raises(ForgetbenchError, match=r"broken\.jsonl:2"):
        check_data([tmp_path / "broken.jsonl"])


def test_multi_turn_prompts_hold_what_came_before() -> None:
    turns = (Turn("system", "S"), Turn("user", "A"), Turn("assistant", "B"), Turn("user", "C"), Turn("assistant", "D"))
    made = Row("x:1", turns, None)
    assert (made.prompt, made.answer) == ("S\nA\nB\nC", "D")
