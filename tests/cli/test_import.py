"""`forgetbench import` and `score`: what they make works like an own run, and what does not pair is refused."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli import workspace
from tests.cli.conftest import Run
from tests.runs.importing import lines

WRONG = range(60, 100)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose base answers all items rightly."""
    workspace.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rendered(n: int) -> str:
    """The prompt that the suite asks item n with."""
    return f"Q: 900 + 1\nA: 901\n\nQ: {n} + 1\nA:"


def lm_eval(path: Path, *, wrong: range = range(0), prompt: Any = rendered, doc: Any = None) -> Path:
    """A log of lm-eval's about the workspace's items."""
    rows = []
    for n, item in enumerate(workspace.ITEMS):
        right = n not in wrong
        rows.append(
            {
                "doc_id": n,
                "doc": doc(item) if doc else {k: item[k] for k in ("task_type", "prompt")},
                "target": str(n + 1),
                "arguments": {"gen_args_0": {"arg_0": prompt(n), "arg_1": {"until": ["\n"]}}},
                "resps": [[str(n + 1) if right else "none"]],
                "filtered_resps": [str(n + 1) if right else "none"],
                "filter": "none",
                "metrics": ["exact_match"],
                "exact_match": float(right),
            }
        )
    return lines(path, rows)


def plain(path: Path, name: str = "item", *, wrong: range = range(0), n: int = 200, **more: Any) -> Path:
    return lines(path, [{name: f"i{k}", "score": int(k not in wrong), **more} for k in range(n)])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    return " ".join(f"{out} {err}".split())


