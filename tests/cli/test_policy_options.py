"""Policies, waivers, alarms and the noise floor through the command line, on real run folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.workspace import CONFIG, POLICY, script, write

Run = Callable[..., int]
pytestmark = pytest.mark.unit

WAIVER = {
    "rule": "sums",
    "reason": "the new tone was asked for",
    "owner": "ops",
    "until": "2199-12-31",
    "max_drop": 25.0,
}


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sft loses 15 of 100 points."""
    write(tmp_path, sft__json=script(wrong=range(30)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verdict(run: Run, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = run(*arguments, "--json")
    told = capsys.readouterr()
    return code, json.loads(told.out)["verdicts"][-1], told.err


@pytest.mark.parametrize("by", ["flag", "config"])
def test_waivers(lost: Path, run: Run, capsys: pytest.CaptureFixture[str], by: str) -> None:
    assert run("compare", "base", "sft") == 10
    write(lost, sft__json=None, waivers__yaml={"waivers": [WAIVER]})
    if by == "config":
        write(lost, sft__json=None, forgetbench__yaml={**CONFIG, "waivers": "waivers.yaml"})
    flag = ["--waivers", "waivers.yaml"] if by == "flag" else []
    capsys.readouterr()
    code, found, _ = verdict(run, capsys, "gate", "base", "sft", *flag)
    assert (code, found["state"], found["rules"][0]["state"]) == (0, "PASS", "FAIL")
    assert [w["state"] for w in found["waivers"]] == ["active"]
    assert run("gate", "base", "sft", *flag) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Blocked, waived" in shown
    assert "the new tone was asked for) holds" in shown
    assert run("report", "base", "sft", *flag, "-o", "report.html") == 0
    page = (lost / "report.html").read_text(encoding="utf-8")
    assert "the new tone was asked for" in page
    assert ", waived" in page
    assert run("report", "base", "sft", *flag, "-o", "zh.html", "--lang", "zh") == 0
    assert "已豁免" in (lost / "zh.html").read_text(encoding="utf-8")


def test_an_expired_waiver_is_an_error_line(lost: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write(lost, sft__json=None, waivers__yaml={"waivers": [{**WAIVER, "until": "2019-12-31"}]})
    (lost / "sft.json").write_text(json.dumps(script(wrong=range(30))), encoding="utf-8")
    code, found, err = verdict(run, capsys, "compare", "base", "sft", "--waivers", "waivers.yaml")
    assert (code, found["waivers"][0]["state"]) == (10, "expired")
    assert "forgetbench: error: waiver of sums" in err
    assert "EXPIRED" in err


@pytest.mark.parametrize(
    ("waivers", "message"),
    [
        ({"waivers": [{**WAIVER, "rule": "sum"}]}, "waives 'sum', which no rule of the policy is about"),
        ({"waivers": [{**WAIVER, "max_drop": 5.0}]}, "lies within the margin"),
        ({"waivers": [WAIVER, {**WAIVER, "rule": None, "task_type": "reasoning"}]}, "waives rule 'sums', as"),
        ({"waivers": [{**WAIVER, "until": None}]}, "use a day"),
        ("[", "is not valid YAML"),
    ],
)
@pytest.mark.parametrize("command", ["gate", "compare", "validate"])
def test_waivers_that_are_refused(
    lost: Path, run: Run, capsys: pytest.CaptureFixture[str], command: str, waivers: Any, message: str
) -> None:
    write(lost, waivers__yaml=waivers)
    models = [] if command == "validate" else ["base", "sft"]
    assert run(command, *models, "--waivers", "waivers.yaml") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (lost / ".forgetbench" / "runs").exists()  # said before anything ran


def test_a_waivers_file_that_is_gone_is_an_error(lost: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gate", "base", "sft", "--waivers", "gone.yaml") == 2
    assert "there is no such file of waivers" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("default", 10), ("strict", 10), ("smoke", 0)])
def test_profiles_by_name(lost: Path, run: Run, capsys: pytest.CaptureFixture[str], name: str, code: int) -> None:
    """15 points lost: blocked under a margin of 5, within one of 20 (a smoke test finds what collapsed)."""
    got, found, _ = verdict(run, capsys, "compare", "base", "sft", "--policy", name)
    assert (got, found["policy"]["name"]) == (code, name)


def test_a_score_and_an_alarm(lost: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [*POLICY["rules"], {"name": "usability", "formula": "0.4 * sums + 0.6 * reasoning", "margin": 5.0}]
    alarms = [{"task": "sums", "points": 1.0}]
    write(lost, sft__json=None, policy__yaml={**POLICY, "rules": rules, "alarms": alarms})
    code, found, _ = verdict(run, capsys, "compare", "base", "sft")
    score = found["rules"][1]
    assert (code, score["state"], score["rule"]["formula"]) == (10, "FAIL", "0.4 * sums + 0.6 * reasoning")
    assert score["delta"] == pytest.approx(-0.15)
    assert score["interval"]["low"] < -0.15 < score["interval"]["high"]
    assert found["alarms"][0]["fired"] is True
    assert run("gate", "base", "sft") == 10
    assert "alarm sums (minus 1 points): FIRES at -15.0" in " ".join(capsys.readouterr().out.split())
    assert run("compare", "base", "sft", "--plan") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Alarm sums (minus 1 points, n=200) fires on an unchanged checkpoint in 32.7 % with 10 % discordant" in shown
    assert run("compare", "base", "sft", "--plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["alarms"][0]["fires_no_change"][0] == {"psi": 0.1, "p": pytest.approx(0.327, abs=0.001)}


def test_floor(lost: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("floor", "base", "--json") == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert "running base again: other seeds, other batch shapes" in told.err
    (row,) = found["floors"]
    assert (row["task"], row["n"], row["flips"], row["texts"]) == ("sums", 200, 0.0, 0.0)
    assert row["interval"]["high"] == pytest.approx(0.0183, abs=1e-4)  # 1 - 0.025 ** (1 / 200)
    assert run("compare", "base", "sft") == 10
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "items that flip, held against base run twice: sums 15.0 % here, 0.0 % floor (95 % up to 1.8, n=200)" in shown
    )
    assert run("ls") == 0
    assert "sums/ability 200 floor" in " ".join(capsys.readouterr().out.split())
    # A second call asks nothing, and the replicate never turns up as an answer of the run.
    assert run("floor", "base") == 0
    assert "prompt tokens computed" not in capsys.readouterr().err
    manifest = json.loads(next((lost / ".forgetbench" / "runs").glob("base-*/manifest.json")).read_text())
    assert sorted(t["identity"]["replicate"] for t in manifest["tasks"]) == [0, 1]


def test_a_floor_of_other_answers_is_not_shown(lost: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("floor", "base") == 0
    assert run("compare", "base", "sft", "--limit", "50") in (10, 11)
    assert "run twice" not in capsys.readouterr().out
    file = next((lost / ".forgetbench" / "runs").glob("base-*/floor.json"))
    for content in ("", "{}", '{"schema_version": 1, "floors": [1]}', '{"schema_version": 1, "floors": [{}]}'):
        file.write_text(content, encoding="utf-8")
        assert run("gate", "base", "sft", "--limit", "50") in (10, 11)
        assert "Traceback" not in capsys.readouterr().err
