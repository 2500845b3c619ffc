"""Behaviour on the command line: what is asked, what is said, what a later report finds again."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from forgetbench.report.embed import unpack

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit

Out = pytest.CaptureFixture[str]

SCRIPT = """
import hashlib, re

def answer(request):
    if not hasattr(request.body, "temperature"):
        return None  # a reading: made up by the engine
    n = int(re.findall(r"Q: (\\d+) \\+ 1", request.prompt.text)[-1])
    said = {said}
    if request.body.temperature == 0:
        return said
    return [said if seed % 10 else "none" for seed in request.body.seeds]
"""


def _write(folder: Path, said: str, *, limit: int = 80, **suite: Any) -> Path:
    """A base that knows its sums, and a candidate that says `said` (an expression of n)."""
    config = copy.deepcopy(workspace.CONFIG)
    for alias, text in (("base", "str(n + 1)"), ("sft", said)):
        (folder / f"{alias}.py").write_text(f"# {alias}" + SCRIPT.replace("{said}", text), encoding="utf-8")
        config["models"][alias] = {"path": f"{alias}.py", "engine": "scripted"}
        config["models"][alias]["engine_args"] = {"script": f"{alias}.py"}
    changed = {**copy.deepcopy(workspace.SUITE), **suite}
    changed["tasks"][0] |= {"limit": limit, "max_tokens": 60}
    return workspace.write(folder, forgetbench__yaml=config, suite__yaml=changed)


def _behaviour(out: str) -> dict[str, Any]:
    (found,) = json.loads(out)["behaviour"]
    return dict(found)


FORMAT = "str(n + 1) if n % 2 else f'The sum is {n + 1}, I believe.'"


def test_a_new_format_is_named_as_the_cause(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, FORMAT)
    assert run("compare", "base", "sft", "--config", str(config), "--study", "causes", "--json") == 10
    found = _behaviour(capsys.readouterr().out)
    (task,) = found["causes"]
    assert (task["task"], task["lost"]) == ("sums", 40)
    assert task["counts"]["format"] >= 38
    assert "format" in task["sentence"]


def test_what_lies_on_disk_is_found_by_a_later_report(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, FORMAT, study={"parts": ["distribution", "causes"]})
    assert run("compare", "base", "sft", "--config", str(config), "--json") == 10
    first = _behaviour(capsys.readouterr().out)
    out = tmp_path / "again.html"
    assert run("report", "base", "sft", "--config", str(config), "--out", str(out)) == 0
    page = out.read_text(encoding="utf-8")
    assert first["causes"][0]["sentence"] in page
    assert "Why answers broke against" in page
    assert "What it would say next" in page
    assert first["spent"]["requests"] > 0
    capsys.readouterr()
    assert run("compare", "base", "sft", "--config", str(config), "--json") == 10
    again = _behaviour(capsys.readouterr().out)
    assert again["spent"] is None  # nothing was asked a second time
    assert again["causes"] == first["causes"]
    assert again["measures"] == first["measures"]


def test_without_a_change_nothing_is_proven(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, "str(n + 1)")
    assert run("compare", "base", "sft", "--config", str(config), "--study", "causes", "--samples", "4", "--json") == 0
    found = _behaviour(capsys.readouterr().out)
    assert found["causes"] == []
    (sampled,) = found["sampled"]
    assert [p["k"] for p in sampled["pass_at_k"]] == [1, 2, 3, 4]
    looks = [m for m in found["measures"] if m["delta"] is not None and m["base"] is not None]
    assert looks
    assert not [m["name"] for m in looks if m["delta"]["low"] > 0 or m["delta"]["high"] < 0]


def test_the_distribution_keeps_to_its_share_of_tokens(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, "str(n + 1)")
    assert run("compare", "base", "sft", "--config", str(config), "--json", "--no-cache") == 0
    found = _behaviour(capsys.readouterr().out)
    assert 0.0 < found["spent"]["share"] <= 0.15
    names = {m["name"] for m in found["measures"]}
    assert {"token_entropy", "support_retention", "leaves_base_answer", "opening_concentration_4"} <= names


def test_habits_are_told_with_the_base_beside_them(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, "'Well, let me see: ' + str(n + 1)")
    assert run("compare", "base", "sft", "--config", str(config), "--study", "none") == 10
    told = " ".join(capsys.readouterr().out.split())
    assert "start with the same four tokens" in told or "start with the same 4 tokens" in told


def test_fixed_texts_are_read_by_both(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, "str(n + 1)", study={"parts": ["distribution"], "texts": ["nowhere"]})
    assert run("compare", "base", "sft", "--config", str(config)) == 2
    assert "study: texts: there is no" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["everything", "causes,magic"])
def test_unknown_parts_are_refused(run: Run, tmp_path: Path, capsys: Out, value: str) -> None:
    config = _write(tmp_path, "str(n + 1)")
    assert run("compare", "base", "sft", "--config", str(config), "--study", value) == 2
    assert "--study: there is no" in capsys.readouterr().err


def test_each_flip_carries_its_cause_into_the_report(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, FORMAT)
    out = tmp_path / "r.html"
    flags = ("--config", str(config), "--study", "causes", "--report", str(out))
    assert run("compare", "base", "sft", *flags) == 10
    page = out.read_text(encoding="utf-8")
    chunks = re.findall(r'<script type="text/plain" class="chunk">([^<]+)</script>', page)
    rows = [row for chunk in chunks for row in unpack(chunk)]
    told = [row["cause"] for row in rows if "cause" in row]
    assert len(told) == 40
    assert sum(line.startswith("format: fresh answers right: ") for line in told) >= 38


FIRMNESS = """
import math, re