def test_two_imports_are_compared_gated_reported_listed_and_shown(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(here / "a.jsonl")
    plain(here / "b.jsonl", wrong=WRONG)
    assert run("import", "a.jsonl", "--model", "old", "--task", "legs") == 0
    assert run("import", "b.jsonl", "--model", "new", "--task", "legs") == 0
    said(capsys)
    assert run("compare", "old", "new", "--policy", "default") == 10
    text = said(capsys)
    assert "legs lost 20.0 points (100.0 to 80.0, n=200" in text
    assert "200 of 200 items are known by their names alone" in text
    assert run("gate", "old", "new", "--policy", "default") == 10
    assert run("gate", "new", "old", "--policy", "default") == 0
    assert run("report", "old", "new", "--policy", "default", "--out", "r.html") == 0
    assert "known by their names alone" in (here / "r.html").read_text(encoding="utf-8")
    assert run("export", "old", "new", "--flips", "--out", "f.jsonl") == 0
    assert len((here / "f.jsonl").read_text().splitlines()) == len(WRONG)
    said(capsys)
    assert run("ls", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [(r["model"], r["engine"]["name"], r["tasks"][0]["task"]) for r in listed] == [
        ("new", "imported", "legs"),
        ("old", "imported", "legs"),
    ]
    digest = json.loads((here / "f.jsonl").read_text().splitlines()[0])["id"]
    assert run("show", digest, "old", "new") == 0


def test_no_config_is_needed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain(tmp_path / "a.jsonl", model="x")
    plain(tmp_path / "b.jsonl", wrong=WRONG, model="y")
    assert run("import", "a.jsonl", "b.jsonl", "--task", "legs") == 0
    assert run("compare", "x", "y") == 10


def test_an_imported_run_pairs_with_an_own_run(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same items, the same rendered prompts; the metric has another name."""
    lm_eval(here / "log.jsonl", wrong=WRONG)
    assert run("import", "log.jsonl", "--model", "theirs", "--task", "sums") == 0
    assert "pass --metric exact_match=correct" in said(capsys)
    assert run("run", "base") == 0
    said(capsys)
    assert run("compare", "base", "theirs") == 12
    assert "have no score 'correct'" in said(capsys)
    assert run("import", "log.jsonl", "--model", "theirs", "--task", "sums", "--metric", "exact_match=correct") == 0
    assert "in place of what was imported before" in said(capsys)
    assert run("compare", "base", "theirs", "--json") == 10
    verdict = json.loads(capsys.readouterr().out)["verdicts"][0]
    assert verdict["rules"][0]["delta"] == pytest.approx(-0.2)
    assert any("scored by forgetbench and lm-eval" in note for note in verdict["notes"])
    assert run("gate", "theirs", "base") == 0


def test_other_prompts_are_refused_and_paired_by_key_with_the_doubt_shown(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, prompt in (("one", rendered), ("two", lambda n: f"Say {n} + 1")):
        lm_eval(here / f"{name}.jsonl", prompt=prompt)
        assert run("import", f"{name}.jsonl", "--model", name, "--task", "sums") == 0
    said(capsys)
    assert run("compare", "one", "two") == 12
    text = said(capsys)
    assert "sums (ability): the rendered prompt differs on 200 of 200 items (" in text
    assert run("compare", "one", "two", "--pair-by", "key") == 0
    assert "the rendered prompt differs on 200 of 200 items" in said(capsys)
    assert run("report", "one", "two", "--pair-by", "key", "--out", "r.html") == 0
    assert "the rendered prompt differs on 200 of 200 items" in (here / "r.html").read_text(encoding="utf-8")


def test_other_documents_are_refused_and_paired_by_key(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set that is not known here, logged by two harnesses with other documents."""
    lm_eval(here / "one.jsonl", doc=lambda item: {"q": item["prompt"]})
    lm_eval(here / "two.jsonl", doc=lambda item: {"question": item["prompt"]})
    for name in ("one", "two"):
        assert run("import", f"{name}.jsonl", "--model", name, "--task", "legs") == 0
    said(capsys)
    assert run("gate", "one", "two", "--policy", "default") == 12
    text = said(capsys)
    assert "legs (ability): 200 of 200 items only in one (" in text
    assert "only in two (" in text
    assert run("gate", "one", "two", "--policy", "default", "--pair-by", "key") == 0
    text = said(capsys)
    assert "paired by key: 200 items bear the same name in both; 200 of them have other contents" in text
    assert "taken on trust" in text


def test_documents_that_the_task_does_not_have_are_refused_at_import(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(here / "p.jsonl", n=230)
    assert run("import", "p.jsonl", "--model", "m", "--task", "sums") == 2
    text = said(capsys)
    assert "p.jsonl:201: 30 of 230 items are not in sums (i200, i201, i202, ...)" in text
    assert run("import", "p.jsonl", "--model", "m", "--task", "sums", "--pair-by", "key") == 0
    plain(here / "q.jsonl")
    assert run("import", "q.jsonl", "--model", "k", "--task", "sums") == 0
    said(capsys)
    assert run("gate", "k", "m") == 12
    assert "30 of 230 items only in m" in said(capsys)
    assert run("gate", "k", "m", "--shared-only") == 0
    assert "30 of 230 items only in m" in said(capsys)


def test_a_suite_that_an_imported_run_does_not_cover_is_refused(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = copy.deepcopy(workspace.SUITE)
    suite["tasks"].append({**copy.deepcopy(suite["tasks"][0]), "name": "more"})
    workspace.write(here, suite__yaml=suite)
    plain(here / "p.jsonl")
    assert run("import", "p.jsonl", "--model", "m", "--task", "sums") == 0
    said(capsys)
    assert run("compare", "base", "m") == 12
    assert "m (imported) has no records of more" in said(capsys)
    assert run("compare", "base", "m", "--shared-only") == 0
    assert "not compared: m (imported) has no records of more" in said(capsys)


def test_an_alias_with_weights_never_means_imported_results(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(here / "p.jsonl")
    assert run("import", "p.jsonl", "--model", "base", "--task", "sums") == 2
    assert "--model base: is a model of the config" in said(capsys)
    assert run("import", "p.jsonl", "--model", "later", "--task", "sums") == 0
    config = copy.deepcopy(workspace.CONFIG)
    config["models"]["later"] = copy.deepcopy(config["models"]["sft"])
    workspace.write(here, forgetbench__yaml=config)
    said(capsys)
    assert run("compare", "base", "later") == 2
    assert "is a model of the config and an imported run too" in said(capsys)
    config["models"]["later"] = {"engine": "imported"}
    workspace.write(here, forgetbench__yaml={**config, "locked": "later"})
    assert run("compare", "base", "sft") == 0
    assert run("run", "later") == 2
    assert run("import", "p.jsonl", "--model", "../up", "--task", "sums") == 2
    assert not list(here.parent.glob("up*"))


def test_a_broken_file_leaves_nothing_behind(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain(here / "good.jsonl")
    lines(here / "bad.jsonl", [{"item": "a", "score": 3}, {"item": "b", "score": "x"}])
    assert run("import", "good.jsonl", "bad.jsonl", "--model", "m", "--task", "legs") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert run("compare", "m", "m") == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--from", "helm"), "there is no format 'helm'"),
        (("--view", "other"), "there is no 'other'"),
        (("--pair-by", "name"), "there is no 'name'"),
        (("--field", "score"), "is no pair"),
        (("--field", "points=score"), "there is no field 'points'"),
        (("--field", "score=points"), "no row has a column 'points'"),
        (("--from", "inspect"), "is no .eval log"),
        (("--from", "evalplus"), "not JSON"),
    ],
)
def test_flags_that_cannot_be(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    plain(here / "p.jsonl")
    assert run("import", "p.jsonl", "--model", "m", "--task", "legs", *arguments) == 2
    assert problem in said(capsys)


def outputs(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_texts_from_elsewhere_are_scored_like_own_ones(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": rendered(n), "response": f" {n + 1}\nQ: more"} for n in range(200)]
    rows[3] = {**rows[3], "response": " none"}
    outputs(here / "o.csv", rows)
    assert run("score", "o.csv", "--task", "sums", "--model", "theirs", "--cut", "--json") == 0
    made = json.loads(capsys.readouterr().out)["imported"][0]["tasks"][0]
    assert (made["from"], made["items"]) == ("outputs", 200)
    assert run("compare", "base", "theirs", "--json") == 0
    verdict = json.loads(capsys.readouterr().out)["verdicts"][0]
    assert verdict["rules"][0]["candidate"] == pytest.approx(199 / 200)
    assert not any("taken on trust" in note for note in verdict["notes"])


def test_samples_by_name_and_by_position(run: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [{"samples": [str(n + 1), "none"]} for n in range(200)]
    lines(here / "p.jsonl", texts)
    assert run("score", "p.jsonl", "--task", "sums", "--model", "m") == 2
    assert "names no item" in said(capsys)
    assert (
        run("score", "p.jsonl", "--task", "sums", "--model", "m", "--by-position", "--temperature", "0.8", "--json")
        == 0
    )
    made = json.loads(capsys.readouterr().out)["imported"][0]["tasks"][0]
    assert (made["records"], made["decode_id"]) == (400, "T0.8/p1/K2")
    assert any("known by their place in the file alone" in note for note in made["notes"])


def test_items_without_an_output_are_not_wrong_answers(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(here / "p.jsonl", [{"prompt": rendered(n), "output": str(n + 1)} for n in range(190)])
    assert run("score", "p.jsonl", "--task", "sums", "--model", "m") == 2
    assert "10 of 200 items have no output" in said(capsys)
    assert run("score", "p.jsonl", "--task", "sums", "--model", "m", "--allow-missing") == 0
    said(capsys)
    assert run("compare", "base", "m") == 12
    assert "10 of 200 items only in base" in said(capsys)


@pytest.mark.parametrize(
    ("row", "task", "problem"),
    [
        ({"item": "i1", "output": 3}, "sums", "p.jsonl:1: output: is a number (3)"),
        ({"item": "i1", "output": ["a", None]}, "sums", "p.jsonl:1: output: is a list"),
        ({"item": "i1", "other": "a"}, "sums", "no column holds the outputs; it has item, other"),
        ({"item": "i9999", "output": "a"}, "sums", "1 of 1 items are not in sums (i9999)"),
        ({"item": "i1", "output": "a"}, "nothing", "there is no such task"),
    ],
)
def test_outputs_that_cannot_be_scored(
    run: Run, here: Path, capsys: pytest.CaptureFixture[str], row: Mapping[str, Any], task: str, problem: str
) -> None:
    lines(here / "p.jsonl", [row])
    assert run("score", "p.jsonl", "--task", task, "--model", "m") == 2
    assert problem in said(capsys)
