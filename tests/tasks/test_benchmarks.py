"""MMLU and GSM8K on the real files: identity, prompts, scores, and files that were damaged."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest

from forgetbench.config import BUILT_IN, SuiteTask
from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.tasks.gsm8k import FLEXIBLE, ROBUST, STRICT, Gsm8k
from forgetbench.tasks.mmlu import SUBJECTS, Mmlu
from forgetbench.tasks.registry import TASK_NAMES, get_task
from forgetbench.tasks.select import select
from forgetbench.tasks.source import DataSource
from forgetbench.types import ContinuationScore, FinishReason, Generation, Item, Response

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def mmlu(data_dir: Path) -> Mmlu:
    return Mmlu(DataSource(data_dir=data_dir))


@pytest.fixture(scope="module")
def gsm8k(data_dir: Path) -> Gsm8k:
    return Gsm8k(DataSource(data_dir=data_dir))


def scored(*logprobs: float) -> Response:
    return Response("r", scores=tuple(ContinuationScore(v, False, 1) for v in logprobs))


def said(text: str, finish: FinishReason = "stop") -> Response:
    return Response("r", generations=(Generation(text, (1,), finish),))


def test_mmlu_items(mmlu: Mmlu) -> None:
    items = mmlu.load()
    assert len(items) == 14_042
    assert len({i.key for i in items}) == 14_042
    assert sum(i.key.occurrence for i in items) == 27  # the exact duplicates within a subject
    assert {i.stratum for i in items} == set(SUBJECTS)
    # lm-eval counts anatomy (135) among stem, the authors' own code among other.
    assert Counter(i.task_type for i in items) == {
        "knowledge/humanities": 4705,
        "knowledge/other": 3107,
        "knowledge/social_sciences": 3077,
        "knowledge/stem": 3018 + 135,
    }
    assert any("\n" in i.doc["question"] for i in items)


def test_mmlu_prompt(mmlu: Mmlu) -> None:
    item = next(i for i in mmlu.load() if i.stratum == "high_school_us_history")
    spec = mmlu.prompt(item, 5)
    assert spec.system == (
        "The following are multiple choice questions (with answers) about high school us history.\n\n"
    )
    assert (len(spec.shots), spec.choices, spec.form) == (5, ("A", "B", "C", "D"), "rank")
    assert spec.question.endswith("\nAnswer:")
    assert mmlu.prompt(item, 2).shots == spec.shots[:2]
    with pytest.raises(UsageError, match="at most 5"):
        mmlu.prompt(item, 6)


def test_mmlu_canonical(mmlu: Mmlu) -> None:
    items = mmlu.load()
    firsts = [i for i in items if i.key.occurrence == 0]
    assert all(mmlu.canonical(i.doc) == i.key for i in firsts)
    item = items[5000]
    respaced = {**item.doc, "question": "  " + item.doc["question"].replace(" ", "  ") + "\r\n"}
    assert mmlu.canonical(respaced) == item.key
    assert mmlu.canonical({**item.doc, "question": "something else"}) is None
    assert mmlu.canonical({"question": item.doc["question"]}) is None


def test_mmlu_scores(mmlu: Mmlu) -> None:
    item = next(i for i in mmlu.load() if i.doc["answer"] == 1)
    [right] = mmlu.score(item, scored(-2.0, -1.0, -3.0, -4.0))
    assert (right.scores, right.outcome) == ({"acc": 1.0}, "ok")
    assert right.extracted == item.gold
    assert "A -2.0000, B -1.0000, C -3.0000, D -4.0000" in right.output
    [tie] = mmlu.score(item, scored(-1.0, -1.0, -3.0, -4.0))
    assert tie.scores == {"acc": 0.0}
    assert "of equal options the first counts" in tie.why
    for broken in (scored(-1.0, math.nan, -1.0, -1.0), scored(-math.inf, -1.0, -1.0, -1.0), scored(-1.0)):
        [judged] = mmlu.score(item, broken)
        assert (judged.outcome, judged.scores) == ("infra_error", {})
    [failed] = mmlu.score(item, Response("r", error="out of memory"))
    assert (failed.outcome, failed.scores) == ("infra_error", {})


def test_gsm8k_items_and_draws(gsm8k: Gsm8k, data_dir: Path) -> None:
    items = gsm8k.load()
    assert len(items) == len({i.key for i in items}) == 1319
    assert items[0].gold == "18"
    # An item's shots depend on its place in the whole split alone, not on what was asked before or a limit.
    fresh = Gsm8k(DataSource(data_dir=data_dir))
    last = fresh.prompt(select(fresh.load(), 1, seed=3)[0], 5)
    again = next(i for i in items if gsm8k.prompt(i, 0).question == last.question)
    assert gsm8k.prompt(again, 5) == last
    assert len({gsm8k.prompt(i, 5).shots for i in items[:50]}) == 50
    assert gsm8k.prompt(items[0], 0).shots == ()


@pytest.mark.parametrize(
    ("text", "finish", "scores", "outcome"),
    [
        ("She makes 9 * 2.\n#### 18", "stop", (1.0, 1.0, 1.0), "ok"),
        ("It is $18.", "stop", (1.0, 0.0, 1.0), "ok"),
        ("#### 18\nThat is 3 more", "stop", (0.0, 1.0, 1.0), "ok"),
        ("The answer is 18.00", "stop", (0.0, 0.0, 1.0), "ok"),
        ("#### 18 and then", "length", (1.0, 1.0, 1.0), "truncated"),
        ("I do not know", "stop", (0.0, 0.0, 0.0), "unparsed"),
        ("well...", "stop", (0.0, 0.0, 0.0), "unparsed"),
        ("", "length", (0.0, 0.0, 0.0), "truncated"),
        ("I'm sorry, but I can't help with that.", "stop", (0.0, 0.0, 0.0), "refused"),
        ("#### 18", "error", None, "infra_error"),
    ],
)
def test_gsm8k_scores(
    gsm8k: Gsm8k, text: str, finish: FinishReason, scores: tuple[float, ...] | None, outcome: str
) -> None:
    [judged] = gsm8k.score(gsm8k.load()[0], said(text, finish))
    assert judged.outcome == outcome
    assert judged.scores == ({} if scores is None else dict(zip((FLEXIBLE, STRICT, ROBUST), scores, strict=True)))
    assert judged.why.endswith(".")
    assert judged.output == text


def test_the_robust_reading_is_never_the_default(gsm8k: Gsm8k) -> None:
    assert gsm8k.metrics == (FLEXIBLE, STRICT, ROBUST)


def test_one_verdict_for_each_sample(gsm8k: Gsm8k) -> None:
    samples = tuple(Generation(t, (1,), "stop") for t in ("#### 18", "#### 5", "none"))
    judged = gsm8k.score(gsm8k.load()[0], Response("r", generations=samples))
    assert [j.outcome for j in judged] == ["ok", "ok", "unparsed"]
    assert [j.scores[FLEXIBLE] for j in judged] == [1.0, 0.0, 0.0]


def test_gsm8k_canonical(gsm8k: Gsm8k) -> None:
    assert all(gsm8k.canonical(i.doc) == i.key for i in gsm8k.load())
    assert gsm8k.canonical({"prompt": "x"}) is None


@pytest.fixture
def broken(data_dir: Path, tmp_path: Path) -> Path:
    """A writable copy of both benchmarks."""
    for name in ("mmlu/dev", "mmlu/test", "gsm8k"):
        (tmp_path / name).mkdir(parents=True)
        for path in (data_dir / name).iterdir():
            shutil.copyfile(path, tmp_path / name / path.name)
    return tmp_path


def test_every_damaged_mmlu_file_is_named_at_once(broken: Path) -> None:
    folder = broken / "mmlu" / "test"
    (folder / "anatomy_test.csv").unlink()
    (folder / "virology_test.csv").write_text("q,a,b,c,d,E\nonly,three,fields\n", encoding="utf-8")
    (folder / "sociology_test.csv").write_bytes(b"q,a,b,c,\xff,A\n")
    with pytest.raises(ManyUsageErrors) as caught:
        Mmlu(DataSource(data_dir=broken)).load()
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert "anatomy_test.csv: there is no such file" in lines[0]
    assert "sociology_test.csv:1: byte 8 is not UTF-8" in lines[1]
    assert "virology_test.csv:2: the row has 3 fields" in lines[2]


def test_damaged_gsm8k_lines_are_named(broken: Path) -> None:
    (broken / "gsm8k" / "test.jsonl").write_text('{"question": "x", "answer": 5}\nnope\n', encoding="utf-8")
    with pytest.raises(ManyUsageErrors) as caught:
        Gsm8k(DataSource(data_dir=broken)).load()
    assert [e.where.rsplit("/", 1)[-1] for e in caught.value.errors] == ["test.jsonl:1", "test.jsonl:2"]
    (broken / "gsm8k" / "train.jsonl.gz").write_bytes(b"not gzip")
    task = Gsm8k(DataSource(data_dir=broken))
    (broken / "gsm8k" / "test.jsonl").write_text(json.dumps({"question": "x", "answer": "#### 5"}) + "\n")
    with pytest.raises(UsageError, match="cannot be read"):
        task.prompt(task.load()[0], 1)
    (broken / "gsm8k" / "train.jsonl.gz").write_bytes(gzip.compress(b'{"question": "x", "answer": "#### 5"}\n'))
    with pytest.raises(UsageError, match="2 shots asked for, the training split has 1"):
        task.prompt(task.load()[0], 2)


@pytest.mark.unit
def test_names() -> None:
    assert set(TASK_NAMES) == set(BUILT_IN)
    assert all(SuiteTask(task=name).task == name for name in TASK_NAMES)
    with pytest.raises(UsageError, match="did you mean 'gsm8k'"):
        get_task("gms8k", source=DataSource())
    with pytest.raises(UsageError, match="choose one of"):
        get_task("zzz", source=DataSource())


def test_select(mmlu: Mmlu) -> None:
    items = mmlu.load()
    first = select(items, 10, per_stratum=True)
    assert len(first) == 570
    assert list(first[:10]) == list(items[:10])
    assert list(select(items, 3)) == list(items[:3])
    assert select(items) is items
    assert len(select(items, 10**6)) == len(items)
    assert select(items, 0) == []
    sample = select(items, 5, per_stratum=True, seed=1)
    assert sample == select(items, 5, per_stratum=True, seed=1) != select(items, 5, per_stratum=True, seed=2)
    assert Counter(i.stratum for i in sample) == dict.fromkeys(SUBJECTS, 5)
    order = {i.key: n for n, i in enumerate(items)}
    assert [order[i.key] for i in sample] == sorted(order[i.key] for i in sample)
    # Another subject's absence changes no sample.
    some: list[Item] = [i for i in items if i.stratum != "anatomy"]
    assert select(some, 5, per_stratum=True, seed=1) == [i for i in sample if i.stratum != "anatomy"]
    with pytest.raises(ValueError):
        select(items, -1)
