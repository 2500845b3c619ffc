from __future__ import annotations

from pathlib import Path

import pytest

from forgetbench.errors import UsageError
from forgetbench.tasks.mmlu import Mmlu
from forgetbench.tasks.open_questions import DEV, LONGEST, OpenQuestions, needs_options
from forgetbench.tasks.registry import get_task
from forgetbench.tasks.source import DataSource
from forgetbench.types import Generation, Response

OPTIONS = ("Paris", "Rome", "Oslo", "Bonn")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("question", "choices", "needs"),
    [
        ("What is the capital of France?", OPTIONS, False),
        ("Which town is the capital of France?", OPTIONS, False),
        ("Which of the following is a capital?", OPTIONS, True),
        ("Which of these is a capital?", OPTIONS, True),
        ("All are capitals EXCEPT?", OPTIONS, True),
        ("The capital of France is", OPTIONS, True),
        ("The capital of ____ is Paris?", OPTIONS, True),
        ("Statement 1 | Paris is a town. Statement 2 | Rome is one. Which?", OPTIONS, True),
        ("What is the capital of France?", ("Paris", "Rome", "Oslo", "None of the above"), True),
        ("Is it so?", ("Yes, it is", "No", "Perhaps", "Never"), True),
        ("What holds?", ("I only", "II only", "I and II", "Neither"), True),
    ],
)
def test_which_questions_need_their_options(question: str, choices: tuple[str, ...], needs: bool) -> None:
    assert needs_options(question, choices) is needs


@pytest.mark.realdata
def test_on_the_real_questions(data_dir: Path) -> None:
    mmlu = Mmlu(DataSource(data_dir=data_dir, offline=True))
    task = OpenQuestions(mmlu)
    items = task.load()
    assert len(items) == 2250  # which the shipped policies call the full set
    assert len({i.key for i in items}) == len(items)
    known = {(i.key.content_hash, i.key.occurrence): i for i in mmlu.load()}
    for item in items:
        closed = known[item.key.content_hash, item.key.occurrence]
        gold = closed.doc["choices"][closed.doc["answer"]]
        assert item.gold == gold.strip().rstrip(".")
        assert 0 < len(item.gold.split()) <= LONGEST
        assert "following" not in item.doc["question"].lower()
        spec = task.prompt(item, 0)
        assert spec.form == "generate"
        assert "\nA. " not in spec.question
    shots = {shot for i in items for shot in task.prompt(i, 4).shots}
    assert len(shots) >= 25
    assert all(s.question.startswith("Question: ") and "\nB. " not in s.question and s.answer for s in shots)
    item = items[0]
    right, wrong = (Generation(t, (1,), "stop") for t in (f" {item.gold}.", " something else"))
    assert [j.scores["correct"] for j in task.score(item, Response("r", (right, wrong)))] == [1.0, 0.0]
    assert task.canonical(item.doc) == item.key
    with pytest.raises(UsageError, match="open dev questions"):
        task.prompt(item, 1_000)


@pytest.mark.realdata
def test_every_subject_has_examples_its_own_first(data_dir: Path) -> None:
    """Few subjects have as many dev questions that can be asked openly as the default shows."""
    mmlu = Mmlu(DataSource(data_dir=data_dir, offline=True))
    task = get_task("mmlu_open", source=DataSource(data_dir=data_dir, offline=True))
    one_of = {item.doc["subject"]: item for item in task.load()}
    assert len(one_of) > 50
    own = {}
    for subject, item in one_of.items():
        asked = [shot.question.split("\nA. ")[0] for shot in mmlu.prompt(item, DEV).shots]
        shots = task.prompt(item, 20).shots
        mine = [shot.chat_question in asked for shot in shots]
        assert len(set(shots)) == 20
        assert mine == sorted(mine, reverse=True)
        assert task.prompt(item, 4).shots == shots[:4]
        own[subject] = sum(mine)
    assert min(own.values()) == 0
    assert max(own.values()) == DEV
