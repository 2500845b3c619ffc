"""The reference is the base, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forgetbench.training import reference
from forgetbench.training.collate import Document, collate
from forgetbench.training.fit import with_adapter
from forgetbench.training.recipe import LoraConfig
from tests.training import tiny

pytestmark = pytest.mark.unit
DOCUMENTS = [Document(np.arange(3, 3 + n), np.ones(n, np.float32)) for n in (6, 1, 9)]
BATCH = collate(DOCUMENTS, [(0, 1), (2,)], 1)
COLUMNS = torch.arange(8)


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Gemma3"])
def test_a_lora_model_with_its_adapter_off_is_the_base_bit_by_bit(kind: str) -> None:
    base = tiny.model(kind)
    expected = base.eval()(input_ids=BATCH["input_ids"], position_ids=BATCH["position_ids"], use_cache=False).logits[
        :, :8
    ]
    model = with_adapter(tiny.model(kind), LoraConfig(r=4, dropout=0.5), seed=1).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    off = reference.reference_logits(model, None, BATCH, COLUMNS, keeps=True)
    assert torch.equal(off, expected)
    assert not off.requires_grad
    assert model.training
    on = reference.logits_at(model.eval(), BATCH, COLUMNS, keeps=True)
    assert (on - expected).abs().max() > 0.01


def test_the_frozen_copy_stays_when_the_model_moves() -> None:
    model = tiny.model(attention_dropout=0.5).train()
    expected = (
        tiny.model().eval()(input_ids=BATCH["input_ids"], position_ids=BATCH["position_ids"], use_cache=False).logits
    )
    copy = reference.frozen(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    found = reference.reference_logits(model, copy, BATCH, COLUMNS, keeps=True)
    assert torch.equal(found, expected[:, :8])
    assert not any(p.requires_grad for p in copy.parameters())


def test_chosen_columns_are_those_of_all_logits() -> None:
    model = tiny.model().eval()
    columns = torch.tensor([0, 3, 7])
    kept = reference.logits_at(model, BATCH, columns, keeps=True)
    torch.testing.assert_close(kept, reference.logits_at(model, BATCH, columns, keeps=False), rtol=0, atol=1e-6)
    assert reference.keeps_columns(model)


def test_nll_of_documents_is_that_of_each_alone() -> None:
    model = tiny.model().eval()
    found = list(reference.document_nll(model, [BATCH]))
    assert [len(f) for f in found] == [6, 1, 9]
    for values, document in zip(found, DOCUMENTS, strict=True):
        ids = torch.from_numpy(document.ids)[None]
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
        expected = [0.0] + [-float(logprobs[i, document.ids[i + 1]]) for i in range(len(document.ids) - 1)]
        assert values.tolist() == pytest.approx(expected, abs=1e-5)
