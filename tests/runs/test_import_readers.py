"""Each format as it is written, and as it is broken: file, line, field and cure, all mistakes at once."""

from __future__ import annotations

import gzip
import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import ForgetbenchError, ManyUsageErrors, UsageError
from forgetbench.runs.importers.gather import Options, detect, gather
from forgetbench.runs.importers.lm_eval import our_task, task_of
from forgetbench.runs.importers.types import SHOWN
from tests.runs.importing import QUESTIONS, imported, inspect_log, inspect_sample, lines, lm_eval_row

LM_EVAL = "samples_legs_2026-01-02T03-04-05.678901.jsonl"


def broken(path: Path, **options: Any) -> list[str]:
    """The mistakes, line by line."""
    with pytest.raises(ForgetbenchError) as raised:
        imported(path, **options)
    assert int(raised.value.exit_code) == 2
    return str(raised.value).splitlines()


def test_two_filters_of_lm_eval_are_two_metrics_of_one_item(tmp_path: Path) -> None:
    rows = [lm_eval_row(n, f, right=f == "loose") for f in ("strict", "loose") for n in range(3)]
    (legs,) = imported(lines(tmp_path / LM_EVAL, rows))
    assert (legs.task, legs.source, legs.decode_id) == ("legs", "lm-eval", "greedy")
    assert legs.metrics == ("exact_match,strict", "exact_match,loose")
    assert [dict(r.scores) for r in legs.records] == [{"exact_match,strict": 0.0, "exact_match,loose": 1.0}] * 3
    first = legs.records[0]
    assert first.prompt == f"Q: {QUESTIONS[0]}\nA:"
    assert (first.output, first.extracted, first.gold) == ("I say 0", "0", "4")
    assert (first.n_output_tokens, first.finish_reason, first.prompt_token_hash) == (None, None, None)


def test_an_lm_eval_document_is_known_by_its_content_not_by_doc_id(tmp_path: Path) -> None:
    """With an unsorted --samples the ids are other documents'."""
    right = imported(lines(tmp_path / LM_EVAL, [lm_eval_row(n) for n in (0, 1)]))[0]
    mislabelled = imported(lines(tmp_path / LM_EVAL, [lm_eval_row(n, doc_id=1 - n) for n in (1, 0)]))[0]
    hashes = [{r.prompt: r.content_hash for r in one.records} for one in (right, mislabelled)]
    assert hashes[0] == hashes[1]


def test_copies_of_one_document_are_numbered(tmp_path: Path) -> None:
    rows = [lm_eval_row(0), lm_eval_row(0, doc_id=7)]
    records = imported(lines(tmp_path / LM_EVAL, rows))[0].records
    assert [(r.content_hash, r.occurrence) for r in records] == [(records[0].content_hash, n) for n in (0, 1)]


def test_a_file_that_was_written_twice_is_refused(tmp_path: Path) -> None:
    """lm-eval appends to a file that is there already."""
    (line,) = broken(lines(tmp_path / LM_EVAL, [*(lm_eval_row(n) for n in range(3)), lm_eval_row(1)]))
    assert f"{LM_EVAL}:4: legs:1 is there twice, first in" in line
    assert f"{LM_EVAL}:2; leave one" in line


def test_lists_of_booleans_sampling_and_values_that_are_no_numbers(tmp_path: Path) -> None:
    row = lm_eval_row(
        0,
        metrics=["inst_level", "bleu", "exact_match"],
        inst_level=[True, False],
        bleu=["gold", "text"],
        filtered_resps=["[invalid]"],
        arguments={"gen_args_0": {"arg_0": "p", "arg_1": {"do_sample": True, "temperature": 0.7}}},
    )
    made, lines_ = gather([lines(tmp_path / LM_EVAL, [row])], Options(models={"m": "m"}), lambda name: None)
    (record,) = made["m"][0].records
    assert record.scores == {"inst_level": 0.5, "exact_match": 1.0}
    assert (record.outcome, record.extracted, record.decode_id) == ("unparsed", None, "T0.7/p1/K1")
    assert any("not imported: bleu" in line for line in lines_)


def test_pass_at_1_over_several_programs_is_a_count(tmp_path: Path) -> None:
    row = lm_eval_row(0, metrics=["pass@1"], resps=[["a", "b", "c", "d"]]) | {"pass@1": 0.75}
    (record,) = imported(lines(tmp_path / LM_EVAL, [row]))[0].records
    assert (record.successes, record.trials, record.decode_id) == (3, 4, "T?/K4")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gsm8k", "gsm8k"),
        ("mmlu_abstract_algebra", "mmlu"),
        ("mmlu_professional_law", "mmlu"),
        ("mmlu_pro_law", "mmlu_pro_law"),
        ("truthfulqa_mc2", "truthfulqa"),
        ("humaneval_instruct", "humaneval"),
        ("arc_easy", "arc_easy"),
    ],
)
def test_tasks_of_lm_eval_have_our_names(theirs: str, ours: str) -> None:
    assert our_task(theirs) == ours
    assert task_of(Path(f"samples_{theirs}_2026-01-02T03-04-05.678901.jsonl")) == theirs
    assert task_of(Path("renamed.jsonl")) is None


