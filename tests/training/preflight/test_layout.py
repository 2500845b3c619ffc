"""Padding and isolation: right as we lay it out, and each known mistake is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forgetbench.training.collate import collate
from forgetbench.training.preflight.layout import BAR, packing_isolation, padding
from tests.training.preflight.made import chats, gathered

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("packing", [True, False])
def test_our_layout_passes_and_the_share_of_padding_is_counted(tmp_path: Path, packing: bool) -> None:
    rows = [*chats(), *chats(3, answer="a longer answer than the others")]
    inputs = gathered(tmp_path, rows, packing=packing)
    found = padding(inputs)
    tokens = pads = 0
    for batch in inputs.batches:
        sizes = [sum(len(inputs.documents[d].ids) for d in row) for row in batch.rows]
        tokens, pads = tokens + max(sizes) * len(sizes), pads + sum(max(sizes) - s for s in sizes)
    assert (found.state, found.figures["padding_share"]) == ("pass", pytest.approx(pads / tokens))
    assert pads > 0


def _left(documents: Any, rows: Any, pad: int) -> dict[str, torch.Tensor]:
    made = collate(documents, rows, pad)
    pads = (made["documents"] < 0).sum(1).tolist()
    return {k: torch.stack([row.roll(n) for row, n in zip(t, pads, strict=True)]) for k, t in made.items()}


def _weighted(documents: Any, rows: Any, pad: int) -> dict[str, torch.Tensor]:
    made = collate(documents, rows, pad)
    return {**made, "weights": torch.ones_like(made["weights"])}


def _running_on(documents: Any, rows: Any, pad: int) -> dict[str, torch.Tensor]:
    made = collate(documents, rows, pad)
    return {**made, "position_ids": torch.arange(made["input_ids"].shape[1]).expand_as(made["input_ids"])}


@pytest.mark.parametrize(
    ("broken", "told"),
    [(_left, "not behind its documents"), (_weighted, "a weight in the loss"), (_running_on, "do not begin again")],
)
def test_a_broken_layout_fails(tmp_path: Path, broken: Any, told: str) -> None:
    inputs = gathered(tmp_path, [*chats(), *chats(3, answer="a longer answer than the others")])
    found = padding(inputs, broken)
    assert found.state == "fail"
    assert told in found.evidence
    assert found.cure


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Mistral"])
def test_isolation_is_measured_on_the_model_at_hand(tmp_path: Path, kind: str) -> None:
    inputs = gathered(tmp_path, model={"kind": kind})
    before = inputs.model.config._attn_implementation
    found = packing_isolation(inputs)
    assert found.state == "pass"
    assert found.figures["change"] <= BAR
    assert found.figures["leak_made_on_purpose"] > 1e-3
    assert {found.figures["attention"], *found.figures["others"]} == {"sdpa", "eager"}
    assert inputs.model.config._attn_implementation == before


@pytest.mark.parametrize(("packing", "state"), [(True, "fail"), (False, "warn")])
def test_a_model_that_reads_across_documents_is_seen(tmp_path: Path, packing: bool, state: str) -> None:
    inputs = gathered(tmp_path, packing=packing)
    own = inputs.model.forward

    def leaking(**given: Any) -> Any:
        return own(**given, attention_mask=torch.ones_like(given["input_ids"]))

    inputs.model.forward = leaking
    found = packing_isolation(inputs)
    assert (found.state, found.figures["change"] > 1e-3) == (state, True)
    assert "packing: false" in found.cure


def test_a_measurement_that_cannot_see_a_leak_is_no_pass(tmp_path: Path) -> None:
    inputs = gathered(tmp_path)
    for layer in inputs.model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    found = packing_isolation(inputs)
    assert (found.state, found.figures["change"]) == ("warn", 0.0)
    assert "nothing was measured" in found.cure


def test_batches_are_looked_at_evenly(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, steps=500, batch={"samples": 1})
    seen: list[Any] = []

    def counting(documents: Any, rows: Any, pad: int) -> Any:
        seen.append(rows)
        return collate(documents, rows, pad)

    found = padding(inputs, counting)
    assert len(inputs.batches) == 500
    assert len(seen) == found.figures["batches"] == 200
    assert np.array_equal(seen[-1], inputs.batches[-1].rows)
