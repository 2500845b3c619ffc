"""Runs that our own gate stops, and what is left of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forgetbench.errors import Exit, UsageError
from forgetbench.training import fit, manifest, stopping
from forgetbench.training.prepare import Where
from forgetbench.training.recipe import Recipe
from forgetbench.training.retention import undisturbed
from tests.training import graded, tiny

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    torch.set_num_threads(1)
    kept = fit.judge_of
    yield
    fit.judge_of = kept


def _recipe(**settings: Any) -> Recipe:
    base = {
        "base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-2, "max_length": 64, "save_every": 100, "steps": 8,
        "keep": 1, "retention": {"suite": "suite.yaml", "policy": "policy.yaml", "every": 2},
    }  # fmt: skip
    return Recipe.model_validate({**base, **settings})


def _train(folder: Path, name: str, **settings: Any) -> stopping.Trained:
    return fit.train(_recipe(**settings), folder, str(folder / "base"), folder / name)


def _lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / manifest.METRICS).read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def _weights(folder: Path | None) -> dict[str, torch.Tensor]:
    assert folder is not None
    return dict(load_file(folder / "model.safetensors"))


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_failed_retention_set_ends_the_run_with_the_last_accepted_checkpoint(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    grader = graded.scripted({2: "PASS", 4: "INCONCLUSIVE", 6: "FAIL", 8: "PASS"})
    found = _train(tmp_path, "out")
    assert (found.step, found.steps, found.exit_code) == (2, 6, Exit.REGRESSION)
    assert found.why == (
        "stopped at step 6: the retention set failed; the result is checkpoint 2, the last acceptable one"
    )
    assert grader.asked == ["out-2", "out-4", "out-6"]
    assert [f.name for f in manifest.checkpoints(tmp_path / "out")] == ["checkpoint-2", "checkpoint-6"], "keep is 1"
    assert manifest.damage(tmp_path / "out" / "final") is None
    short = _recipe(steps=2, retention=None, scheduler="constant")
    assert _equal(_weights(found.final), _weights(tmp_path / "out" / "checkpoint-2"))
    assert short.steps == 2
    names = {f.name for f in (tmp_path / "out" / "final").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", manifest.COMPLETE} <= names
    assert not [n for n in names if n.startswith(("optimizer", "scheduler", "rng_state", "trainer_state"))]
    lines = _lines(tmp_path / "out", "retention")
    assert [(x["step"], x["state"], x["deltas"]) for x in lines] == [
        (2, "PASS", {"copy": -0.1}), (4, "INCONCLUSIVE", {"copy": -0.1}), (6, "FAIL", {"copy": -0.1})
    ]  # fmt: skip
    about = json.loads((tmp_path / "out" / manifest.TRAINING).read_text())
    assert (about["steps"], about["result"]["step"]) == (6, 2)
    assert about["tokens"] == sum(x["tokens"] for x in _lines(tmp_path / "out", "train") if x["step"] <= 2)
    assert _train(tmp_path, "out") == found
    assert len(grader.asked) == 3, "a run that is over asks nothing"


def test_no_acceptable_checkpoint_is_said_and_leaves_no_result(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    graded.scripted(dict.fromkeys(range(9), "INCONCLUSIVE"))
    found = _train(tmp_path, "out")
    assert (found.final, found.exit_code, found.why) == (None, Exit.INCONCLUSIVE, "no acceptable checkpoint (8 steps)")
    assert not (tmp_path / "out" / "final").exists()
    assert _train(tmp_path, "out") == found
    with pytest.raises(stopping.NoAcceptable, match="out: no acceptable checkpoint") as caught:
        fit.run(_recipe(), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    assert caught.value.exit_code is Exit.INCONCLUSIVE
    graded.scripted({3: "FAIL"})
    found = _train(tmp_path, "failed", retention={"suite": "s.yaml", "every": 3})
    assert (found.final, found.steps, found.exit_code) == (None, 3, Exit.REGRESSION)


def test_judging_leaves_no_trace_in_the_training(tmp_path: Path) -> None:
    """Dropout draws from the generators that judging draws from too."""
    tiny.world(tmp_path, attention_dropout=0.3)
    graded.scripted(dict.fromkeys(range(9), "PASS"))
    seldom = {"suite": "s.yaml", "every": 100}
    judged, plain = _train(tmp_path, "judged"), _train(tmp_path, "plain", retention=seldom)
    assert _equal(_weights(judged.final), _weights(plain.final))


def test_undisturbed_gives_every_generator_back() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with undisturbed():
        first = draw()
        torch.set_num_threads(2)
    assert draw() == first
    assert torch.get_num_threads() == 1


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from forgetbench.training import fit, trainer
from forgetbench.training.recipe import Recipe
from tests.training import graded
folder, recipe, where = Path(sys.argv[1]), Recipe.model_validate_json(sys.argv[2]), sys.argv[3]
grader = graded.scripted({2: "PASS", 4: "PASS", 6: "FAIL"})
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "verdict":
    grade = grader.grade
    grader.grade = lambda alias, *rest: kill() if alias.endswith("-4") else grade(alias, *rest)
else:
    trainer.FineTune.finish = kill
fit.train(recipe, folder, str(folder / "base"), folder / "out")
"""