def test_inspect_epochs_are_samples_and_errors_are_infra(tmp_path: Path) -> None:
    samples = [inspect_sample(n, epoch, value="C" if epoch == 1 else "I") for n in (3, 2) for epoch in (2, 1)]
    samples[-1] = {**inspect_sample(2, 1), "scores": None, "error": {"message": "out of memory"}}
    (legs,) = imported(inspect_log(tmp_path / "a.eval", samples))
    assert (legs.task, legs.source, legs.decode_id, legs.metrics) == ("legs", "inspect", "T0.5/p1/K2", ("match",))
    assert [(r.sample, r.outcome, dict(r.scores)) for r in legs.records] == [
        (0, "infra_error", {}),
        (1, "ok", {"match": 0.0}),
        (0, "ok", {"match": 1.0}),
        (1, "ok", {"match": 0.0}),
    ]
    last = legs.records[-1]
    assert (last.finish_reason, last.n_prompt_tokens, last.n_output_tokens, last.seconds) == ("length", 20, 3, 0.5)
    assert (last.output, last.extracted, last.why, last.gold) == ("3!", "3", "said 3", "16")
    assert json.loads(last.prompt or "")[0] == {"content": "Count.", "role": "system"}


def test_inspect_values_of_all_kinds(tmp_path: Path) -> None:
    scores = {
        "grade": {"value": "P"},
        "flag": {"value": True},
        "number": {"value": 0.25},
        "parts": {"value": {"a": 1, "b": "N"}},
        "words": {"value": ["x"]},
    }
    log = inspect_log(tmp_path / "a.eval", [inspect_sample(0, scores=scores)])
    made, said = gather([log], Options(models={"m": "m"}), lambda name: None)
    (record,) = made["m"][0].records
    assert record.scores == {"grade": 0.5, "flag": 1.0, "number": 0.25, "parts,a": 1.0, "parts,b": 0.0}
    assert any("words" in line and "not imported" in line for line in said)


def test_examples_in_the_input_are_part_of_the_prompt(tmp_path: Path) -> None:
    said = [{"role": r, "content": c} for r, c in (("user", "a?"), ("assistant", "A"), ("user", "b?"))]
    sample = inspect_sample(0, input=said, messages=[*said, {"role": "assistant", "content": "B"}])
    (record,) = imported(inspect_log(tmp_path / "a.eval", [sample]))[0].records
    assert json.loads(record.prompt or "") == [{"content": m["content"], "role": m["role"]} for m in said]


def test_damaged_files_are_refused_or_read_and_never_a_traceback(tmp_path: Path) -> None:
    """Bytes changed, dropped and put in at random, in each format."""
    draw = random.Random(0)
    results = tmp_path / "e.json"
    passed = {"task_id": "HumanEval/0", "solution": "s", "base_status": "pass", "plus_status": "fail"}
    results.write_text(json.dumps({"eval": {"HumanEval/0": [passed]}}), encoding="utf-8")
    good = [
        lines(tmp_path / LM_EVAL, [lm_eval_row(n, f) for n in range(3) for f in ("a", "b")]),
        inspect_log(tmp_path / "a.eval", [inspect_sample(n, e) for n in range(2) for e in (1, 2)]),
        lines(tmp_path / "p.jsonl", [{"item": f"i{n}", "score": 1, "prompt": "x", "sample": n} for n in range(4)]),
        results,
    ]
    codes = []
    for _ in range(400):
        source = draw.choice(good)
        bad = tmp_path / f"bad-{source.name}"
        bad.write_bytes(_damaged(source.read_bytes(), draw))
        try:
            gather([bad], Options(task="t", models={"m": "m"}), lambda name: None)
        except ForgetbenchError as e:
            codes.append(int(e.exit_code))
    assert set(codes) == {2}
    assert len(codes) > 200


