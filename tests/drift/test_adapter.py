"""LoRA adapters: peft's own merge is the oracle, the factors are never multiplied out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from forgetbench.drift import drift
from forgetbench.drift.adapter import scaling_of
from forgetbench.drift.weights import Side, Weights
from forgetbench.errors import UsageError

from . import made

pytestmark = pytest.mark.unit

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.2.mlp.down_proj"


def adapter(folder: Path, *, rank: int = 3, seed: int = 4, values: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:  # fmt: skip
    folder.mkdir()
    rng = torch.Generator().manual_seed(seed)
    if values is None:
        values = {}
        for module, (rows, columns) in {Q: (made.HIDDEN, made.HIDDEN), DOWN: (made.HIDDEN, made.INNER)}.items():
            values[f"base_model.model.{module}.lora_A.weight"] = torch.randn(rank, columns, generator=rng)
            values[f"base_model.model.{module}.lora_B.weight"] = torch.randn(rows, rank, generator=rng)
    save_file(values, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def product(folder: Path, module: str, scaling: float) -> torch.Tensor:
    from safetensors.torch import load_file

    values = load_file(folder / "adapter_model.safetensors")
    a, b = (values[f"base_model.model.{module}.lora_{x}.weight"] for x in "AB")
    return scaling * (b.double() @ a.double())


def test_factors_give_the_figures_of_the_dense_product(tmp_path: Path) -> None:
    values = made.tensors()
    base = made.save(tmp_path / "base", values)
    folder = adapter(tmp_path / "lora")
    found = drift(base, Side("sft", base.folder, folder, base.tokenizer))
    changed = {t.name: t for t in found.tensors if t.delta_norm}
    assert set(changed) == {f"{Q}.weight", f"{DOWN}.weight"}
    for module in (Q, DOWN):
        t = changed[f"{module}.weight"]
        before = values[t.name].double()
        expected = made.direct(before, before + product(folder, module, 2.0))
        assert t.spectrum is not None
        assert t.spectrum.method == "factors"
        assert t.relative == pytest.approx(expected["relative"], rel=1e-5)
        assert t.spectrum.spectral.value == pytest.approx(expected["spectral"], rel=1e-5)
        assert t.spectrum.stable_rank.value == pytest.approx(expected["stable_rank"], rel=1e-5)
        assert t.spectrum.effective_rank.value == pytest.approx(expected["effective_rank"], rel=1e-4)
        assert t.spectrum.effective_rank.value <= 3 + 1e-9
        assert t.directions is not None
    assert any("LoRA adapter on 2 tensors" in n for n in found.notes)


def test_an_adapter_equals_its_merged_checkpoint(tmp_path: Path) -> None:
    values = made.tensors()
    base = made.save(tmp_path / "base", values)
    folder = adapter(tmp_path / "lora")
    merged = dict(values)
    for module in (Q, DOWN):
        merged[f"{module}.weight"] = (values[f"{module}.weight"].double() + product(folder, module, 2.0)).float()
    whole = made.save(tmp_path / "merged", merged)
    adapted = Side("sft", base.folder, folder, base.tokenizer)
    by_factors, dense = drift(base, adapted), drift(base, whole)
    for a, b in zip(by_factors.tensors, dense.tensors, strict=True):
        assert a.delta_norm == pytest.approx(b.delta_norm, rel=1e-4)
        assert a.directions == b.directions
    assert drift(adapted, whole).total.relative == pytest.approx(0, abs=1e-6)


def test_two_adapters_on_one_base(tmp_path: Path) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    first, second = adapter(tmp_path / "a"), adapter(tmp_path / "b", seed=5, rank=2)
    found = drift(Side("a", base.folder, first), Side("b", base.folder, second))
    t = next(t for t in found.tensors if t.name == f"{Q}.weight")
    dense = product(second, Q, 3.0) - product(first, Q, 2.0)
    assert t.spectrum is not None
    assert t.spectrum.method == "factors"
    assert t.delta_norm == pytest.approx(float(dense.norm()), rel=1e-5)
    assert t.base_norm == pytest.approx(float((made.tensors()[t.name].double() + product(first, Q, 2.0)).norm()), rel=1e-5)  # fmt: skip
    same = drift(Side("a", base.folder, first), Side("b", base.folder, first))
    assert same.total.relative == pytest.approx(0, abs=1e-7)


def test_an_adapter_on_a_tied_embedding_leaves_the_head(tmp_path: Path) -> None:
    """What goes in is changed, what comes out is read off the embedding as it was stored."""
    values = made.tensors()
    stored = values["model.embed_tokens.weight"]
    base = made.save(tmp_path / "tied", values)
    own = made.save(tmp_path / "own", {**values, "lm_head.weight": stored.clone()})
    factors = {
        "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, stored.shape[0]),
        "base_model.model.model.embed_tokens.lora_embedding_B": torch.ones(stored.shape[1], 2),
    }
    for name, tied in (("lora", False), ("both", True)):
        folder = adapter(tmp_path / name, rank=2, values=factors, ensure_weight_tying=tied)
        found = {t.name: t for t in drift(own, Side("sft", base.folder, folder, base.tokenizer)).tensors}
        assert found["model.embed_tokens.weight"].delta_norm > 1
        assert (found["lm_head.weight"].delta_norm > 1) is tied


def test_scaling_is_pefts() -> None:
    assert scaling_of("x.q_proj", 4, {"lora_alpha": 8}) == 2.0
    assert scaling_of("x.q_proj", 4, {"lora_alpha": 8, "use_rslora": True}) == 4.0
    config = {"lora_alpha": 8, "alpha_pattern": {"layers.0.q_proj": 2}}
    assert scaling_of("model.layers.0.q_proj", 4, config) == 0.5
    assert scaling_of("model.layers.10.q_proj", 4, config) == 2.0


@pytest.mark.slow
@pytest.mark.parametrize("rslora", [False, True])
def test_against_pefts_merge(tmp_path: Path, rslora: bool) -> None:
    """A real model, patterns, an adapted embedding, all as peft saves them."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(
            model,
            LoraConfig(
                r=4,
                lora_alpha=8,
                target_modules=["q_proj", "down_proj", "embed_tokens"],
                use_rslora=rslora,
                rank_pattern={"down_proj": 2},
                alpha_pattern={"layers.0.mlp.down_proj": 3},
                modules_to_save=["lm_head"],
                init_lora_weights=False,
            ),
        )
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "modules_to_save" in name:
                    parameter += 0.01
        tuned.save_pretrained(tmp_path / "lora")
        tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    adapted = Side("sft", tmp_path / "base", tmp_path / "lora")
    ours, merged = Weights(adapted), Weights(Side("merged", tmp_path / "merged"))
    assert ours.names == merged.names
    for name in ours.names:
        np.testing.assert_allclose(ours.read(name), merged.read(name), atol=1e-6)
    base = Side("base", tmp_path / "base")
    a, b = drift(base, adapted), drift(base, Side("merged", tmp_path / "merged"))
    for x, y in zip(a.tensors, b.tensors, strict=True):
        assert x.delta_norm == pytest.approx(y.delta_norm, rel=1e-3, abs=1e-5)
    assert {t.name for t in a.tensors if t.delta_norm} == {
        "lm_head.weight",
        "model.embed_tokens.weight",
        *(f"model.layers.{i}.{m}.weight" for i in range(2) for m in ("self_attn.q_proj", "mlp.down_proj")),
    }
    # peft saves an adapted embedding and what it trained whole as full matrices: those are compared as such.
    assert {t.spectrum.method for t in a.tensors if t.spectrum and t.place.layer is not None} == {"factors"}


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"peft_type": "IA3"}, "is of type IA3, not LORA"),
        ({"use_dora": True}, "sets use_dora"),
        ({"trainable_token_indices": [1]}, "sets trainable_token_indices"),
    ],
)
def test_what_is_no_low_rank_sum_is_refused(tmp_path: Path, config: dict[str, Any], match: str) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    folder = adapter(tmp_path / "lora", **config)
    with pytest.raises(UsageError, match=match) as error:
        drift(base, Side("sft", base.folder, folder))
    assert "merge it into its base" in str(error.value)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    key = "base_model.model.model.layers.9.self_attn.q_proj.lora_{}.weight"
    other = adapter(tmp_path / "other", values={key.format("A"): torch.ones(2, 24), key.format("B"): torch.ones(24, 2)})
    with pytest.raises(UsageError, match=r"changes model.layers.9.self_attn.q_proj.weight, which the model does not"):
        drift(base, Side("sft", base.folder, other))
    key = f"base_model.model.{Q}.lora_{{}}.weight"
    sized = adapter(tmp_path / "sized", values={key.format("A"): torch.ones(2, 24), key.format("B"): torch.ones(30, 2)})
    with pytest.raises(UsageError, match="as 30 x 24"):
        drift(base, Side("sft", base.folder, sized))
    alone = adapter(tmp_path / "alone", values={key.format("A"): torch.ones(2, 24)})
    with pytest.raises(UsageError, match="has no partner"):
        drift(base, Side("sft", base.folder, alone))
    apart = adapter(tmp_path / "apart", values={key.format("A"): torch.ones(2, 24), key.format("B"): torch.ones(24, 3)})
    with pytest.raises(UsageError, match="does not fit B"):
        drift(base, Side("sft", base.folder, apart))
