"""Which item a row is about, where the task is known: copies, names, prompts, and what the task does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import ForgetbenchError
from forgetbench.runs.importers.gather import Options, gather
from forgetbench.runs.importers.store import Imported
from forgetbench.runs.importers.store import store as store_imported
from forgetbench.tasks.base import Task
from forgetbench.tasks.custom import SetSpec, load_set
from forgetbench.tasks.gsm8k import Gsm8k
from forgetbench.tasks.source import DataSource
from tests.runs.importing import QUESTIONS, imported, inspect_log, inspect_sample, lines, lm_eval_row

COPIED = (0, 0, 1)
"""The question of each line: the first two are copies."""


@pytest.fixture
def known(tmp_path: Path) -> Task:
    rows = [
        {"id": f"n{n}", "task_type": "count/legs", "prompt": QUESTIONS[q], "references": ["4"], "scorer": "exact"}
        for n, q in enumerate(COPIED)
    ]
    return load_set(SetSpec(name="legs", path=lines(tmp_path / "legs.jsonl", rows)))


def row(n: int, doc_id: int, **more: Any) -> dict[str, Any]:
    doc = {"task_type": "count/legs", "prompt": QUESTIONS[n]}
    return lm_eval_row(n, doc=doc, doc_id=doc_id, **more)


def of(path: Path, known: Task, **options: Any) -> Imported:
    (one,) = imported(path, known, task="legs", **options)
    return one


def test_copies_take_the_task_s_copies_in_turn(tmp_path: Path, known: Task) -> None:
    path = lines(tmp_path / "log.jsonl", [row(q, n, exact_match=float(n == 1)) for n, q in enumerate(COPIED)])
    one = of(path, known)
    assert [item.key for item in one.items] == [item.key for item in known.load()]
    assert [(r.occurrence, r.scores["exact_match"]) for r in one.records] == [(0, 0.0), (1, 1.0), (0, 0.0)]
    assert [r.task_type for r in one.records] == ["count/legs"] * 3
    assert not one.notes


def test_one_copy_more_than_the_task_has_is_refused(tmp_path: Path, known: Task) -> None:
    path = lines(tmp_path / "log.jsonl", [row(0, n) for n in range(3)])
    with pytest.raises(ForgetbenchError, match=r"log\.jsonl:3: is one more copy of an item than legs has"):
        of(path, known)


def test_names_are_the_task_s_own(tmp_path: Path, known: Task) -> None:
    keys = [item.key for item in known.load()]
    names = ["n1", str(keys[0]), keys[2].content_hash]
    one = of(lines(tmp_path / "p.jsonl", [{"item": n, "score": 1} for n in names]), known)
    assert [r.key for r in one.records] == keys
    assert one.notes == (
        "legs: 3 of 3 items are known by their names alone and taken for legs's own items of these names",
    )
    twice = lines(tmp_path / "p.jsonl", [{"item": n, "score": 1} for n in ("n1", str(keys[1]))])
    with pytest.raises(ForgetbenchError, match=r"p\.jsonl:2: is about the same item as .*p\.jsonl:1"):
        of(twice, known)


def test_a_question_column_is_no_rendered_prompt(tmp_path: Path, known: Task) -> None:
    rows = [{"task_type": "count/legs", "prompt": QUESTIONS[1], "score": 1}]
    (record,) = of(lines(tmp_path / "p.jsonl", rows), known).records
    assert (record.prompt_text_hash, record.extra["known_by"]) == (None, "content")
    (record,) = of(lines(tmp_path / "log.jsonl", [row(1, 0)]), known).records
    assert record.prompt_text_hash is not None


def test_samples_are_numbered_and_doubles_refused(tmp_path: Path, known: Task) -> None:
    rows = [{"item": f"n{n}", "score": 1, "sample": s} for n in (0, 2) for s in (5, 3)]
    one = of(lines(tmp_path / "p.jsonl", rows), known)
    assert ([r.sample for r in one.records], one.decode_id) == ([0, 1, 0, 1], "T?/K2")
    with pytest.raises(ForgetbenchError, match="n0 has a sample number twice"):
        of(lines(tmp_path / "p.jsonl", [*rows, rows[0]]), known)
    counts = [{"item": "n0", "successes": 1, "trials": 2}] * 2
    with pytest.raises(ForgetbenchError, match="n0 has several counts of successes"):
        of(lines(tmp_path / "p.jsonl", counts), known)


def test_inspect_samples_of_a_known_task(data_dir: Path, tmp_path: Path) -> None:
    task = Gsm8k(DataSource(data_dir=data_dir))
    items = [task.load()[n] for n in (7, 3)]
    log = inspect_log(tmp_path / "a.eval", [inspect_sample(n, input=i.doc["question"]) for n, i in enumerate(items)])
    one = imported(log, task, task="gsm8k")[0]
    assert [r.key for r in one.records] == [items[1].key, items[0].key]
    assert [r.gold for r in one.records] == [items[1].gold, items[0].gold]


def test_metrics_from_two_files_come_together(tmp_path: Path) -> None:
    """TruthfulQA's mc1 and mc2 are two tasks of lm-eval's about the same documents."""
    files = [
        lines(tmp_path / f"samples_truthfulqa_{k}_2026-01-02T03-04-05.678901.jsonl", [
            lm_eval_row(n, metrics=["acc"], acc=value) for n in range(3)
        ])
        for k, value in (("mc1", 1.0), ("mc2", 0.25))
    ]  # fmt: skip
    made, _ = gather(files, Options(models={"m": "m"}), lambda name: None)
    (one,) = made["m"]
    assert (one.task, one.metrics) == ("truthfulqa", ("mc1", "mc2"))
    assert [dict(r.scores) for r in one.records] == [{"mc1": 1.0, "mc2": 0.25}] * 3


def test_a_task_imported_again_replaces_and_others_stay(tmp_path: Path) -> None:
    def legs(score: float, task: str) -> list[Imported]:
        return imported(lines(tmp_path / "p.jsonl", [{"item": "a", "score": score}]), task=task)

    runs = tmp_path / "runs"
    store_imported(runs, "m", legs(1.0, "one"))
    store_imported(runs, "m", legs(1.0, "two"))
    run, replaced = store_imported(runs, "m", legs(0.0, "one"))
    assert replaced == ["one"]
    assert {r.task: r.scores["score"] for r in run.read_records()} == {"one": 0.0, "two": 1.0}
    assert [e.identity.engine["from"] for e in run.entries] == ["plain", "plain"]
    assert all(len(e.identity.engine["sha256"]) == 64 for e in run.entries)
    same, replaced = store_imported(runs, "m", legs(0.0, "one"))
    assert (len(same.entries), replaced) == (2, [])