def _damaged(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed))
        values = [re.search(rb"(?<=: )[^,{}\[\]]+", bytes(changed[at:]))]
        kind = draw.randrange(4)
        if kind == 0:
            changed[at] = draw.randrange(256)
        elif kind == 1:
            del changed[at : at + draw.randint(1, 30)]
        elif kind == 2 or values[0] is None:
            changed[at:at] = draw.choice([b"null", b"{}", b"[]", b"-1", b"1e999", b'"', b"\n", b"\xff", b"NaN"])
        else:
            start, end = values[0].span()
            other = [b"null", b"{}", b"[]", b"-1", b"1e999", b'"x"', b"true", b"9" * 400, b"[[]]", b'{"a": [1]}']
            changed[at + start : at + end] = draw.choice(other)
    return bytes(changed)


@pytest.mark.parametrize(
    ("status", "drop", "word"), [("error", "", "status is"), ("success", "header.json", "has not ended")]
)
def test_an_inspect_log_that_has_not_ended_is_refused(tmp_path: Path, status: str, drop: str, word: str) -> None:
    whole = inspect_log(tmp_path / "whole.eval", [inspect_sample(0)], status=status)
    part = tmp_path / "part.eval"
    with zipfile.ZipFile(whole) as a, zipfile.ZipFile(part, "w") as b:
        for name in a.namelist():
            if name != drop:
                b.writestr(name, a.read(name))
    (line,) = broken(part)
    assert "part.eval" in line
    assert word in line


def test_evalplus_results_need_base_and_plus(tmp_path: Path) -> None:
    def sample(base: str, plus: str) -> dict[str, str]:
        return {"task_id": "HumanEval/0", "solution": "def f(): ...", "base_status": base, "plus_status": plus}

    found = {
        "HumanEval/0": [sample("pass", "pass"), sample("pass", "fail")],
        "HumanEval/1": [sample("fail", "pass"), sample("timeout", "fail")],
    }
    path = tmp_path / "x_eval_results.json"
    path.write_text(json.dumps({"date": "2026", "eval": found}, indent=1), encoding="utf-8")
    assert detect(path, path.read_bytes()) == "evalplus"
    (plus,) = imported(path)
    assert (plus.task, plus.decode_id) == ("humaneval_plus", "T?/K2")
    assert [r.scores["pass@1"] for r in plus.records] == [1.0, 0.0, 0.0, 0.0]
    assert [r.scores["pass@1,base"] for r in plus.records] == [1.0, 1.0, 0.0, 0.0]
    assert [r.outcome for r in plus.records] == ["ok", "ok", "ok", "timeout"]
    (base,) = imported(path, task="humaneval")
    assert [r.scores["pass@1"] for r in base.records] == [1.0, 1.0, 0.0, 0.0]


def test_evalplus_results_of_old_versions(tmp_path: Path) -> None:
    old = {"eval": {"HumanEval/0": {"nfiles": 1, "base": [["success", []]], "plus": [["failed", []]]}}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    (line,) = broken(path)
    assert 'eval.HumanEval/0[0]: plus_status: is "failed"' in line
    path.write_text(json.dumps(old).replace("failed", "fail"), encoding="utf-8")
    assert dict(imported(path)[0].records[0].scores) == {"pass@1": 0.0, "pass@1,base": 1.0}


def test_plain_rows_scores_counts_and_models(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"item": "a", "model": "x", "score": True, "output": "A", "task_type": "code/py", "noise": 1},
        {"item": "b", "model": "x", "score": 0.5, "output": "B", "task_type": "code/py"},
        {"item": "a", "model": "y", "score": "false", "task_type": "code/py"},
    ]
    made, said = gather([lines(tmp_path / "r.jsonl", rows)], Options(task="set"), lambda name: None)
    assert sorted(made) == ["x", "y"]
    assert [r.scores["score"] for r in made["x"][0].records] == [1.0, 0.5]
    assert made["x"][0].records[0].content_hash == made["y"][0].records[0].content_hash
    assert (made["x"][0].records[0].output, made["x"][0].records[0].task_type) == ("A", "code/py")
    assert said == ["r.jsonl: columns that were not used: noise"]
    only, _ = gather([tmp_path / "r.jsonl"], Options(task="set", models={"mine": "y"}), lambda name: None)
    assert list(only) == ["mine"]
    assert len(only["mine"][0].records) == 1


def test_shares_of_k_samples_are_counts(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [{"item": "a", "score": 0.3}, {"item": "b", "score": 1}])
    records = imported(path, task="set", trials=10)[0].records
    assert [(r.successes, r.trials, r.scores["score"]) for r in records] == [(3, 10, 0.3), (10, 10, 1.0)]
    (line,) = broken(path, task="set", trials=4)
    assert "r.jsonl:1: score: 0.3 is no share of 4 samples" in line


