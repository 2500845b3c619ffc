"""experiment.yaml: what it makes of arms, and every mistake at once with its line. Under a second."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from forgetbench.arms.config import load_experiment
from forgetbench.errors import ForgetbenchError, UsageError

pytestmark = pytest.mark.unit

GOOD = """\
base: base
target: {task_types: support, view: chat}
seeds: [3, 1]
checkpoints: 4
defaults:
  data: [{path: data.jsonl}]
  lr: 1e-3
  steps: 10
arms:
  full: {train: {}}
  slow: {train: {lr: 1e-4, steps: 7}}
  wise: {merge: {method: wise-ft, of: full, alphas: [0.75, 0.25]}}
  both: {merge: {method: ties, of: [full, slow], density: 0.3, lambda: 2}}
  noop: {noop: true}
"""


def _write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "a", "answer": "b"}) + "\n")
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    return file


def _mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ForgetbenchError) as found:
        load_experiment(_write(tmp_path, text))
    return [line.removeprefix(f"{tmp_path}/") for line in str(found.value).splitlines()]


def test_arms_resolve(tmp_path: Path) -> None:
    plan = load_experiment(_write(tmp_path, GOOD))
    assert plan.root == tmp_path
    assert set(plan.recipes) == {"full", "slow"}
    assert plan.recipe("full", 1).seed == 1
    assert plan.recipe("slow", 3).lr == pytest.approx(1e-4)
    assert plan.recipe("slow", 3).base == "base"
    assert plan.steps("full") == [2, 4, 6, 10]
    assert plan.steps("slow") == [2, 4, 6, 7]
    assert plan.noops == ("noop",)
    assert [r.alpha for r in plan.merges["wise"].recipes(0)] == [0.25, 0.75]
    (ties,) = plan.merges["both"].recipes(0)
    assert (ties.density, ties.lam, ties.weights) == (0.3, 2.0, (1.0, 1.0))
    target, general = plan.experiment.target_items, plan.experiment.general_items
    assert target.takes("chat", "support/route")
    assert not target.takes("ability", "support/route")
    assert not general.takes("ability", "support/route")
    assert general.takes("ability", "knowledge/capital")
    assert not general.takes("chat", "knowledge/capital")


def test_every_kept_checkpoint_is_one_that_the_recipe_keeps(tmp_path: Path) -> None:
    for steps in range(1, 30):
        plan = load_experiment(_write(tmp_path, GOOD.replace("steps: 10", f"steps: {steps}")))
        recipe = plan.recipe("full", 1)
        *inner, last = plan.steps("full")
        assert last == steps
        assert len(inner) <= 3
        assert all(step % recipe.save_every == 0 for step in inner)
        assert recipe.keep >= steps // recipe.save_every
        stretches = [b - a for a, b in pairwise([0, *inner, last])]
        assert max(stretches) <= max(1, steps / 2), "no stretch is more than half of the run"
        assert len(inner) >= min(2, steps - 1)


def test_all_mistakes_of_the_recipes_at_once_with_their_lines(tmp_path: Path) -> None:
    text = GOOD.replace("lr: 1e-3", "lr: -1\n  seed: 4").replace("{lr: 1e-4, steps: 7}", "{lr: 1e-4, stpes: 7}")
    found = _mistakes(tmp_path, text)
    assert "experiment.yaml:8: `defaults.seed` is not the arm's to say; `seeds:` of the experiment lists them" in found
    found = _mistakes(tmp_path, text.replace("\n  seed: 4", ""))
    assert found == [
        "experiment.yaml:7: `lr` is -1; input should be greater than 0",
        "experiment.yaml:11: `stpes` is not a known key; did you mean 'steps'?",
    ]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("steps: 10", "epochs: 2", "experiment.yaml:8: `defaults.epochs` is not the arm's to say; write `steps`"),
        (
            "full: {train: {}}",
            "v1.5: {train: {seed: 2}}\n  full: {train: {}}",
            "experiment.yaml:10: `arms.v1.5.train.seed` is not the arm's to say",
        ),
        (
            "slow: {train: {lr: 1e-4, steps: 7}}",
            "slow:\n    train:\n      steps: 7\n      stop: {explosion: true,\n        held_out: {patience: 2}}",
            "experiment.yaml:15: `arms.slow.train.stop.held_out` is not the arm's to say; every kept checkpoint is",
        ),
        ("  steps: 10\n", "", "arm 'full' has no `steps`; write them there or in `defaults`"),
        ("data.jsonl", "no.jsonl", "arm 'full': there is no file no.jsonl; check the path"),
        ("of: full,", "of: noop,", "arm 'wise' merges 'noop', which is no trained arm; use some of full, slow"),
        ("wise-ft", "slurp", "arm 'wise': method 'slurp' is no way to merge full weights"),
        ("density: 0.3", "density: 3", "arm 'both': density 3 is not in (0, 1]"),
        ("{noop: true}", "{}", "give one of `train`, `merge`, `noop: true`"),
        ("seeds: [3, 1]", "seeds: [1, 1]", "name at least one, each once"),
        ("base: base", "bas: base", "`bas` is not a known key; did you mean 'base'?"),
        ("checkpoints: 4", "checkpoints: 4\nat: 0", "input should be greater than 0"),
    ],
)
def test_mistakes(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert before in GOOD
    assert any(told in line for line in _mistakes(tmp_path, GOOD.replace(before, after)))


def test_merges_alone_are_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name at least one arm with `train`"):
        load_experiment(_write(tmp_path, "base: b\ntarget: {task_types: x}\narms: {noop: {noop: true}}\n"))
