"""Best of N: what is kept, what is left out and why, and that no item of the suite is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import ForgetbenchError
from forgetbench.tasks.custom import CustomSet, load_set
from forgetbench.tasks.items import KeyMaker
from forgetbench.training.best_of import TrainingPrompts, _hashes, best_of, lines, question_hash, suite_hashes
from forgetbench.training.check.rows import Row, Turn
from forgetbench.types import Generate, Generation, Item, ItemKey, Judged, PromptSpec, Request, Response
from tests.training.made import asker, point, row, write

pytestmark = pytest.mark.unit
LINES: list[dict[str, Any]] = [
    {"task_type": "math/sum", "prompt": "2+3?", "references": ["5"], "scorer": "numeric"},
    {"task_type": "math/sum", "prompt": "2+2?", "references": ["4"], "scorer": "numeric"},
    {"task_type": "text/word", "prompt": "Say hi", "references": ["hi"], "scorer": "contains"},
    {"task_type": "text/shape", "prompt": "Three digits", "references": [r"^\d{3}$"], "scorer": "regex"},
]
SAID = {
    "2+3?": ["six", "it is 6", "it is 5", "5"],
    "2+2?": ["1", "2", "3", "5"],
    "Say hi": ["oh hi there", "hi", "no", "no"],
    "Three digits": ["12", "123", "1234", "999"],
}


def _answer(request: Request) -> list[str]:
    return next(said for asked, said in SAID.items() if asked in (request.prompt.text or ""))


@pytest.fixture
def task(tmp_path: Path) -> CustomSet:
    return load_set(write(tmp_path / "made.jsonl", LINES))


def test_the_first_right_answer_is_kept_with_its_provenance(task: CustomSet) -> None:
    ask, seen = asker(_answer)
    found = best_of(task, point(), ask, 4, seed=7)
    assert [(k.answer, k.sample, k.right, k.tried) for k in found.kept] == [
        ("it is 5", 2, 2, 4),
        ("oh hi there", 0, 2, 4),
        ("123", 1, 2, 4),
    ]
    assert [w.item.source for w in found.without] == ["made.jsonl:2"]
    assert "none of 4 answers is right" in found.without[0].why
    assert found.by_type == {"math/sum": (1, 2), "text/shape": (1, 1), "text/word": (1, 1)}
    made = lines(found, point(), "T0.8/p0.95/K4")[0]
    assert made["messages"] == [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "it is 5"}]
    body = seen[0].body
    assert isinstance(body, Generate)
    assert made["provenance"] == {
        "source": "made.jsonl:1", "item": str(found.kept[0].item.key), "model": "made", "digest": "0123456789abcdef",
        "decode": "T0.8/p0.95/K4", "seed": body.seeds[2], "sample": 2, "score": 1.0, "right": 2, "tried": 4,
    }  # fmt: skip


def test_seeds_differ_between_samples_items_and_runs(task: CustomSet) -> None:
    drawn = []
    for seed in (0, 0, 1):
        ask, seen = asker(_answer)
        best_of(task, point(), ask, 4, seed=seed)
        drawn.append([s for r in seen if isinstance(r.body, Generate) for s in r.body.seeds])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0] + drawn[2])) == 32
    body = seen[0].body
    assert isinstance(body, Generate)
    assert (body.temperature, body.top_p) == (0.8, 0.95)


def test_items_of_the_suite_are_never_asked_unless_wanted(task: CustomSet, tmp_path: Path) -> None:
    suite = write(tmp_path / "suite.jsonl", [{**LINES[0], "task_type": "other/name", "prompt": " 2+3? "}, LINES[2]])
    known = suite_hashes([load_set(suite)])
    ask, seen = asker(_answer)
    found = best_of(task, point(), ask, 4, suite=known)
    assert [i.source for i in found.in_suite] == ["made.jsonl:1", "made.jsonl:3"]
    assert not any("2+3?" in (r.prompt.text or "") or "Say hi" in (r.prompt.text or "") for r in seen)
    assert {k.item.source for k in found.kept} == {"made.jsonl:4"}
    ask, _ = asker(_answer)
    assert len(best_of(task, point(), ask, 4).kept) == 3
    assert question_hash("A  b") == question_hash("a B") != question_hash("ab")


@pytest.mark.parametrize(
    "before",
    [
        [Turn("system", "You are helpful.")],
        [Turn("system", "You are helpful."), Turn("user", "Hello"), Turn("assistant", "Hello!")],
    ],
)
def test_items_of_the_suite_are_recognised_below_a_system_turn(before: list[Turn]) -> None:
    suite = suite_hashes([TrainingPrompts("s", [row("Capital of Peru?", "Lima")], "exact")])
    turns = (*before, Turn("user", "capital  of Peru?"), Turn("assistant", "Lima"))
    other = (*before, Turn("user", "Capital of Chile?"), Turn("assistant", "Lima"))
    task = TrainingPrompts("d", [Row("d:1", turns, "x/y"), Row("d:2", other, "x/y")], "exact")
    ask, _ = asker(lambda request: ["Lima"])
    found = best_of(task, point(), ask, 1, suite=suite)
    assert [i.source for i in found.in_suite] == ["d:1"]
    assert [k.item.source for k in found.kept] == ["d:2"]


def test_all_user_turns_together_are_recognised_as_an_item_of_the_suite(tmp_path: Path) -> None:
    said = [("user", "Name a city"), ("assistant", "Where?"), ("user", "Peru")]
    messages = [{"role": r, "content": c} for r, c in said]
    line = {"task_type": "a/b", "messages": messages, "references": ["Lima"], "scorer": "exact"}
    suite = suite_hashes([load_set(write(tmp_path / "suite.jsonl", [line]))])
    turns = (*(Turn(r, c) for r, c in said), Turn("assistant", "Lima"))
    task = TrainingPrompts("d", [Row("d:1", turns, "x/y")], "exact")
    ask, _ = asker(lambda request: ["Lima"])
    assert len(best_of(task, point(), ask, 1, suite=suite).in_suite) == 1


def test_a_right_answer_that_was_cut_is_not_kept(task: CustomSet) -> None:
    def cut(request: Request) -> Response:
        assert isinstance(request.body, Generate)
        made = tuple(Generation(t, (1,), "length") for t in _answer(request))
        return Response(request.request_id, generations=made)

    ask, _ = asker(cut)
    found = best_of(task, point(), ask, 4)
    assert found.kept == ()
    assert "2 of 4 right answers were cut at the token limit" in found.without[0].why


def test_an_engines_failure_is_no_wrong_answer(task: CustomSet) -> None:
    ask, _ = asker(lambda request: Response(request.request_id, error="gone"))
    assert {w.why for w in best_of(task, point(), ask, 2).without} == {"the engine failed on it"}


def test_training_prompts_are_scored_against_their_answers() -> None:
    turns = (Turn("system", "Be brief"), Turn("user", "Capital of Peru?"), Turn("assistant", "Lima"))
    data = [Row("d.jsonl:1", turns, "geo/capital"), row("Capital of Chile?", "Santiago", None, 2)]
    data += [
        row("Capital of Chile?", "Santiago de Chile", None, 3),
        Row("t.txt:1", (Turn("", "plain"),), None, plain=True),
    ]
    task = TrainingPrompts("d", data, "contains")
    assert [i.source for i in task.load()] == ["d.jsonl:1", "made.jsonl:2"]
    ask, seen = asker(lambda r: ["It is Lima.", "Lima"] if "Peru" in (r.prompt.text or "") else ["no"])
    found = best_of(task, point(), ask, 2)
    assert seen[0].prompt.text == "<system>Be brief<user>Capital of Peru?<assistant>"
    assert [(k.answer, [m.role for m in k.messages]) for k in found.kept] == [("It is Lima.", ["system", "user"])]
    assert [w.item.source for w in found.without] == ["made.jsonl:2"]
    assert "Santiago de Chile" in found.without[0].why, "both answers of the file are right"
    assert lines(found, point(), "T")[0]["task_type"] == "geo/capital"
    ask, seen = asker(lambda r: ["Lima"])
    best_of(task, point(template=None), ask, 2)
    assert seen[0].prompt.text == "Q: Be brief\nCapital of Peru?\nA:"
    with pytest.raises(ForgetbenchError, match="use one of exact"):
        TrainingPrompts("d", data, "choice")


def test_worked_examples_are_asked_with_and_never_kept(tmp_path: Path) -> None:
    from forgetbench.tasks.custom import RawFormat, SetSpec

    shot = {"task_type": "math/sum", "prompt": "1+1?", "references": ["2"], "scorer": "numeric"}
    spec = SetSpec(
        "made",
        write(tmp_path / "made.jsonl", LINES[:1]),
        fewshot=write(tmp_path / "shots.jsonl", [shot]),
        raw=RawFormat(num_fewshot=1),
    )
    ask, seen = asker(_answer)
    found = best_of(load_set(spec), point(template=None), ask, 4)
    assert seen[0].prompt.text == "Q: 1+1?\nA: 2\n\nQ: 2+3?\nA:"
    assert [m.content for m in found.kept[0].messages] == ["2+3?"]


def test_what_cannot_be_sampled_says_why(tmp_path: Path, task: CustomSet) -> None:
    ask, _ = asker(_answer)
    choice = {"task_type": "a/b", "prompt": "?", "scorer": "choice", "choices": ["x", "y"], "answer": "x"}
    ranked = load_set(write(tmp_path / "ranked.jsonl", [choice]))
    with pytest.raises(ForgetbenchError, match=r"ranks options.*ranked\.jsonl:1|ranked\.jsonl:1.*ranks options"):
        best_of(ranked, point(), ask, 2)
    for n, temperature, problem in ((0, 1.0, "--best-of"), (2, 0.0, "--temperature")):
        with pytest.raises(ForgetbenchError, match=problem):
            best_of(task, point(), ask, n, temperature=temperature)


class Choices:
    """A task whose questions show options, as those of MMLU do."""

    name, version, metrics, binary = "mc", "1", ("acc",), True

    def __init__(self, *docs: tuple[str, list[str]]) -> None:
        made = [{"question": text, "choices": choices} for text, choices in docs]
        key_of = KeyMaker("mc")
        self._items = [Item(key_of(doc), "a/b", doc, "A", "") for doc in made]

    def load(self) -> list[Item]:
        return self._items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        return PromptSpec("rank", f"{item.doc['question']}\nAnswer:", choices=("A", "B"))

    def score(self, item: Item, response: Response) -> list[Judged]:
        return []

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return None


@pytest.mark.parametrize("text", ["What is the  capital of peru?", "秘鲁的首都是哪里？"])
def test_a_question_of_the_suite_is_recognised_without_its_options(text: str) -> None:
    mine = Choices(("What is the capital of Peru?", ["Lima", "Quito"]), ("秘鲁的首都是哪里？", ["利马", "基多"]))
    suite = suite_hashes([mine])
    task = TrainingPrompts("d", [row(text, "Lima", line=1), row("What is the capital of Chile?", "x", line=2)], "exact")
    ask, _ = asker(lambda request: ["x"])
    assert [i.source for i in best_of(task, point(), ask, 1, suite=suite).in_suite] == ["made.jsonl:1"]


def test_a_question_with_options_is_recognised_where_the_suite_asks_it_without() -> None:
    suite = suite_hashes([TrainingPrompts("s", [row("What is the capital of Peru?", "Lima")], "exact")])
    assert _in(suite, "What is the capital of Peru?", ["Lima", "Quito"])
    assert not _in(suite, "What is the capital of Chile?", ["Lima", "Quito"])


@pytest.mark.parametrize(
    "text",
    [
        "Which of the following is true?",
        "Which one of these statements is NOT correct?",
        "下列关于以下说法正确的是？",
        "Choose the odd one.",
    ],
)
def test_a_question_that_says_nothing_without_its_options_is_another_with_others(text: str) -> None:
    suite = suite_hashes([Choices((text, ["Iron floats", "Ice floats"]))])
    assert _in(suite, text, ["Iron floats", "Ice floats"])
    assert not _in(suite, text, ["Fish swim", "Fish fly"])


def test_a_text_that_the_suite_asks_with_several_options_says_nothing_alone() -> None:
    text = "Which word does not go with the rest?"
    suite = suite_hashes([Choices((text, ["cat", "dog"]), (text, ["red", "blue"]))])
    assert not _in(suite, text, ["one", "two"])
    one = suite_hashes([Choices((text, ["cat", "dog"]), (text, ["cat", "dog"]))])
    assert _in(one, text, ["one", "two"])


def _in(suite: frozenset[str], text: str, choices: list[str]) -> bool:
    task = Choices((text, choices))
    return bool(_hashes(task, task.load()[0]) & suite)