def test_csv_gzip_and_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(b'name,right,of,words\nq1,3,4,"two\nlines"\n'))
    fields = {"item": "name", "successes": "right", "trials": "of", "output": "words"}
    (record,) = imported(path, task="set", fields=fields)[0].records
    assert (record.successes, record.trials, record.output) == (3, 4, "two\nlines")


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({"score": 1}, "item", "is missing"),
        ({"item": "a", "score": 85}, "score", "is 85"),
        ({"item": "a", "score": "maybe"}, "score", 'is "maybe"'),
        ({"item": "a", "score": None}, "score", "is missing"),
        ({"item": "a", "score": [1]}, "score", "is [1]"),
        ({"item": {"x": 1}, "score": 1}, "item", 'is an object ({"x": 1})'),
        ({"item": "a", "score": 1, "sample": -1}, "sample", "is -1"),
        ({"item": "a", "score": 1, "task_type": "a/b/c"}, "task_type", 'is "a/b/c"'),
        ({"item": "a", "successes": 3, "trials": 2}, "successes", "3 of 2 cannot be"),
        ({"item": "a", "score": 1e999}, "score", "is Infinity"),
    ],
)
def test_broken_plain_rows_name_line_and_field(tmp_path: Path, row: dict[str, Any], field: str, problem: str) -> None:
    good: dict[str, Any] = {"item": "z", "score": 1, "successes": 1, "trials": 1}
    (line,) = broken(lines(tmp_path / "r.jsonl", [good, row]), task="set")
    assert line.startswith(f"{tmp_path / 'r.jsonl'}:2: {field}: {problem}; ")


def test_all_mistakes_are_told_at_once_up_to_a_limit(tmp_path: Path) -> None:
    rows = [{"item": str(n), "score": 7} for n in range(SHOWN + 5)]
    told = broken(lines(tmp_path / "r.jsonl", rows), task="set")
    assert len(told) == SHOWN + 1
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in told[:3]] == ["1", "2", "3"]
    assert told[-1].startswith("and: 5 more like these")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"item": "a", "score": 1}\n{"item":', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'{"item": "a", "score": 1}\n[1]\n', "a.jsonl:2: is a list, not an object"),
        ("a.jsonl", b'{"item": "\xff", "score": 1}', "a.jsonl:1: byte 10 is not UTF-8"),
        ("a.jsonl", b'{"name": 1, "score": 1}\n', "no column names the item"),
        ("a.jsonl", b'{"item": 1, "points": 1}\n', "no column holds the score"),
        ("a.csv", b"item,score\na,1,2\n", "a.csv:2: the row has 3 fields, the header 2"),
        ("a.csv", b"item,item\na,1\n", "a.csv:1: the header has a column twice"),
        ("a.csv", b'item,score\na,"1\n', "a.csv:2: not CSV"),
        ("a.txt", b"what is this\n", "is neither JSON nor CSV"),
        ("a.gz", gzip.compress(b"item,score\na,1\n" * 50)[:-20], "gzip ends in the middle"),
        ("a.gz", b"\x1f\x8b\x07garbage", "damaged gzip"),
        ("a.eval", b"PK\x03\x04garbage", "is no whole zip file"),
        ("a.json", b"[1, 2]", "a.json[0]: is a number, not an object"),
        ("a.json", b'{"eval": {}}', "eval: is empty"),
        ("a.jsonl", b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    told = broken(path, task="set")
    assert problem in told[0], told
    assert all(str(path) in line and "; " in line for line in told)


@pytest.mark.parametrize(
    ("drop", "problem"), [("filter", "has no field 'filter'"), ("metrics", "has no field 'metrics'")]
)
def test_broken_lm_eval_rows(tmp_path: Path, drop: str, problem: str) -> None:
    row = lm_eval_row(1)
    del row[drop]
    told = broken(lines(tmp_path / LM_EVAL, [lm_eval_row(0), row]), format="lm-eval")
    assert f"{LM_EVAL}:2: {problem}" in told[0]
    told = broken(lines(tmp_path / LM_EVAL, [lm_eval_row(0, exact_match=None)]))
    assert f"{LM_EVAL}:1: exact_match: is null" in told[0]


def test_models_that_the_files_do_not_have(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [{"item": "a", "score": 1, "model": m} for m in ("x", "y")])
    with pytest.raises(UsageError, match="'z' is no model of the files; they have x, y"):
        gather([path], Options(task="set", models={"z": "z"}), lambda name: None)
    path = lines(tmp_path / "r.jsonl", [{"item": "a", "score": 1}])
    with pytest.raises(UsageError, match="--model: is missing"):
        gather([path], Options(task="set"), lambda name: None)
    with pytest.raises((UsageError, ManyUsageErrors), match="does not say which task"):
        gather([path], Options(models={"m": "m"}), lambda name: None)
