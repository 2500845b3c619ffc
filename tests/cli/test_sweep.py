"""`forgetbench sweep` from the file to the finding, on models of some thousand parameters (40 s)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forgetbench.cli.sweep import sweep
from forgetbench.errors import UsageError
from forgetbench.training import fit
from forgetbench.training.stopping import Exploded
from tests.sweeping import tiny_world

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_world.base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def swept(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep(tiny_world.write(folder, model), as_json=True)
    return folder


@pytest.fixture
def told(swept: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((swept / "sweep-sweep" / "sweep.json").read_text())
    return found


def test_the_search_ends_between_a_rate_that_keeps_and_one_that_loses(told: dict[str, Any]) -> None:
    assert (told["state"], told["exit_code"]) == ("PASS", 0)
    states = {t["value"]: t["state"] for t in told["trials"]}
    assert states[1e-6] == "PASS"
    assert states[3e-2] == "FAIL"
    assert states[told["within"]] == "PASS"
    assert states[told["beyond"]] != "PASS"
    assert told["value"] == told["within"] < told["beyond"]
    assert not any(told["within"] < value < told["beyond"] for value in states)
    assert len(told["trials"]) <= 6


def test_the_bounds_say_what_could_be_had(told: dict[str, Any]) -> None:
    assert told["bounds"]["kept"] is None, "of a swept rate the safe end is that bound"
    gained = told["bounds"]["gained"]
    assert gained["target_base"] == 0.0
    assert gained["target"] >= max(t["target"] for t in told["trials"] if t["state"] == "PASS")
    safe = next(t for t in told["trials"] if t["value"] == 1e-6)
    assert safe["losses"]["known"]["value"] == pytest.approx(0.0)
    assert safe["target"] == 0.0


def test_losses_are_the_gates_with_their_intervals(told: dict[str, Any]) -> None:
    for trial in told["trials"]:
        loss = trial["losses"]["known"]
        assert loss["low"] <= loss["value"] <= loss["high"]
        assert trial["worst"] == "known"
    lost = next(t for t in told["trials"] if t["value"] == 3e-2)
    assert lost["losses"]["known"]["value"] > 25


def test_the_same_command_finds_everything_done(
    swept: Path, told: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was trained again")

    monkeypatch.setattr(fit, "build", build)
    sweep(swept / "sweep.yaml")
    out = capsys.readouterr().out
    assert f"lr = {told['value']:g} is the farthest value found within the margin" in out
    assert "target alone" in out
    assert json.loads((swept / "sweep-sweep" / "sweep.json").read_text()) == told


def test_no_acceptable_value_ends_in_10(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_world.write(tmp_path, model, sweep={"key": "lr", "low": 2e-2, "high": 4e-2}, bounds={"gained": False})
    with pytest.raises(SystemExit) as caught:
        sweep(file)
    assert caught.value.code == 10
    out = capsys.readouterr().out
    assert "no acceptable value: lr = 0.02, the safe end, is beyond the margin already" in out
    assert len([p for p in (tmp_path / "sweep-sweep").iterdir() if p.is_dir()]) == 1


def test_a_run_that_explodes_is_not_within(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Callable[..., Path] = fit.run

    def exploding(recipe: Any, *args: Any, **named: Any) -> Path:
        if recipe.lr > 1e-2:
            raise Exploded("step 3: the gradient norm is nan")
        return run(recipe, *args, **named)

    monkeypatch.setattr(fit, "run", exploding)
    sweep(tiny_world.write(tmp_path, model, points=2, bounds={"gained": False}), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["within"], told["beyond"], told["open"]) == (1e-6, 3e-2, True)
    far = told["trials"][1]
    assert (far["state"], far["losses"]) == ("FAIL", {})
    assert "nan" in far["reason"]


@pytest.mark.parametrize("wrong", [{"target": ["new/number"]}, {"views": ["ability"]}])
def test_a_target_that_is_not_asked_is_known_before_training(
    model: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"target: the suite asks nothing of .* it asks known/letter \(chat\), new/"):
        sweep(tiny_world.write(tmp_path, model, **wrong))
    assert not (tmp_path / "sweep-sweep").exists()


def test_a_base_that_is_nowhere(model: Path, tmp_path: Path) -> None:
    file = tiny_world.write(tmp_path, model)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("base: base", "base: nobody"))
    with pytest.raises(UsageError, match="'nobody'"):
        sweep(file)
