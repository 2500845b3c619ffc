"""What a run tells: lines on disk, lines for people, TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import UsageError
from forgetbench.training import curves, fit
from forgetbench.training.recipe import Recipe
from tests.training import tiny

pytestmark = pytest.mark.unit
TRAIN: dict[str, Any] = {
    "kind": "train", "step": 7, "epoch": 0, "loss": 1.25, "kl": 0.5, "ewc": None, "grad_norm": 2.0,
    "learning_rate": 1e-3, "per_token": 1.2, "per_sample": 1.3, "special": 0.25, "channels": {"a/b": 1.5},
    "tokens": 100, "tokens_per_second": 12345.0, "seconds_left": 61.0,
}  # fmt: skip


def test_a_step_is_told_with_all_that_is_watched() -> None:
    assert curves.told(TRAIN) == (
        "step 7: loss 1.250 (a/b 1.500, special tokens 0.250), KL 0.500, gradient 2, 12,345 tokens/s, 61 s left"
    )
    held = {"kind": "held_out", "step": 8, "per_token": 0.5, "special": None, "channels": {"a/b": 0.5}}
    assert curves.told(held) == "step 8: held-out 0.500 (a/b 0.500)"
    judged = {"kind": "retention", "step": 8, "state": "FAIL", "deltas": {"copy": -0.125, "x": None}, "reason": "so"}
    assert curves.told(judged) == "step 8: retention FAIL (copy -12.5): so"


def test_lines_after_the_checkpoint_and_half_lines_go(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    assert curves.read(file) == []
    for step in (1, 2, 3):
        curves.append(file, {"kind": "train", "step": step, "loss": 0.1 + step})
    with file.open("a") as handle:
        handle.write('{"kind": "train", "st')
    assert [line["step"] for line in curves.read(file)] == [1, 2, 3]
    before = file.read_text().split("\n")
    curves.cut(file, 2)
    assert file.read_text().split("\n") == [*before[:2], ""]


def test_what_tensorboard_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = curves.scalars(TRAIN)
    assert found["train/channels/a/b"] == 1.5
    assert found["train/loss"] == 1.25
    assert not {k for k in found if "step" in k or "kind" in k or "ewc" in k}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="tensorboard: is not installed; pip install"):
        curves.board(tmp_path, 0)


def _drawn(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard itself reads: values by name and step."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return {name: {e.step: e.value for e in read.Scalars(name)} for name in read.Tags()["scalars"]}


def test_a_run_that_goes_on_takes_back_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for start, end, value in ((0, 5, 1.0), (2, 4, 2.0)):
        board = curves.board(tmp_path, start)
        for step in range(start + 1, end + 1):
            board.add_scalar("train/loss", value, step)
        board.close()
    assert _drawn(tmp_path) == {"train/loss": {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}}


def test_a_run_draws_each_line_at_its_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tiny.world(tmp_path)
    recipe = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-3, "max_length": 64, "steps": 2}
    watched = {"held_out": [{"path": "held.jsonl"}], "eval_every": 1, "tensorboard": True}
    fit.run(Recipe.model_validate(recipe | watched), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    wanted: dict[str, dict[int, float]] = {}
    for line in curves.read(tmp_path / "out" / "metrics.jsonl"):
        for name, value in curves.scalars(line).items():
            wanted.setdefault(name, {})[line["step"]] = pytest.approx(value, rel=1e-6)
    assert {"train/loss", "train/channels/x/odd", "held_out/per_token"} <= set(wanted)
    assert _drawn(tmp_path / "out") == wanted
