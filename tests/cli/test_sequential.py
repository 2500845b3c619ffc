"""`compare --sequential` end to end on the scripted engine: what is asked, what is left on disk, what is said."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.runs.store import open_run

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit

Out = pytest.CaptureFixture[str]


def _compare(run: Run, config: Path, *more: str) -> int:
    return run("compare", "base", "sft", "--config", str(config), *more)


def _verdict(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)["verdicts"][0]
    return found


def _candidate(folder: Path) -> Path:
    (found,) = (folder / ".forgetbench/runs").glob("sft-*")
    return found


def _answers(folder: Path) -> int:
    segments = _candidate(folder).glob("tasks/*/responses/*")
    return sum(len(s.read_bytes().splitlines()) for s in segments)


def test_no_change_passes_before_all_is_asked(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config, "--sequential", "--json") == 0
    verdict = _verdict(capsys.readouterr().out)
    rule = verdict["rules"][0]
    assert (rule["state"], rule["total"], rule["minimum_detectable_drop"]) == ("PASS", 200, None)
    assert rule["lower"] > -0.05
    assert rule["interval"]["method"] == "betting confidence sequence"
    assert 50 < rule["n"] < 150
    # Asked in blocks of 50: the one in which the rule was decided is the last.
    assert _answers(tmp_path) == -(-rule["n"] // 50) * 50
    assert any(f"{_answers(tmp_path)} of 200 questions were asked of sft" in note for note in verdict["notes"])


def test_a_large_loss_blocks_within_the_first_block(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(0, 200, 2)))
    assert _compare(run, config, "--sequential", "--json") == 10
    rule = _verdict(capsys.readouterr().out)["rules"][0]
    assert rule["state"] == "FAIL"
    assert rule["n"] < 50
    assert rule["p_fail"] <= 0.05
    assert _answers(tmp_path) == 50


def test_what_is_undecided_is_asked_to_the_end(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(7)))
    assert _compare(run, config, "--sequential") == 11
    assert _answers(tmp_path) == 200
    assert "nor one beyond half of it proven" in " ".join(capsys.readouterr().out.split())


def test_the_same_command_asks_nothing_again_and_says_the_same(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path)
    seen = []
    for _ in range(2):
        assert _compare(run, config, "--sequential", "--json") == 0
        seen.append((_verdict(capsys.readouterr().out), _answers(tmp_path)))
    assert seen[0] == seen[1]


def test_a_whole_compare_asks_only_the_rest(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config, "--sequential", "--no-cache") == 0
    before = _answers(tmp_path)
    shown = open_run(_candidate(tmp_path))
    assert before < 200
    assert len(shown.records()) == before
    assert [(e.state, e.n_items) for e in shown.entries] == [("complete", before)]
    assert run("gate", "base", "sft", "--config", str(config)) == 2  # the whole suite was not asked
    capsys.readouterr()
    assert _compare(run, config, "--no-cache", "--json") == 0
    rule = _verdict(capsys.readouterr().out)["rules"][0]
    assert (rule["n"], rule["total"]) == (200, None)
    assert _answers(tmp_path) == 200


def test_only_what_undecided_rules_need_is_asked(run: Run, tmp_path: Path, capsys: Out) -> None:
    """Two sets: one lost much, of the other a rule of its own stays undecided."""
    suite, policy = copy.deepcopy(workspace.SUITE), copy.deepcopy(workspace.POLICY)
    other = [{**item, "prompt": f"{item['prompt']} again"} for item in workspace.ITEMS]
    suite["tasks"].append({**copy.deepcopy(suite["tasks"][0]), "set": "again.jsonl"})
    policy["rules"].append({"name": "again", "task": "again", "margin": 5})
    policy["rules"][0] = {"name": "sums", "task": "sums", "margin": 5}
    (tmp_path / "again.jsonl").write_text("".join(json.dumps(line) + "\n" for line in other), encoding="utf-8")

    def script(wrong: range, again: range) -> dict[str, Any]:
        rules = workspace.script(wrong)["rules"]
        rules += [{"match": f"Q: {n} + 1 again\nA:", "text": "none" if n in again else str(n + 1)} for n in range(200)]
        return {"rules": rules}

    config = workspace.write(
        tmp_path,
        suite__yaml=suite,
        policy__yaml=policy,
        base__json=script(range(0), range(0)),
        sft__json=script(range(0, 200, 2), range(7)),
    )
    assert _compare(run, config, "--sequential", "--json") == 10
    sums, again = _verdict(capsys.readouterr().out)["rules"]
    assert (sums["state"], again["state"], again["n"]) == ("FAIL", "INCONCLUSIVE", 200)
    of = {e.identity.task: e.n_items for e in open_run(_candidate(tmp_path)).entries}
    assert of["again"] == 200
    assert of["sums"] < 60


def test_training_data_does_not_go_with_it(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path)
    assert _compare(run, config, "--train-data", str(tmp_path / "sums.jsonl"), "--sequential") == 2
    assert "cannot go with --train-data" in capsys.readouterr().err
    assert not (tmp_path / ".forgetbench/runs").exists()


def test_it_is_for_one_candidate(run: Run, tmp_path: Path, capsys: Out) -> None:
    models = copy.deepcopy(workspace.CONFIG)
    models["models"]["more"] = copy.deepcopy(models["models"]["sft"])
    assert _compare(run, workspace.write(tmp_path, forgetbench__yaml=models), "more", "--sequential") == 2
    assert "is for one candidate, and 2 are named" in capsys.readouterr().err
    assert not (tmp_path / ".forgetbench/runs").exists()


def test_a_test_at_a_fixed_number_is_refused(run: Run, tmp_path: Path, capsys: Out) -> None:
    policy = copy.deepcopy(workspace.POLICY)
    policy["rules"][0]["test"] = "tango"
    assert _compare(run, workspace.write(tmp_path, policy__yaml=policy), "--sequential") == 2
    assert "holds at a fixed number of items only" in capsys.readouterr().err


def test_the_report_shows_how_far_it_went(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(7)))
    assert _compare(run, config, "--sequential", "--lang", "zh") == 11
    html = (tmp_path / ".forgetbench/reports/base-sft.html").read_text(encoding="utf-8")
    for told in (
        "下注置信序列",
        "n=200（共 200，序贯判定）",
        "也未能证明损失超过其一半",
        "200 题中向 sft 提问了 200 题",
    ):
        assert told in html
    assert "of 200, decided in sequence" in " ".join(capsys.readouterr().out.split())
