"""Trained modules against counts made by hand, and rates against the bands that have a source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from forgetbench.training.preflight.method import LARGE, SMALL, band_of, learning_rate, trained_modules
from tests.training.preflight.made import gathered

pytestmark = pytest.mark.unit


def test_a_full_fine_tune_trains_everything(tmp_path: Path) -> None:
    inputs = gathered(tmp_path)
    assert trained_modules(inputs).figures == {"share": 1.0}
    assert f"{sum(p.numel() for p in inputs.model.parameters()):,}" in trained_modules(inputs).evidence


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
def test_lora_modules_and_share_are_counted(tmp_path: Path, targets: str | list[str]) -> None:
    inputs = gathered(tmp_path, method="lora", lora={"r": 3, "targets": targets})
    linear = {
        name: module
        for name, module in inputs.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    wanted = linear if targets == "all-linear" else {n: m for n, m in linear.items() if n.split(".")[-1] in targets}
    trained = sum(3 * (m.in_features + m.out_features) for m in wanted.values())
    found = trained_modules(inputs)
    assert (found.state, found.figures["modules"], found.figures["trainable"]) == ("pass", len(wanted), trained)
    assert found.figures["share"] == pytest.approx(trained / sum(p.numel() for p in inputs.model.parameters()))
    assert not hasattr(inputs.model, "peft_config"), "the model at hand stays as it is"


@pytest.mark.parametrize("targets", [["nothing"], ["q_proj", "w_proj"]])
def test_targets_that_are_not_there_fail_even_beside_some_that_are(tmp_path: Path, targets: list[str]) -> None:
    found = trained_modules(gathered(tmp_path, method="lora", lora={"r": 2, "targets": targets}))
    assert found.state == "fail"
    assert found.evidence == f"the model has no {targets[-1]}"
    assert "q_proj" in found.cure


def test_targets_that_peft_cannot_adapt_fail_in_one_line(tmp_path: Path) -> None:
    found = trained_modules(gathered(tmp_path, method="lora", lora={"r": 2, "targets": ["input_layernorm"]}))
    assert found.state == "fail"
    assert "\n" not in found.evidence


def test_a_rank_of_the_full_width_warns(tmp_path: Path) -> None:
    found = trained_modules(gathered(tmp_path, method="lora", lora={"r": 8}))
    assert found.state == "warn"
    assert "r reaches the width of k_proj, v_proj" in found.evidence


@pytest.mark.parametrize(
    ("method", "size", "high"),
    [
        ("full", LARGE, 2e-5),
        ("lora", LARGE, 2e-4),
        ("full", SMALL, 3e-4),
        ("lora", SMALL, None),
        ("full", LARGE - 1, None),
    ],
)
def test_bands_belong_to_method_and_size_and_name_their_source(method: str, size: int, high: float | None) -> None:
    band = band_of(method, size)
    assert (band.high if band else None) == high
    assert band is None or "arXiv" in band.source or "made-up world" in band.source


def test_rates_outside_of_a_band_warn_and_never_fail(tmp_path: Path) -> None:
    assert learning_rate(gathered(tmp_path, lr=1e-4)).state == "pass"
    found = learning_rate(gathered(tmp_path, lr=1e-3))
    assert (found.state, found.figures["high"]) == ("warn", 3e-4)
    assert "sweep" in found.cure
    assert "no measured rate" in learning_rate(gathered(tmp_path, lr=1.0, method="lora", lora={"r": 2})).evidence


def test_rates_of_large_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forgetbench.training.preflight.method._parameters", lambda _: 8_000_000_000)
    found = [learning_rate(gathered(tmp_path, lr=lr)) for lr in (1e-7, 1e-6, 2e-5, 1e-4)]
    assert [f.state for f in found] == ["warn", "pass", "pass", "warn"]
    assert "2509.20758" in found[3].evidence
