"""Which option of a ranked item is the right one, on real tasks, held against the tasks' own scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from forgetbench.behaviour.options import option_scores
from forgetbench.planning.plan import TaskJob
from forgetbench.rounds import Side
from forgetbench.tasks.base import Task
from forgetbench.tasks.custom import CustomSet, SetSpec
from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.tasks.mmlu import Mmlu
from forgetbench.tasks.source import DataSource
from forgetbench.tasks.truthfulqa import TruthfulQa
from forgetbench.types import ContinuationScore, Item, Response
from tests.parity.bridged import own


def ranked(task: Task, items: Sequence[Item], seed: int) -> Side:
    """A side that gave each option a random log-probability."""
    rng = np.random.default_rng(seed)
    records = [
        SimpleNamespace(
            key=item.key,
            replicate=0,
            extra={"choice_logprobs": rng.normal(size=len(task.prompt(item, 0).choices)).tolist()},
        )
        for item in items
        if task.prompt(item, 0).form == "rank"
    ]
    entry = SimpleNamespace(identity=SimpleNamespace(task=task.name, view="ability"))
    run = SimpleNamespace(entries=[entry], read_records=lambda *_: records)
    return Side(cast("Any", SimpleNamespace()), cast("Any", run), [TaskJob(task, items, "ability", "raw")])


def check(task: Task, items: Sequence[Item], expected: int) -> None:
    """The most likely option is the right one where the task itself says so."""
    sides = [ranked(task, items, seed) for seed in (0, 1)]
    notes: list[str] = []
    [(name, view, scores)] = option_scores(sides[0], sides[1], notes)
    assert (name, view, scores.gold.size, notes) == (task.name, "ability", expected, [])
    judged = []
    for item, record in zip(items, sides[0].run.read_records("", "ability"), strict=False):
        response = Response("r", scores=tuple(ContinuationScore(v, False, 1) for v in record.extra["choice_logprobs"]))
        judged.append(task.score(item, response)[0].scores[task.metrics[0]])
    assert (scores.base.argmax(axis=1) == scores.gold).astype(float).tolist() == judged
    assert 0 < sum(judged) < expected


@pytest.mark.realdata
def test_mmlu(data_dir: Path) -> None:
    task = Mmlu(DataSource(data_dir=data_dir))
    check(task, task.load()[:300], 300)


@pytest.mark.unit
def test_a_custom_choice_set_that_also_writes(tmp_path: Path) -> None:
    """The first line generates: the form is each item's own."""
    lines: list[dict[str, Any]] = [
        {"prompt": f"Town {n}?", "choices": [f"a{n}", f"b{n}", f"c{n}"][: 2 + n % 2], "answer": "b" + str(n)}
        for n in range(30)
    ]
    lines.insert(0, {"prompt": "Say it.", "references": ["it"], "scorer": "exact"})
    file = tmp_path / "towns.jsonl"
    file.write_text("".join(json.dumps({"task_type": "a/b", **line}) + "\n" for line in lines), encoding="utf-8")
    task = CustomSet(SetSpec(name="towns", path=file, scorer="choice"))
    items = task.load()
    check(task, [*items[1:], items[0]], 30)
    assert next(iter(option_scores(ranked(task, items, 0), ranked(task, items, 1), [])))[2].gold.tolist() == [1] * 30


@pytest.mark.unit
def test_a_task_of_lm_eval(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    docs = [{"q": f"{n} + 1?", "answer": 0, "right": n % 3, "c": [f"{n}{j}" for j in range(3)]} for n in range(30)]
    own(
        tmp_path,
        "sums",
        docs,
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_target="right",
        doc_to_choice="c",
        metric_list=[{"metric": "acc"}],
    )
    task = LmEvalTask("sums", include=tmp_path)
    check(task, task.load(), 30)


@pytest.mark.realdata
def test_several_true_answers_are_left_out_and_said(data_dir: Path) -> None:
    """Else the 50 of 817 questions with one true answer would stand for all."""
    task = TruthfulQa(DataSource(data_dir=data_dir))
    notes: list[str] = []
    assert not list(option_scores(ranked(task, task.load(), 0), ranked(task, task.load(), 1), notes))
    assert notes == ["truthfulqa: how sure among options is not told: most items have several right ones"]
