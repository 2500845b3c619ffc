"""`ab` on the demo's chat model: trained, merged, graded, resumed, side by side. About 60 s."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from forgetbench.arms import run as runner
from forgetbench.arms.config import load_experiment
from forgetbench.arms.run import grader_call, run
from forgetbench.arms.worker import Workers
from forgetbench.errors import Interrupted, UsageError
from tests.arms import demo

pytestmark = pytest.mark.slow


def test_arms_end_to_end_and_again(demo_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One experiment through all that happens to it, since training is what takes the time."""
    plan = load_experiment(demo.write(tmp_path, demo_world))
    call, out = grader_call(plan), tmp_path / "out"
    told: list[str] = []
    first = run(plan, out, call, say=told.append)
    assert first.failed == ()
    assert first.banner == "A toy."
    assert [(o.arm, [p.label for p in o.points]) for o in first.outcomes] == [
        ("full", ["step 20", "step 40"]),
        ("gentle", ["step 20", "step 40"]),
        ("wise", ["alpha 0.9"]),
        ("noop", ["base"]),
    ]
    found = first.frontier()
    stands = {s.arm: s for s in found.stands}
    assert stands["full"].target.value > 0.5  # it learnt the tickets
    assert stands["full"].general.value < -0.3  # and paid for them
    assert (stands["gentle"].reaches, stands["gentle"].states) == (False, ("PASS",))
    assert stands["noop"].general.value == stands["noop"].target.value == 0.0
    assert stands["wise"].general.value > stands["full"].general.value
    assert found.acceptable == ()
    written = json.loads((out / "results.json").read_text())
    full = next(o for o in written["outcomes"] if o["arm"] == "full")
    assert full["points"][-1]["target"]["n"] == 30
    assert full["points"][-1]["target"]["candidate"] == pytest.approx(
        found.base_target + stands["full"].paths[0][-1].target
    )

    assert list((out / "arms").rglob("checkpoint-*"))
    assert not list((out / "arms").rglob("optimizer*"))

    # The same call again asks nothing, though a checkpoint was removed to save room.
    shutil.rmtree(out / "arms" / "full" / "seed-0" / "checkpoint-20")
    told.clear()
    second = run(plan, out, call, say=told.append)
    assert told == []
    for a, b in zip(first.outcomes, second.outcomes, strict=True):
        assert [(p.label, p.folder, p.grade.state) for p in a.points] == [
            (p.label, p.folder, p.grade.state) for p in b.points
        ]
        for p, q in zip(a.points, b.points, strict=True):
            for c, d in zip(p.grade.cells, q.grade.cells, strict=True):
                np.testing.assert_array_equal(c.candidate, d.candidate)
    assert second.frontier() == found

    # An arm whose recipe was changed is named, does not end the others, and what stands on it fails with it.
    changed = load_experiment(_with(plan.file, "full: {train: {}}", "full: {train: {lr: 1.5e-3}}"))
    third = run(changed, out, call, say=told.append)
    errors = {o.arm: o.error for o in third.outcomes}
    assert "holds a run that differs in recipe" in (errors["full"] or "")
    assert errors["gentle"] is errors["noop"] is None
    assert [a.name for a in third.arms if a.name != "wise"] == ["gentle", "noop"]
    assert any(line.startswith("full, seed 0: failed:") for line in told)

    # Ctrl-C is no failure of an arm.
    def interrupted(*_: object) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(runner, "_points", interrupted)
    with pytest.raises(Interrupted):
        run(plan, out, call, say=told.append)


def _with(file: Path, before: str, after: str) -> Path:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    return file


def test_what_cannot_be_compared_is_refused_before_training(demo_world: Path, tmp_path: Path) -> None:
    file = demo.write(tmp_path, demo_world)
    for before, after, told in (
        ("task_types: support", "task_types: suport", "target: the suite asks nothing of suport in the view chat"),
        (
            "general: {view: chat}",
            "general: {view: ability}",
            "general: the suite asks nothing of the rest in the view ability",
        ),
    ):
        plan = load_experiment(_with(file, before, after))
        with pytest.raises(UsageError, match=told):
            run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
        _with(file, after, before)
    _with(tmp_path / "forgetbench.yaml", "sft_v1", "base")  # plain text only
    plan = load_experiment(file)
    with pytest.raises(UsageError, match=r"target\.view: is chat, and the base has no chat template"):
        run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_base_of_the_hub_is_its_revision(demo_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned to an older commit: trained from, merged with, compared and asked by the no-op is that one."""
    from huggingface_hub import constants

    commits = {"old": "0" * 40, "main": "1" * 40}
    repo = tmp_path / "hub" / "models--acme--chat"
    for name, model in (("old", "sft_v1"), ("main", "base")):
        shutil.copytree(demo_world / "models" / model, repo / "snapshots" / commits[name])
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / name).write_text(commits[name])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "experiment"
    folder.mkdir()
    gentle = (
        demo.EXPERIMENT.replace("steps: 40", "steps: 4")
        .replace("  full: {train: {}}\n", "")
        .replace("of: full", "of: gentle")
    )
    file = demo.write(folder, demo_world, per_set=10, experiment=gentle)
    models = "models: {chat: {path: acme/chat, revision: old}}"
    (folder / "forgetbench.yaml").write_text(f"{models}\nsuite: suite.yaml\npolicy: policy.yaml\n")
    plan, out = load_experiment(file), tmp_path / "out"
    found = run(plan, out, grader_call(plan), say=lambda _: None)
    assert found.failed == ()
    asked = {o.arm: [p.folder for p in o.points] for o in found.outcomes}
    assert asked["noop"] == [str(repo / "snapshots" / commits["old"])]
    told = json.loads((out / "arms" / "gentle" / "seed-0" / "run.json").read_text())
    assert told["base"] == str(repo / "snapshots" / commits["old"])


def _die() -> None:
    import os

    os._exit(9)


def test_children_answer_or_are_named() -> None:
    workers = Workers()
    assert workers.call(sum, [1, 2, 3]) == 6
    with pytest.raises(ChildProcessError, match="exit code 9"):
        workers.call(_die)
    workers.close()
    with pytest.raises(ChildProcessError, match="ended"):
        workers.call(sum, [1])
