"""No document sees its neighbour, and the known ways to lose that are caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forgetbench.training.collate import Document, collate, isolation, model_inputs
from tests.training import tiny

pytestmark = pytest.mark.unit
KINDS = ("Llama", "Qwen3", "Mistral", "Gemma3")


def _tokens(n: int, seed: int) -> list[int]:
    return [int(x) for x in np.random.default_rng(seed).integers(3, 61, n)]


A, B, C = _tokens(7, 1), _tokens(11, 2), _tokens(7, 3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_do_not_see_each_other(kind: str, attention: str) -> None:
    model = tiny.model(kind, 61, attn_implementation=attention)
    assert isolation(model, A, B, C) == 0.0


@pytest.mark.parametrize("leak", ["wrapped", "ones_mask", "cache"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_leaks_are_seen(kind: str, leak: str) -> None:
    """An all-ones mask and the cache leak although the positions begin again at 0."""
    assert isolation(tiny.model(kind, 61), A, B, C, leak) > 0.05  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [1, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_equals_alone(kind: str, first: int) -> None:
    model = tiny.model(kind, 61).eval()
    documents = [Document(np.asarray(ids), np.zeros(len(ids), np.float32)) for ids in (A[:first], B, C)]
    with torch.no_grad():
        packed = model(**model_inputs(collate(documents, [(0, 1, 2)], 0))).logits[0, first : first + len(B)]
        padded = model(**model_inputs(collate(documents, [(0,), (1,), (2,)], 0))).logits[1]
        alone = model(input_ids=torch.tensor([B])).logits[0]
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-5)


def test_isolation_leaves_the_model_in_its_mode_and_refuses_what_proves_nothing() -> None:
    model = tiny.model("Llama", 61).train()
    isolation(model, A, B, C)
    assert model.training
    for other in (A, C[:-1]):
        with pytest.raises(ValueError, match="same length"):
            isolation(model, A, B, other)


def test_a_batch_has_positions_weights_and_numbers_of_each_document() -> None:
    documents = [Document(np.array([5, 6]), np.ones(2, np.float32), 1), Document(np.array([7]), np.ones(1, np.float32), 0),
                 Document(np.array([8, 9]), np.array([0, 0.5], np.float32), 2)]  # fmt: skip
    batch = {name: tensor.tolist() for name, tensor in collate(documents, [(0, 1), (2,)], 3).items()}
    assert batch == {
        "input_ids": [[5, 6, 7], [8, 9, 3]],
        "position_ids": [[0, 1, 0], [0, 1, 0]],
        "weights": [[0, 1, 0], [0, 0.5, 0]],
        "documents": [[0, 0, 1], [2, 2, -1]],
        "channels": [[1, 1, 0], [2, 2, -1]],
    }
