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


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "lora_ga", "loftq"])
def test_an_adapter_that_starts_from_the_base_is_refused(tmp_path: Path, start: str) -> None:
    """peft takes B0 A0 out of the base as it loads: scaling * B A is not the change."""
    base = made.save(tmp_path / "base", made.tensors())
    folder = adapter(tmp_path / "lora", init_lora_weights=start)
    for read in (lambda side: drift(base, side), Weights):
        with pytest.raises(UsageError, match=f"init_lora_weights '{start}': peft alters the base") as error:
            read(Side("sft", base.folder, folder))
        assert "merge it into its base" in str(error.value)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_an_adapter_that_only_draws_its_factors_is_read(tmp_path: Path, start: bool | str) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    folder = adapter(tmp_path / "lora", init_lora_weights=start)
    assert len(Weights(Side("sft", base.folder, folder)).adapter.changes) == 2  # type: ignore[union-attr]


def test_an_initialisation_that_is_not_known_is_refused(tmp_path: Path) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    folder = adapter(tmp_path / "lora", init_lora_weights="of_next_year")
    with pytest.raises(UsageError, match="of which it is not known whether it alters the base"):
        Weights(Side("sft", base.folder, folder))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["pissa", "olora", "gaussian", "orthogonal"])
def test_which_initialisations_alter_the_base_in_peft(tmp_path: Path, start: str) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = llama(tmp_path, tied=False)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=start)  # type: ignore[arg-type]
    after = get_peft_model(model, config).base_model.model.state_dict()
    name = "model.layers.0.self_attn.q_proj"
    altered = not torch.equal(after[f"{name}.base_layer.weight"], before[f"{name}.weight"])
    assert altered is (start in ("pissa", "olora"))


def llama(folder: Path, *, tied: bool) -> tuple[Any, Side]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tied)  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "base")
    told = json.loads((folder / "base" / "config.json").read_text())
    model = LlamaForCausalLM.from_pretrained(folder / "base")  # peft looks up there whether the vocabulary is resized
    return model, Side("base", folder / "base", config=told)


def adapted(model: Any, folder: Path, **options: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, **options))
        with torch.no_grad():
            for parameter in tuned.parameters():
                if parameter.requires_grad:
                    parameter += 0.01 * torch.randn_like(parameter)
        tuned.save_pretrained(folder)
    return tuned


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head", "embed_tokens"]},
    ],
    ids=["saved whole", "adapted"],
)
def test_an_adapter_on_a_resized_vocabulary(tmp_path: Path, options: dict[str, Any]) -> None:
    """Head and embedding of 64 rows lie in the adapter (with what they were before), the base's files have 60."""
    model, base = llama(tmp_path, tied=False)
    model.resize_token_embeddings(64, mean_resizing=False)
    merged = adapted(model, tmp_path / "lora", **options).merge_and_unload().state_dict()
    side = Side("sft", base.folder, tmp_path / "lora", config=base.config)
    weights = Weights(side)
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"):
        np.testing.assert_allclose(weights.read(name), merged[name].numpy(), atol=1e-6)
    found = drift(base, side)
    assert any("lm_head.weight has 60 rows in the base and 64 in the candidate" in n for n in found.notes)
    assert all(t.delta_norm > 0 for t in found.tensors if t.name.split(".")[-2] in ("lm_head", "embed_tokens"))


@pytest.mark.slow
def test_lora_on_the_head_of_a_tied_model_parts_it_from_the_embedding(tmp_path: Path) -> None:
    model, base = llama(tmp_path, tied=True)
    embedding = model.state_dict()["model.embed_tokens.weight"].clone().numpy()
    tuned = adapted(model, tmp_path / "lora", target_modules=["q_proj", "lm_head"])
    change = tuned.base_model.model.lm_head.get_delta_weight("default").detach().numpy()
    side = Side("sft", base.folder, tmp_path / "lora", config=base.config)
    weights = Weights(side)
    assert weights.apart
    np.testing.assert_allclose(weights.read("lm_head.weight"), embedding + change, atol=1e-6)
    np.testing.assert_array_equal(weights.read("model.embed_tokens.weight"), embedding)
    found = {t.name: t for t in drift(base, side).tensors}
    assert found["lm_head.weight"].delta_norm == pytest.approx(float(np.linalg.norm(change)), rel=1e-4)
    assert found["model.embed_tokens.weight"].delta_norm == 0.0


