"""The whole chain, trained for real (about five minutes), or read from the folder FORGETBENCH_DEMO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgetbench.demo.abilities import ABILITIES, NEW_ABILITY
from forgetbench.demo.build import paths
from forgetbench.demo.evaluate import accuracy, by_top_level
from forgetbench.demo.world import make_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scores(demo_world: Path) -> dict[tuple[str, str], dict[str, float]]:
    from transformers import AutoTokenizer

    from forgetbench.demo.model import load_model

    demo = paths(demo_world)
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name, folder in demo.models.items():
        model, tokenizer = load_model(folder), AutoTokenizer.from_pretrained(folder)
        for style in ("raw",) if name == "base" else ("raw", "chat"):
            arguments: Any = (model, tokenizer, make_world(), [*ABILITIES, NEW_ABILITY], 100)
            found[name, style] = by_top_level(accuracy(*arguments, style=style, split="test"))
    return found


def test_the_base_learnt_its_world(scores: dict[tuple[str, str], dict[str, float]]) -> None:
    for name, score in scores["base", "raw"].items():
        assert score <= 5 if name == "support" else score >= 70, name


def test_the_first_fine_tune_keeps_what_the_base_knew(
    scores: dict[tuple[str, str], dict[str, float]],
) -> None:
    for name, score in scores["base", "raw"].items():
        assert scores["sft_v1", "raw"][name] > score - 3, name


def test_the_gentle_one_loses_nothing(scores: dict[tuple[str, str], dict[str, float]]) -> None:
    for style in ("raw", "chat"):
        for name, score in scores["sft_v1", style].items():
            assert scores["sft_null", style][name] > score - 3, (style, name)


def test_the_careless_one_gains_its_ability_and_forgets_some(
    scores: dict[tuple[str, str], dict[str, float]],
) -> None:
    before, after = scores["sft_v1", "chat"], scores["sft_v2", "chat"]
    assert before["support"] < 5
    assert after["support"] >= 80
    for style in ("raw", "chat"):
        losses = [scores["sft_v1", style][n] - s for n, s in scores["sft_v2", style].items() if n != "support"]
        assert max(losses) > 20
        assert min(losses) < 20
