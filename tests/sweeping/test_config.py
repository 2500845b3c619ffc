"""sweep.yaml: what it may say, and each mistake with file, line, key, value and cure (1 s)."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgetbench.config import load_policy
from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.sweeping.bisect import Axis
from forgetbench.sweeping.config import Sweep, load_sweep
from forgetbench.sweeping.run import with_margin

pytestmark = pytest.mark.unit
RECIPE = "base: b\ndata: [{path: d.jsonl}]\nlr: 2e-5\nsteps: 20\n"
GOOD = "recipe: recipe.yaml\nsweep: {key: lr, low: 1e-6, high: 1e-3}\n"


def _load(folder: Path, text: str = GOOD, recipe: str = RECIPE) -> Sweep:
    (folder / "recipe.yaml").write_text(recipe)
    file = folder / "sweep.yaml"
    file.write_text(text)
    return load_sweep(file)


def test_defaults(tmp_path: Path) -> None:
    found = _load(tmp_path)
    assert found.axis == Axis(1e-6, 1e-3, "log", "low")
    assert (found.config.points, found.config.margin, found.root) == (8, None, tmp_path)
    assert found.at(3e-4).lr == 3e-4
    assert found.kept().lr == pytest.approx(2e-8)
    assert found.gained().steps == 80


def test_the_recipe_may_stand_in_the_file(tmp_path: Path) -> None:
    text = "recipe: {base: b, data: [{path: d.jsonl}], lr: 1e-4, epochs: 2}\nsweep: {key: lr, low: 1e-6, high: 1e-3}\n"
    assert _load(tmp_path, text).gained().epochs == 8


def test_shares_of_replay_are_safe_where_they_are_high_and_linear(tmp_path: Path) -> None:
    recipe = RECIPE + "replay: {share: 0.1, files: [{path: r.txt}]}\nkl: {weight: 0.5}\n"
    found = _load(tmp_path, "recipe: recipe.yaml\nsweep: {key: replay.share, low: 0.05, high: 0.4}\n", recipe)
    assert found.axis == Axis(0.05, 0.4, "linear", "high")
    changed = found.at(0.3)
    assert changed.replay is not None
    assert (changed.replay.share, changed.replay.files[0].path) == (0.3, "r.txt")
    assert found.recipe.replay is not None
    assert found.recipe.replay.share == 0.1, "the recipe itself stays"
    alone = found.gained()
    assert (alone.replay, alone.kl) == (None, None)
    assert found.kept().replay is not None


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    recipe = RECIPE + "method: lora\nlora: {r: 8}\n"
    found = _load(tmp_path, "recipe: recipe.yaml\nsweep: {key: lora.r, low: 2, high: 64}\n", recipe)
    assert found.axis.whole
    assert found.at(16.0).lora.r == 16
    assert found.gained().method == "lora"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GOOD + "marginn: 3\n", 3, "did you mean 'margin'?"),
        (GOOD + "margin: yes\n", 3, "`margin`"),
        (GOOD + "points: 1\n", 3, "`points` is 1"),
        ("recipe: recipe.yaml\nsweep: {key: lr, low: 1e-3, high: 1e-6}\n", 2, "`low` must be below `high`"),
        ("recipe: recipe.yaml\nsweep: {key: lr, low: 0, high: 1e-6}\n", 2, "a log scale starts above 0"),
        ("recipe: recipe.yaml\nsweep:\n  key: learning_rate\n  low: 1\n  high: 2\n", 3, "there is no 'learning_rate'"),
        ("recipe: recipe.yaml\nsweep:\n  key: replay.share\n  low: 0.1\n  high: 0.2\n", 3, "since it is not set"),
        (
            "recipe: recipe.yaml\nsweep:\n  key: packing\n  low: 0.1\n  high: 0.2\n",
            3,
            "is True in the recipe, no number",
        ),
        ("recipe: recipe.yaml\nsweep:\n  key: epochs\n  low: 1\n  high: 2\n", 3, "write it into the recipe"),
        ("recipe: recipe.yaml\nsweep:\n  key: steps\n  low: 1.5\n  high: 20\n", 4, "write a whole number"),
        ("recipe: recipe.yaml\nsweep:\n  key: warmup\n  low: 0.1\n  high: 2\n", 5, "warmup = 2"),
        ("recipe: {lr: 1}\nsweep: {key: lr, low: 1e-6, high: 1e-3}\n", 1, "`base` is missing"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(ForgetbenchError) as caught:
        _load(tmp_path, text)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{tmp_path / 'sweep.yaml'}:{line}: ")
    assert message in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(GOOD)
    with pytest.raises(UsageError, match="there is no such recipe"):
        load_sweep(tmp_path / "sweep.yaml")


def test_one_margin_for_whatever_the_policy_requires(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "name: p\nrules:\n  - {task_type: a, margin: 2}\n  - {task_type: b, margin: 3, required: false}\n"
        "suite_rules: {margin: 4, benchmarks: [{tasks: [mmlu], margin: 1, full: 14042}]}\n"
    )
    policy = load_policy(str(file), tmp_path)
    found = with_margin(policy, 7.5)
    assert [rule.margin for rule in found.rules] == [7.5, 3.0]
    assert found.suite_rules is not None
    assert (found.suite_rules.margin, found.suite_rules.benchmarks[0].margin) == (7.5, 7.5)
    assert with_margin(policy, None) == policy


def test_the_example_of_the_page_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text()
    found = _load(tmp_path, page.split("```yaml\n")[1].split("```")[0])
    assert (found.config.margin, found.config.target, found.config.points) == (5, ("support/route",), 8)