def test_lora_on_a_tied_head_without_a_copy_of_it(tmp_path: Path) -> None:
    values = made.tensors()
    key = "base_model.model.lm_head.lora_{}.weight"
    factors = {key.format("A"): torch.randn(2, made.HIDDEN), key.format("B"): torch.randn(made.VOCABULARY, 2)}
    folder = adapter(tmp_path / "lora", rank=2, values=factors)
    tied = made.save(tmp_path / "tied", values)
    found = {t.name: t for t in drift(tied, Side("sft", tied.folder, folder, config=tied.config)).tensors}
    dense = 3.0 * factors[key.format("B")] @ factors[key.format("A")]
    assert found["lm_head.weight"].delta_norm == pytest.approx(float(dense.norm()), rel=1e-5)
    assert found["lm_head.weight"].spectrum.method == "factors"  # type: ignore[union-attr]
    assert found["model.embed_tokens.weight"].delta_norm == 0.0
    headless = made.save(tmp_path / "headless", values, config={"tie_word_embeddings": False})
    with pytest.raises(UsageError, match=r"changes lm_head.weight, which the model does not have"):
        Weights(Side("sft", headless.folder, folder, config=headless.config))


@pytest.mark.slow
def test_conv1d_beside_a_linear_head(tmp_path: Path) -> None:
    """peft writes fan_in_fan_out of the head, the last module that it adapts; the others lie across."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=4, bos_token_id=0, eos_token_id=0))
    model.save_pretrained(tmp_path / "base")
    told = json.loads((tmp_path / "base" / "config.json").read_text())
    before = {n: t.clone() for n, t in model.state_dict().items()}
    tuned = adapted(model, tmp_path / "lora", target_modules=["c_attn", "c_proj", "lm_head"], fan_in_fan_out=True)
    weights = Weights(Side("sft", tmp_path / "base", tmp_path / "lora", config=told))
    for module in ("h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_proj"):
        layer = tuned.base_model.model.transformer.get_submodule(module)
        expected = before[f"transformer.{module}.weight"] + layer.get_delta_weight("default").detach()
        np.testing.assert_allclose(weights.read(f"transformer.{module}.weight"), expected.numpy(), atol=1e-6)


def test_adapted_experts_are_refused_with_the_advice_to_merge(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.experts"
    values = {**made.tensors(), f"{name}.0.down_proj.weight": torch.ones(4, 4)}
    base = made.save(tmp_path / "base", values)
    key = f"base_model.model.{name}.base_layer.lora_{{}}.weight"
    folder = adapter(tmp_path / "lora", values={key.format("A"): torch.ones(2, 4), key.format("B"): torch.ones(4, 2)})
    with pytest.raises(UsageError, match=f"changes {name}, which has no weight of that name") as error:
        Weights(Side("sft", base.folder, folder))
    assert "merge it into its base" in str(error.value)


def test_an_adapted_matrix_of_a_quantised_base_is_left_out(tmp_path: Path) -> None:
    values = {**made.tensors(), f"{Q}.weight": torch.zeros(made.HIDDEN**2 // 2, 1, dtype=torch.uint8)}
    base = made.save(tmp_path / "base", values, config={"quantization_config": {"quant_method": "bitsandbytes"}})
    found = drift(base, Side("sft", base.folder, adapter(tmp_path / "lora"), base.tokenizer, base.config))
    assert [(s.name, s.why.split(":")[0]) for s in found.skipped] == [(f"{Q}.weight", "is of type U8")]
    assert [t.name for t in found.tensors if t.delta_norm] == [f"{DOWN}.weight"]
    assert found.reading[0].startswith("Only ")


def test_an_adapter_that_holds_nan_is_left_out_by_name(tmp_path: Path) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    folder = adapter(tmp_path / "lora")
    from safetensors.torch import load_file

    values = load_file(folder / "adapter_model.safetensors")
    values[f"base_model.model.{Q}.lora_B.weight"][0, 0] = float("nan")
    save_file(values, folder / "adapter_model.safetensors")
    found = drift(base, Side("sft", base.folder, folder, base.tokenizer))
    assert [(s.name, s.why) for s in found.skipped] == [(f"{Q}.weight", "holds values that are not finite")]
    assert [t.name for t in found.tensors if t.delta_norm] == [f"{DOWN}.weight"]


def test_equal_adapters_moved_nothing(tmp_path: Path) -> None:
    """Also where the same change is written by other factors: what float32 leaves of it is no change."""
    base = made.save(tmp_path / "base", made.tensors())
    first, again = adapter(tmp_path / "a"), adapter(tmp_path / "b")
    from safetensors.torch import load_file

    values = load_file(first / "adapter_model.safetensors")
    other = {k: t * 3.0 if ".lora_A." in k else t / 3.0 for k, t in values.items()}
    scaled = adapter(tmp_path / "c", values=other)
    for second in (again, scaled):
        found = drift(Side("a", base.folder, first), Side("b", base.folder, second))
        assert found.total.relative == 0.0
        assert all(t.spectrum is None for t in found.tensors)
        assert found.reading == ("Every tensor that was compared is the same in both.",)
