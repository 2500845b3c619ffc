"""Somebody else's files: mapped fields, gzip, sets without a scorer; CMMLU and AlignBench as they are published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import ForgetbenchError
from forgetbench.resources import path as resource
from forgetbench.scoring.choices import option_lines
from forgetbench.tasks.custom import RawFormat, SetSpec, load_set
from forgetbench.types import ContinuationScore, Generation, Response
from forgetbench.workspace import open_workspace

FIELDS = {"task_type": "knowledge/{topic}", "prompt": "Q", "choices": ("A", "B"), "answer": "right"}
ROW = {"topic": "a/b geo", "Q": "Which is in Peru?", "A": "Quito", "B": "Lima", "right": "B", "note": [1, 2]}


def _set(
    folder: Path, rows: list[Any], fields: dict[str, Any] | None = None, name: str = "x.jsonl", **spec: Any
) -> Any:
    file = folder / name
    text = rows if isinstance(rows, str) else "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return load_set(SetSpec(name="x", path=file, fields=fields, **spec))


def _fails(task: Any) -> str:
    with pytest.raises(ForgetbenchError) as failed:
        task.load()
    return str(failed.value)


@pytest.mark.unit
class TestFields:
    @pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
    def test_columns_templates_and_lists(self, tmp_path: Path, name: str) -> None:
        (item,) = _set(tmp_path, [ROW], FIELDS, name, scorer="choice").load()
        assert item.task_type == "knowledge/a-b geo"  # the one slash divides two levels
        assert item.doc["choices"] == ["Quito", "Lima"]
        assert item.gold == "B. Lima"

    def test_csv_with_other_columns(self, tmp_path: Path) -> None:
        text = 'topic,Q,A,B,right\ngeo,"Which, if any, is in Peru?",Quito,Lima,B\n'
        (item,) = _set(tmp_path, text, FIELDS, "x.csv", scorer="choice").load()  # type: ignore[arg-type]
        assert item.doc["prompt"] == "Which, if any, is in Peru?"

    def test_the_same_questions_under_our_names_have_the_same_identity(self, tmp_path: Path) -> None:
        ours = {"task_type": "knowledge/geo", "prompt": ROW["Q"], "choices": ["Quito", "Lima"], "answer": "B"}
        (plain,) = _set(tmp_path, [ours], name="a.jsonl", scorer="choice").load()
        (mapped,) = _set(tmp_path, [{**ROW, "topic": "geo"}], FIELDS, "b.jsonl", scorer="choice").load()
        assert (plain.key, plain.gold_hash) == (mapped.key, mapped.gold_hash)

    def test_missing_and_empty_columns_name_line_field_and_cure(self, tmp_path: Path) -> None:
        rows = [ROW, {k: v for k, v in ROW.items() if k != "B"}, {**ROW, "topic": " "}, {**ROW, "Q": None}]
        message = _fails(_set(tmp_path, rows, FIELDS, scorer="choice"))
        assert "x.jsonl:2: choices: there is no column 'B'; the line has: topic, Q, A, right, note" in message
        assert "x.jsonl:3: task_type: the column 'topic' is empty" in message
        assert "x.jsonl:4: prompt: the column 'Q' is empty" in message

    def test_numbers_in_option_columns_are_texts(self, tmp_path: Path) -> None:
        (item,) = _set(tmp_path, [{**ROW, "A": 3, "B": 4.5}], FIELDS, scorer="choice").load()
        assert item.doc["choices"] == ["3", "4.5"]

    def test_the_mapping_is_part_of_the_version(self, tmp_path: Path) -> None:
        other = {**FIELDS, "task_type": "general/{topic}"}
        first, second = (_set(tmp_path, [ROW], f, scorer="choice") for f in (FIELDS, other))
        assert first.version != second.version

    @pytest.mark.parametrize("content", [b"\x1f\x8b broken", gzip.compress(b"{}\n" * 99)[:-12]])
    def test_a_broken_gzip_is_one_line(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.jsonl.gz").write_bytes(content)
        assert "x.jsonl.gz: cannot be unpacked" in _fails(load_set(tmp_path / "x.jsonl.gz"))


@pytest.mark.unit
class TestNoScorer:
    LINES = [{"task_type": "writing/poem", "prompt": "Write a poem.", "references": ["Roses"]}]

    def test_answers_are_kept_without_scores(self, tmp_path: Path) -> None:
        task = _set(tmp_path, self.LINES, scorer="none")
        (item,) = task.load()
        assert task.metrics == ()
        assert task.prompt(item, 0).form == "generate"
        texts = (("Red roses.", "stop"), ("Red ro", "length"), ("", "stop"))
        judged = [
            task.score(item, Response("r", generations=(Generation(text, (1,), finish),)))[0]  # type: ignore[arg-type]
            for text, finish in texts
        ]
        assert [j.scores for j in judged] == [{}, {}, {}]
        assert [j.outcome for j in judged] == ["ok", "truncated", "unparsed"]
        assert judged[0].output == "Red roses."

    def test_references_are_optional_and_scorers_of_lines_are_not_allowed(self, tmp_path: Path) -> None:
        assert len(_set(tmp_path, [{"task_type": "a/b", "prompt": "x"}], scorer="none").load()) == 1
        message = _fails(_set(tmp_path, [{**self.LINES[0], "scorer": "exact"}], scorer="none"))
        assert "x.jsonl:1: scorer: the set's scorer is none" in message


def _example(data_dir: Path, tmp_path: Path, name: str) -> Any:
    config = tmp_path / "forgetbench.yaml"
    config.write_text(
        f"models: {{m: {{path: m.json, engine: scripted}}}}\nsuite: {resource('configs', 'examples', f'{name}.yaml')}\n"
    )
    ws = open_workspace(config, data_dir=data_dir)
    ((entry, task),) = ws.tasks()
    return ws, entry, task


@pytest.mark.realdata
class TestPublished:
    def test_cmmlu_whole(self, data_dir: Path, tmp_path: Path) -> None:
        from forgetbench import flow

        ws, entry, task = _example(data_dir, tmp_path, "cmmlu")
        items = task.load()
        assert (len(items), len({i.task_type for i in items})) == (11_582, 67)
        with gzip.open(data_dir / "cmmlu" / "test.jsonl.gz", "rt", encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        for row, item in zip(rows, items, strict=True):
            assert item.doc["choices"] == [str(row[letter]) for letter in "ABCD"]
            assert item.gold.startswith(f"{row['Answer']}. ")
        drawn = flow.selected(ws, entry, task)
        assert len(drawn) == 1158
        assert len({i.task_type for i in drawn}) == 67
        spec = task.prompt(items[0], 5)
        assert len(spec.shots) == 5
        assert spec.question == f"题目：{rows[0]['Question']}\n{option_lines(items[0].doc['choices'])}\n答案："
        scores = tuple(ContinuationScore(-float(i != 1), False, 1) for i in range(4))
        (judged,) = task.score(items[0], Response("r", scores=scores))
        assert judged.scores == {"correct": float(rows[0]["Answer"] == "B")}

    def test_alignbench_keeps_answers_for_later(self, data_dir: Path, tmp_path: Path) -> None:
        _, _, task = _example(data_dir, tmp_path, "alignbench")
        items = task.load()
        assert len(items) == 683
        assert all(len(i.task_type.split("/")) == 2 for i in items)
        with gzip.open(
            data_dir / "published" / "alignbench_deepseek67b" / "deepseek-67b-1206-no-sp.jsonl.gz", "rt"
        ) as f:
            answers = {r["question"]: r["answer"] for r in map(json.loads, f)}
        shared = [i for i in items if i.doc["prompt"] in answers]
        assert len(shared) > 400
        for item in shared:
            text = answers[item.doc["prompt"]]
            (judged,) = task.score(item, Response("r", generations=(Generation(text, (1,), "stop"),)))
            assert (judged.scores, judged.output) == ({}, text)
            assert judged.extra["wrong_language"] is False
            assert judged.extra["looped"] is False


@pytest.mark.unit
def test_shipped_examples_name_only_what_there_is() -> None:
    from forgetbench.config import load_suite

    files = sorted(resource("configs", "examples").glob("*.yaml"))
    assert {f.stem for f in files} == {"alignbench", "cmmlu", "deployment"}
    for file in files:
        suite, _ = load_suite(str(file), Path())
        assert suite.name == file.stem


@pytest.mark.unit
def test_raw_format_of_an_unscored_set_has_its_stop(tmp_path: Path) -> None:
    task = _set(tmp_path, TestNoScorer.LINES, scorer="none", raw=RawFormat(question="问：{prompt}\n答："))
    (item,) = task.load()
    assert task.prompt(item, 0).stop == ("\n\n问：",)