def answer(request):
    n = int(re.findall(r"Q: (\\d+) \\+ 1", request.prompt.text)[-1])
    said = str(n + 1)
    if hasattr(request.body, "continuations"):
        assert request.body.continuations == (f" {said}",), request.body
        return [math.log({p}) - 0.01 * (n % 7)]
    if not hasattr(request.body, "temperature"):
        return None
    return said if request.body.temperature == 0 else [said] * len(request.body.seeds)
"""


def test_the_reference_loses_probability_before_an_answer_flips(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, "str(n + 1)", limit=200)
    for alias, p in (("base", 0.9), ("sft", 0.6)):
        (tmp_path / f"{alias}.py").write_text(FIRMNESS.replace("{p}", str(p)), encoding="utf-8")
    flags = ("--config", str(config), "--samples", "16", "--no-cache")
    assert run("compare", "base", "sft", *flags, "--report", str(tmp_path / "r.html"), "--json") == 0
    found = _behaviour(capsys.readouterr().out)
    assert found["spent"]["share"] <= 0.15
    told = {m["name"]: m for m in found["measures"] if m["group"] == "How likely the reference answer is"}
    assert set(told) == {
        "reference_logprob",
        "reference_probability",
        "kept_reference_logprob",
        "reference_logprob_per_token",
    }
    for name in ("reference_logprob", "kept_reference_logprob"):
        assert told[name]["candidate"] - told[name]["base"] == pytest.approx(-0.4055, abs=1e-3)
        assert told[name]["delta"]["high"] < 0.0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "How likely the reference answer is" in page
    assert told["reference_logprob"]["reading"] in page
    assert run("compare", "base", "sft", *flags) == 0
    assert "the reference answer has a log-probability of" in " ".join(capsys.readouterr().out.split())


def test_references_that_an_engine_cannot_score_are_left_out(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, "str(n + 1)", limit=200)
    assert run("compare", "base", "sft", "--config", str(config), "--samples", "16", "--json", "--no-cache") == 0
    found = _behaviour(capsys.readouterr().out)
    assert not [m for m in found["measures"] if "reference" in m["name"]]
    assert [n for n in found["notes"] if n.startswith("the references of ")]


def test_a_dataset_or_embedder_that_is_not_there_is_told_first(run: Run, tmp_path: Path, capsys: Out) -> None:
    for study, problem in (
        ({"texts": ["hub:nobody/nothing"]}, "study: texts: nobody/nothing:train is not in the hub's cache"),
        ({"texts": ["hub:nothing"]}, "study: texts: 'hub:nothing' names no dataset"),
        ({"embedder": "./nowhere"}, "study: embedder"),
    ):
        config = _write(tmp_path, "str(n + 1)", study=study)
        assert run("compare", "base", "sft", "--config", str(config)) == 2
        told = capsys.readouterr().err
        assert problem in told
        assert "requests" not in told  # nothing was asked


def test_the_vendi_score_by_an_embedder_of_the_users(run: Run, tmp_path: Path, capsys: Out) -> None:
    from tests.engines import tiny

    tiny.save(tmp_path / "encoder")
    config = _write(tmp_path, "str(n + 1)", study={"parts": [], "embedder": "encoder"})
    assert run("compare", "base", "sft", "--config", str(config), "--json") == 0
    assert (
        "no Vendi score: it wants several answers to each item (--samples)"
        in _behaviour(capsys.readouterr().out)["notes"]
    )
    out = tmp_path / "r.html"
    flags = ("--config", str(config), "--samples", "4", "--report", str(out))
    assert run("compare", "base", "sft", *flags, "--json") in (0, 10)
    (vendi,) = [m for m in _behaviour(capsys.readouterr().out)["measures"] if m["name"] == "vendi_4"]
    assert 1.0 <= vendi["base"] <= 4.0
    assert vendi["delta"]["low"] <= vendi["candidate"] - vendi["base"] <= vendi["delta"]["high"]
    assert "by the embedder encoder (" in vendi["note"]
    assert vendi["note"] in out.read_text(encoding="utf-8")
