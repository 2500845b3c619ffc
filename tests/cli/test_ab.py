"""`forgetbench ab`: exit codes, table, files, mistakes. The runs themselves: tests/arms/test_run.py. About 5 s."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forgetbench.arms.config import Plan
from forgetbench.arms.frontier import Arm
from forgetbench.arms.results import Graded, Outcome, Results
from forgetbench.arms.run import GraderCall
from forgetbench.arms.score import Grade
from forgetbench.cli import ab as command
from forgetbench.errors import ForgetbenchError, UsageError
from tests.arms import made

pytestmark = pytest.mark.unit

EXPERIMENT = """\
base: base
target: {task_types: support, view: chat}
general: {view: [chat, ability]}
defaults: {data: [{path: data.jsonl}], lr: 1e-3, steps: 30}
arms:
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "a", "answer": "b"}) + "\n")
    file = tmp_path / "tickets.yaml"
    arms = [f"  {n}: {{train: {{}}}}" for n in ("full", "replay")] + ["  noop: {noop: true}"]
    file.write_text(EXPERIMENT + "\n".join(arms) + "\n")
    return file


def _outcomes(plan: Plan, arms: tuple[Arm, ...], failed: str = "") -> tuple[Outcome, ...]:
    return tuple(
        Outcome(a.name, seed, tuple(Graded(p.label, "", Grade(p.cells, p.state, "")) for p in path),
                "CUDA out of memory" if a.name == failed and seed == 1 else None)
        for a in arms
        for seed, path in zip(plan.experiment.seeds, a.paths, strict=True)
    )  # fmt: skip


def _runs(monkeypatch: pytest.MonkeyPatch, passes: tuple[str, ...], failed: str = "") -> None:
    steps = {"full": made.USUAL["full"], "replay": made.USUAL["replay 20 %"]}

    def run(plan: Plan, out: Path, call: GraderCall, *, workers: int, say: object) -> Results:
        out.mkdir(exist_ok=True)
        return Results(plan, out, _outcomes(plan, made.arms(steps, passes=passes), failed), "A toy.")

    monkeypatch.setattr(command, "run", run)


def _ab(*arguments: object, **named: object) -> int:
    with pytest.raises(SystemExit) as left:
        command.ab(*arguments, **named)  # type: ignore[arg-type]
    return int(left.value.code or 0)


def test_an_acceptable_arm_ends_in_0(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _runs(monkeypatch, ("replay",))
    assert _ab(experiment) == 0
    told = capsys.readouterr()
    assert told.out.startswith("replay reaches the target score and passes in every seed: 1 of 2 arms.")
    rows = {line.split()[0]: line for line in told.out.splitlines() if line.strip()}
    assert "blocked" in rows["full"]
    assert rows["full"].rstrip().endswith("replay")
    assert " pass " in rows["replay"]
    out = experiment.parent / "tickets-ab"
    assert {p.name for p in out.iterdir()} == {"report.html", "frontier.svg", "frontier.json"}
    assert json.loads((out / "frontier.json").read_text())["acceptable"] == ["replay"]
    page = (out / "report.html").read_text()
    assert "1 arm is acceptable" in page
    assert "A toy." in page
    assert f"wrote {out / 'report.html'}" in told.err


def test_no_acceptable_arm_ends_in_10(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _runs(monkeypatch, ("full at all",))
    assert _ab(experiment, as_json=True, out=tmp_path / "there") == 10
    told = json.loads(capsys.readouterr().out)
    assert told["headline"].startswith("No arm is acceptable: full and replay reach the target score")
    assert told["unbeaten"] == ["replay"]
    assert told["report"] == str(tmp_path / "there" / "report.html")
    assert len(told["versus"]) == 6


def test_an_arm_with_a_failed_seed_is_left_out_and_named(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _runs(monkeypatch, ("replay",), failed="full")
    assert _ab(experiment) == 0
    out = capsys.readouterr().out
    assert "full is left out: seed 1 failed: CUDA out of memory" in out
    assert "1 of 1 arms" in out


def test_nothing_finished_is_no_verdict(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan, out: Path, call: GraderCall, **_: object) -> Results:
        arms = [a for a in plan.experiment.arms if a != "noop"]
        return Results(plan, out, tuple(Outcome(a, s, (), "why") for a in arms for s in plan.experiment.seeds))

    monkeypatch.setattr(command, "run", run)
    with pytest.raises(ForgetbenchError, match="arm 'full', seed 0 failed: why\narm 'replay', seed 0 failed") as found:
        command.ab(experiment)
    assert found.value.exit_code == 1


def test_the_folder_of_the_results_is_no_file(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        command.ab(experiment, out=tmp_path / "there")