@pytest.mark.slow
def test_a_run_killed_while_a_checkpoint_is_judged_or_before_its_result_ends_as_the_undisturbed_one(
    tmp_path: Path,
) -> None:
    tiny.world(tmp_path, attention_dropout=0.1)
    states = {2: "PASS", 4: "PASS", 6: "FAIL"}
    graded.scripted(states)
    undisturbed_ = _train(tmp_path, "whole")
    text = _recipe().model_dump_json(exclude_unset=True)
    for where in ("verdict", "result"):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path), text, where],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert child.returncode == -signal.SIGKILL, child.stderr[-2000:]
        if where == "verdict":
            assert [x["step"] for x in _lines(tmp_path / "out", "retention")] == [2]
    grader = graded.scripted(states)
    found = _train(tmp_path, "out")
    assert grader.asked == [], "all verdicts were on disk"
    assert (found.step, found.why) == (4, undisturbed_.why)
    assert _equal(_weights(found.final), _weights(undisturbed_.final))
    for kind in ("train", "retention"):
        ours, theirs = ([{k: v for k, v in x.items() if "second" not in k} for x in _lines(tmp_path / n, kind)]
                        for n in ("out", "whole"))  # fmt: skip
        assert ours == theirs


def test_a_result_that_was_damaged_is_not_handed_over(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    graded.scripted({2: "PASS", 4: "FAIL"})
    _train(tmp_path, "out")
    (tmp_path / "out" / stopping.RESULT).unlink()
    (tmp_path / "out" / "checkpoint-2" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(Exception, match=r"checkpoint-2: is the result, and model.safetensors has 1 bytes"):
        _train(tmp_path, "out")


def test_patience_keeps_the_best_checkpoint_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.world(tmp_path)
    (tmp_path / "held.jsonl").write_text('{"prompt": "q1", "answer": "zzzzzzzz"}\n')
    held = {"retention": None, "held_out": [{"path": "held.jsonl"}], "eval_every": 2, "steps": 40, "lr": 3e-2}
    found = _train(tmp_path, "out", stop={"held_out": {"patience": 2}}, **held)
    losses = [(x["step"], x["per_token"]) for x in _lines(tmp_path / "out", "held_out")]
    best = min(losses, key=lambda pair: pair[1])[0]
    assert found.steps == best + 4 < 40, losses
    assert (found.step, found.exit_code) == (best, Exit.PASS)
    assert _equal(_weights(found.final), _weights(tmp_path / "out" / f"checkpoint-{best}"))


def test_an_explosion_is_one_line_and_the_step_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.world(tmp_path)
    monkeypatch.setattr(stopping, "FEWEST", 4)
    compute = fit.FineTune.compute_loss

    def explode(self: Any, *rest: Any, **named: Any) -> Any:
        return compute(self, *rest, **named) * (1e4 if self.state.global_step == 6 else 1)

    monkeypatch.setattr(fit.FineTune, "compute_loss", explode)
    with pytest.raises(
        stopping.Exploded, match=r"^step 7: the gradient norm is .* times the median .*checkpoint-5 "
    ) as e:
        _train(tmp_path, "out", retention=None, save_every=5)
    assert "\n" not in str(e.value)
    assert e.value.exit_code is Exit.USAGE
    assert len(_lines(tmp_path / "out", "train")) == 6
    assert _train(tmp_path, "quiet", retention=None, stop={"explosion": None}).steps == 8


@pytest.mark.slow
def test_the_gate_itself_judges_a_run_that_loses_what_the_base_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step has a learning rate of 0, so that it is the base; soon after every answer is a row of a's."""
    graded.world(tmp_path)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    recipe = _recipe(lr=5e-2, steps=12, retention={"suite": "suite.yaml", "policy": "policy.yaml", "every": 1})
    found = fit.train(recipe, tmp_path, str(tmp_path / "base"), tmp_path / "out", told.append, Where())
    lines = _lines(tmp_path / "out", "retention")
    assert (lines[0]["state"], lines[0]["deltas"]) == ("PASS", {"talk": 0.0})
    assert lines[-1]["state"] == "FAIL"
    assert lines[-1]["deltas"]["talk"] < -0.2
    assert found.step == max(x["step"] for x in lines if x["state"] == "PASS")
    assert found.exit_code is Exit.REGRESSION
    assert any("retention FAIL (talk -" in line for line in told)


@pytest.mark.slow
def test_an_adapter_is_judged_on_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graded.world(tmp_path)
    monkeypatch.chdir(tmp_path)
    retention = {"suite": "suite.yaml", "policy": "policy.yaml", "every": 3}
    found = _train(tmp_path, "out", lr=1e-7, steps=4, method="lora", lora={"r": 2}, retention=retention)
    states = [(x["step"], x["state"], x["deltas"]) for x in _lines(tmp_path / "out", "retention")]
    assert states == [(3, "PASS", {"talk": 0.0}), (4, "PASS", {"talk": 0.0})]
    assert (found.step, found.exit_code) == (4, Exit.PASS)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {f.name for f in (found.final or tmp_path).iterdir()}


def test_another_policy_or_suite_in_the_middle_of_a_run_is_refused(tmp_path: Path) -> None:
    """A verdict of the old one would choose the result of a run that the new one judges."""
    graded.world(tmp_path)
    (tmp_path / "out").mkdir()
    recipe, base = _recipe(), str(tmp_path / "base")
    assert fit.judge_of(recipe, tmp_path, base, tmp_path / "out", None, None) is not None
    (tmp_path / "out" / "checkpoint-2").mkdir()
    assert fit.judge_of(recipe, tmp_path, base, tmp_path / "out", None, None) is not None
    for file, before, after in (("policy.yaml", "margin: 20", "margin: 1"), ("talk.jsonl", "q3", "q300")):
        text = (tmp_path / file).read_text()
        (tmp_path / file).write_text(text.replace(before, after, 1))
        with pytest.raises(UsageError, match="holds a run that differs in retention"):
            fit.judge_of(recipe, tmp_path, base, tmp_path / "out", None, None)
        (tmp_path / file).write_text(text)
