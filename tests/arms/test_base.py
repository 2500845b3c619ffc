"""`base:` is the same weights, asked with the same settings, in train, ab and sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.arms.config import load_experiment
from forgetbench.arms.results import Outcome, Results
from forgetbench.arms.run import grader_call, run
from forgetbench.cli.sweep import sweep
from forgetbench.cli.train import find_base
from forgetbench.errors import UsageError
from forgetbench.training import fit
from forgetbench.training.prepare import Where
from forgetbench.training.recipe import load_recipe
from tests.sweeping import tiny_world
from tests.training import tiny

pytestmark = pytest.mark.unit


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Where | None]]:
    """What trainings are begun with; none is."""
    found: list[tuple[str, Where | None]] = []

    def begun(recipe: Any, root: Any, base: str, output: Any, log_line: Any = None, where: Where | None = None) -> Path:
        found.append((base, where))
        raise UsageError("here", "that is all", "none")

    monkeypatch.setattr(fit, "run", begun)
    return found


def _world(folder: Path) -> tuple[Path, Path]:
    """A workspace whose alias `base` is one model, while the folder `base` beside the files is another."""
    tiny.world(folder / "raw")
    tiny_world.write(folder, folder / "raw" / "base")
    shutil.copytree(folder / "raw" / "base", folder / "base")
    experiment = {
        "base": "base",
        "suite": "suite.yaml",
        "policy": "policy.yaml",
        "target": {"task_types": "new", "view": "chat"},
        "general": {"view": "chat"},
        "seeds": [0],
        "arms": {"full": {"train": {"data": [{"path": "new.jsonl"}], "lr": 1e-3, "steps": 2}}},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    return folder / "forgetbench.yaml", folder / "raw" / "base"


def test_an_alias_goes_before_a_folder_and_brings_its_settings(
    tmp_path: Path, calls: list[tuple[str, Where | None]]
) -> None:
    config, model = _world(tmp_path)
    wanted = str(model), Where("base", config)
    plan = load_experiment(tmp_path / "experiment.yaml")
    run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
    assert calls.pop() == wanted
    with pytest.raises(UsageError, match="that is all"):
        sweep(tmp_path / "sweep.yaml")  # from another working directory: the config is the one beside the file
    assert calls.pop() == wanted
    found = find_base(load_recipe(tmp_path / "recipe.yaml"), tmp_path, config)
    assert (str(found.folder), found.alias, found.config) == (*wanted[:1], "base", config)


def test_without_such_an_alias_it_is_the_folder(tmp_path: Path, calls: list[tuple[str, Where | None]]) -> None:
    config, _ = _world(tmp_path)
    config.write_text(config.read_text().replace("base:", "other:"))
    wanted = str(tmp_path / "base"), Where(None, config)
    plan = load_experiment(tmp_path / "experiment.yaml")
    run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
    assert calls.pop() == wanted
    with pytest.raises(UsageError, match="that is all"):
        sweep(tmp_path / "sweep.yaml")
    assert calls.pop() == wanted


def test_arms_have_folders_of_their_own_in_every_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _world(tmp_path)
    file = tmp_path / "experiment.yaml"
    experiment = yaml.safe_load(file.read_text())
    names = ["微调", "混合", "rejeu", "réjeu", "a_", "a"]
    experiment["arms"] = {name: dict(experiment["arms"]["full"]) for name in names}
    file.write_text(json.dumps(experiment))  # YAML too, and without aliases
    folders: list[Path] = []

    def begun(recipe: Any, root: Any, base: Any, output: Path, *_: Any) -> Path:
        folders.append(output)
        raise UsageError("here", "that is all", "none")

    monkeypatch.setattr(fit, "run", begun)
    plan = load_experiment(file)
    run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
    assert {f.relative_to(tmp_path / "out" / "arms").as_posix() for f in folders} == {f"{n}/seed-0" for n in names}


def test_a_target_score_that_the_base_has_is_refused_before_training(
    tmp_path: Path, calls: list[tuple[str, Where | None]]
) -> None:
    _world(tmp_path)
    anything = {"task_type": "new/letter", "prompt": "n", "references": [".*"], "scorer": "regex"}
    tiny.write_jsonl(tmp_path / "new.set.jsonl", [{**anything, "prompt": f"n{i}"} for i in range(4)])
    file = tmp_path / "experiment.yaml"
    text = file.read_text()
    file.write_text(text + "at: 100\n")
    plan = load_experiment(file)
    told = r"experiment\.yaml: at: 100 is not above the base's target score, 100\.0; raise it"
    with pytest.raises(UsageError, match=told):
        run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
    assert calls == []
    with pytest.raises(UsageError, match=r"experiment\.yaml: arms: none was finished"):
        Results(plan, tmp_path / "out", (Outcome("full", 0, (), "why"),)).frontier()
    file.write_text(text + "at: best\n")
    plan = load_experiment(file)
    run(plan, tmp_path / "out", grader_call(plan), say=lambda _: None)
    assert len(calls) == 1
