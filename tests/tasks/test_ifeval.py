"""The IFEval task: three versions, identity, scores, damaged files, the hub's copy."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgetbench.config import SuiteTask
from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.tasks import extras
from forgetbench.tasks.base import check_ready
from forgetbench.tasks.ifeval import FILES, IfEval, micro_average
from forgetbench.tasks.source import HUB_REVISIONS, DataSource
from forgetbench.tasks.truthfulqa import TruthfulQaGen
from forgetbench.types import FinishReason, Generation, Judged, Response


def said(*texts: str, finish: FinishReason = "stop") -> Response:
    return Response("r", generations=tuple(Generation(t, (1,), finish) for t in texts))


def doc(**changes: Any) -> dict[str, Any]:
    return {
        "key": 1,
        "prompt": "Write two words without commas.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{"num_words": None}, {"num_words": 2, "relation": "at least", "keywords": None}],
        **changes,
    }


def task_of(folder: Path, *docs: dict[str, Any]) -> IfEval:
    (folder / "ifeval").mkdir()
    lines = "".join(json.dumps(d) + "\n" for d in docs)
    (folder / "ifeval" / FILES["current"]).write_text(lines, encoding="utf-8")
    return IfEval(DataSource(data_dir=folder))


@pytest.mark.realdata
def test_the_three_versions(data_dir: Path) -> None:
    tasks = {v: IfEval(DataSource(data_dir=data_dir), version=v) for v in ("current", "v2", "v1")}
    prompts = {v: {i.doc["prompt"] for i in t.load()} for v, t in tasks.items()}
    instructions = {v: sum(len(i.doc["kwargs"]) for i in t.load()) for v, t in tasks.items()}
    assert {v: len(t.load()) for v, t in tasks.items()} == dict.fromkeys(tasks, 541)
    assert instructions == {"current": 834, "v2": 834, "v1": 747}
    assert len(prompts["current"] - prompts["v2"]) == 1
    assert len(prompts["v1"] & prompts["v2"]) == 157
    assert len({t.version for t in tasks.values()}) == 3
    types = Counter(i.task_type for i in tasks["current"].load())
    assert types["instruction/several"] == 541 - 322
    assert types["instruction/detectable_format"] == 69
    assert len(types) == 10


@pytest.mark.realdata
def test_what_v1_asks_to_repeat(data_dir: Path) -> None:
    items = IfEval(DataSource(data_dir=data_dir), version="v1").load()
    repeated = [
        (i.doc["prompt"], arguments["prompt_to_repeat"])
        for i in items
        for arguments in i.doc["kwargs"]
        if "prompt_to_repeat" in arguments
    ]
    assert len(repeated) == 42
    assert all(p.startswith(r) and "First repeat" not in r and len(r) > 20 for p, r in repeated)


@pytest.mark.unit
def test_prompt(tmp_path: Path) -> None:
    task = task_of(tmp_path, doc())
    [item] = task.load()
    spec = task.prompt(item, 0)
    assert (spec.question, spec.form, spec.stop, spec.max_tokens) == (doc()["prompt"], "generate", (), 1280)
    assert item.gold == "punctuation:no_comma | length_constraints:number_words (2, at least)"
    assert task.canonical({"prompt": "Write  two words without commas.\n"}) == item.key
    assert task.canonical({"question": "x"}) is None
    with pytest.raises(UsageError, match="5 shots asked for, it has none"):
        task.prompt(item, 5)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "finish", "strict", "loose", "outcome"),
    [
        ("two words", "stop", [True, True], [True, True], "ok"),
        ("one, two", "stop", [False, True], [False, True], "ok"),
        ("Sure, here:\ntwo words", "stop", [False, True], [True, True], "ok"),
        ("two words", "length", [True, True], [True, True], "truncated"),
        ("", "stop", [False, False], [False, False], "unparsed"),
        ("I'm sorry, but I can't help with that.", "stop", [False, True], [False, True], "refused"),
    ],
)
def test_scores(
    tmp_path: Path, text: str, finish: FinishReason, strict: list[bool], loose: list[bool], outcome: str
) -> None:
    task = task_of(tmp_path, doc())
    [judged] = task.score(task.load()[0], said(text, finish=finish))
    assert judged.extra == {"strict": strict, "loose": loose}
    assert judged.scores == {
        "prompt_level_strict_acc": float(all(strict)),
        "prompt_level_loose_acc": float(all(loose)),
        "inst_level_strict_acc": sum(strict) / 2,
        "inst_level_loose_acc": sum(loose) / 2,
    }
    assert set(judged.scores) == set(task.metrics)
    assert judged.outcome == outcome
    assert judged.why.endswith(".")


@pytest.mark.unit
def test_why(tmp_path: Path) -> None:
    task = task_of(tmp_path, doc())
    judged = task.score(task.load()[0], said("Sure, here:\ntwo words", "two"))
    assert [j.why for j in judged] == [
        "1 of 2 instructions followed, not punctuation:no_comma (1 comma; loosely followed).",
        "1 of 2 instructions followed, not length_constraints:number_words (1 word).",
    ]
    assert micro_average(judged) == 0.5
    assert micro_average(judged, "loose") == 0.75


@pytest.mark.unit
def test_failures_are_not_wrong_answers(tmp_path: Path) -> None:
    task = task_of(tmp_path, doc())
    [item] = task.load()
    broken = Response("r", generations=(Generation("two words", (1,), "stop", logprobs=(math.nan,)),))
    for response in (Response("r", error="out of memory"), Response("r"), said("x", finish="error"), broken):
        [judged] = task.score(item, response)
        assert (judged.outcome, judged.scores) == ("infra_error", {})
        assert math.isnan(micro_average([judged]))
    right = Judged({}, "ok", "", None, "", extra={"strict": [True, True, False]})
    assert micro_average([right, judged]) == pytest.approx(2 / 3)


@pytest.mark.unit
def test_every_damaged_line_is_named(tmp_path: Path) -> None:
    task = task_of(
        tmp_path,
        doc(),
        doc(kwargs=[{}]),
        doc(instruction_id_list=["punctuation:no_comma", "length:words"]),
        doc(kwargs=[{}, {"num_words": 0, "relation": "at least"}]),
        doc(instruction_id_list=["keywords:existence"], kwargs=[{"keywords": ["c++("]}]),
        doc(instruction_id_list=["combination:repeat_prompt"], kwargs=[{}]),
    )
    with pytest.raises(ManyUsageErrors) as caught:
        task.load()
    assert [e.problem.split("'")[0].strip() for e in caught.value.errors] == [
        "instruction_id_list and kwargs are not lists of one length",
        "unknown instruction",
        "length_constraints:number_words has no num_words",
        "keywords:existence: keywords",
        "combination:repeat_prompt has no prompt_to_repeat",
    ]
    assert [e.where for e in caught.value.errors] == [f"input_data.jsonl:{n}" for n in range(2, 7)]


@pytest.mark.unit
def test_versions_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no 'v3'; use one of current, v2, v1"):
        IfEval(DataSource(data_dir=tmp_path), version="v3")  # type: ignore[arg-type]
    (tmp_path / "ifeval").mkdir()
    with pytest.raises(UsageError, match=r"no input_data_v1_20231114.jsonl or input_data_v1_20231114.jsonl.gz"):
        IfEval(DataSource(data_dir=tmp_path), version="v1").load()
    with pytest.raises(UsageError, match="the hub has the current version only"):
        IfEval(DataSource(), version="v2").load()
    assert SuiteTask(task="ifeval", version="v2").version == "v2"
    with pytest.raises(ValueError, match="belongs to the task ifeval"):
        SuiteTask(task="mmlu", version="v2")


@pytest.mark.unit
def test_the_hubs_copy(tmp_path: Path) -> None:
    """With the nulls that the hub's viewer shows for every argument; offline, from a cache made by hand."""
    folder = tmp_path / "datasets--google--IFEval" / "snapshots" / HUB_REVISIONS["google/IFEval"]
    folder.mkdir(parents=True)
    (folder / "ifeval_input_data.jsonl").write_text(json.dumps(doc()) + "\n", encoding="utf-8")
    [item] = IfEval(DataSource(cache_dir=tmp_path, offline=True)).load()
    assert item.doc["kwargs"] == [{}, {"num_words": 2, "relation": "at least"}]
    with pytest.raises(UsageError, match="not in the hub's cache"):
        IfEval(DataSource(cache_dir=tmp_path / "none", offline=True)).load()


@pytest.mark.unit
def test_missing_packages_are_named_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path, doc())
    check_ready([task, TruthfulQaGen(DataSource())])
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "langdetect" else object())
    with pytest.raises(UsageError, match=r"needs langdetect for its scores.*install forgetbench\[bench\]"):
        check_ready([task])
    assert len(task.load()) == 1  # a report of what is on disk needs none of them
