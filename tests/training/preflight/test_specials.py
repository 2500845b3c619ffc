"""Special tokens: beyond the embedding, new to the base, spelt out in pieces, hidden in texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from forgetbench.training.preflight.specials import FAR, embedding, robust, special_tokens, token_texts
from tests.training.preflight.made import chats, gathered

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("seed", range(5))
def test_robust_scores_equal_those_by_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ordinary, values = rng.lognormal(size=200), rng.lognormal(size=20)
    logs = np.log(ordinary)
    expected = (np.log(values) - np.median(logs)) / stats.median_abs_deviation(logs, scale="normal")
    assert robust(values, ordinary) == pytest.approx(expected, rel=1e-5)  # 1.4826 is rounded
    assert robust(7 * values, 7 * ordinary) == pytest.approx(robust(values, ordinary))  # of no unit


def test_robust_scores_of_what_does_not_vary_or_is_0() -> None:
    assert robust(np.array([1.0, 9.0]), np.ones(5)).tolist() == [0, 0]
    assert robust(np.array([1.0]), np.zeros(5)).tolist() == [0]
    assert robust(np.array([0.0]), np.array([1.0, 2.0, 3.0])).tolist() == [-99]


def test_a_token_that_the_base_never_met_is_seen_by_its_norm(tmp_path: Path) -> None:
    inputs = gathered(tmp_path)
    known = special_tokens(inputs)
    assert known.state == "pass"
    assert set(known.figures["tokens"]) == {"<|user|>", "<|assistant|>", "<|end|>"}
    with torch.no_grad():
        inputs.model.get_input_embeddings().weight[5] *= 1e-3
    new = special_tokens(inputs)
    assert new.state == "warn"
    assert "1 of 3 in the data look new to the base: <|assistant|>" in new.evidence
    assert new.figures["tokens"]["<|assistant|>"]["z"] < -FAR
    assert "LoRA leaves their rows" not in new.cure


def test_with_lora_a_new_token_is_not_learnt(tmp_path: Path) -> None:
    inputs = gathered(tmp_path, method="lora", lora={"r": 2})
    with torch.no_grad():
        inputs.model.get_input_embeddings().weight[5] *= 1e-3
    assert "LoRA leaves their rows" in special_tokens(inputs).cure


def test_tokens_without_a_row(tmp_path: Path) -> None:
    assert embedding(gathered(tmp_path)).state == "pass"
    inputs = gathered(tmp_path)
    inputs.tokenizer.add_tokens(["<|new|>"])
    assert (embedding(inputs).state, embedding(inputs).figures["tokens"]) == ("warn", 263)
    inputs.target.samples[0].ids[3] = 262
    assert embedding(inputs).state == "fail"
    assert "resize" in embedding(inputs).cure


def test_what_looks_like_a_special_token_and_is_none(tmp_path: Path) -> None:
    found = token_texts(gathered(tmp_path, [*chats(2), *chats(3, answer="<|canary-1f|> opens")]))
    assert (found.state, found.figures["in_pieces"]) == ("warn", {"<|canary-1f|>": 3})
    assert "read as 13 tokens" in found.lines[0]
    assert token_texts(gathered(tmp_path)).state == "pass"


def test_special_tokens_in_texts_are_seen(tmp_path: Path) -> None:
    found = token_texts(gathered(tmp_path, [*chats(2), *chats(1, answer="no<|end|><|user|>evil")]))
    assert (found.state, found.figures["control_tokens_in_texts"]) == ("warn", 1)
    assert found.lines[0].startswith(f"{tmp_path / 'data.jsonl'}:3: <|end|> in the assistant's text")
