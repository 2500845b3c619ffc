"""LoRA adapters merged through peft, against sums and singular values of the changes dW themselves."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.drift.weights import Weights, side_of
from forgetbench.errors import UsageError
from forgetbench.merging.adapters import merge_adapters
from forgetbench.merging.merge import merge
from forgetbench.merging.recipe import recipes
from forgetbench.merging.types import Merged
from tests.merging import models

pytest.importorskip("peft")


def make(tmp_path: Path, name: str, seed: int, **lora: Any) -> Checkpoint:
    """A random adapter of the base in `tmp_path`, trained nowhere, both factors far from zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    )  # fmt: skip
    base = tmp_path / "base"
    if not base.is_dir():
        model.save_pretrained(base)
        (base / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    torch.manual_seed(seed)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False, **lora}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(model, LoraConfig(**options)).save_pretrained(tmp_path / name)
    return models.point(base, alias=name, adapter=str(tmp_path / name))


def change(point: Checkpoint) -> dict[str, np.ndarray]:
    """dW by tensor, as peft adds it on loading (tests/drift/test_adapter.py holds this reading to peft's own)."""
    weights = Weights(side_of(point))
    found = {n: weights.change(n) for n in weights.names}
    return {n: c.left.astype(np.float64) @ c.right for n, c in found.items() if c is not None}


def run(points: list[Checkpoint], method: str, out: Path, **options: Any) -> tuple[Merged, dict[str, np.ndarray]]:
    (recipe,) = recipes(method, len(points), adapters=True, **options)
    done = merge_adapters(points, recipe, out)
    return done, change(models.point(points[0].folder, alias="merged", adapter=str(out)))


def factors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("rslora", [False, True])
def test_cat_is_the_weighted_mean_of_the_changes(tmp_path: Path, rslora: bool) -> None:
    a = make(tmp_path, "a", 1, use_rslora=rslora)
    b = make(tmp_path, "b", 2, r=2, use_rslora=rslora, target_modules=["q_proj", "v_proj"])
    _, found = run([a, b], "cat", tmp_path / "out", weights=(1, 3))
    first, second = change(a), change(b)
    assert found.keys() == first.keys() | second.keys()
    for name, dw in found.items():
        exact = 0.25 * first.get(name, 0) + 0.75 * second.get(name, 0)
        np.testing.assert_allclose(dw, exact, atol=1e-6)
        assert np.abs(exact).max() > 1e-3


def test_svd_is_the_best_of_its_rank(tmp_path: Path) -> None:
    points = [make(tmp_path, "a", 1), make(tmp_path, "b", 2)]
    first, second = (change(p) for p in points)
    for rank in (3, 8):
        _, found = run(points, "svd", tmp_path / f"r{rank}", rank=rank)
        for name, dw in found.items():
            u, s, vt = np.linalg.svd((first[name] + second[name]) / 2)
            np.testing.assert_allclose(dw, (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-5)
    assert json.loads((tmp_path / "r3" / "adapter_config.json").read_text())["r"] == 3


def test_linear_merges_factor_by_factor(tmp_path: Path) -> None:
    points = [make(tmp_path, "a", 1), make(tmp_path, "b", 2)]
    done, found = run(points, "linear", tmp_path / "out", weights=(1, 3))
    x, y, z = (factors(tmp_path / n) for n in ("a", "b", "out"))
    scaling = 6 / 4
    for name, tensor in z.items():
        exact = np.sqrt(0.25 * scaling) * x[name] + np.sqrt(0.75 * scaling) * y[name]
        torch.testing.assert_close(tensor, exact, atol=1e-6, rtol=0)
    sums = {n: 0.25 * v + 0.75 * change(points[1])[n] for n, v in change(points[0]).items()}
    assert max(np.abs(found[n] - sums[n]).max() for n in sums) > 1e-3
    assert "cat is exact" in done.notes[0]


def test_ties_and_dare_factor_by_factor(tmp_path: Path) -> None:
    points = [make(tmp_path, "a", 1), make(tmp_path, "b", 2)]
    x, y = factors(tmp_path / "a"), factors(tmp_path / "b")
    weight = np.sqrt(0.5 * 6 / 4)
    run(points, "ties", tmp_path / "ties", density=0.5)
    run(points, "dare", tmp_path / "dare", density=0.5, seed=4)
    for name, tensor in factors(tmp_path / "ties").items():
        kept = []
        for t in (x[name], y[name]):
            least = t.abs().flatten().sort(descending=True).values[int(0.5 * t.numel()) - 1]
            kept.append(weight * torch.where(t.abs() >= least, t, 0))
        up = kept[0] + kept[1] >= 0
        agreeing = [torch.where(torch.where(up, k > 0, k < 0), k, torch.zeros(())) for k in kept]
        count = sum((a != 0).float() for a in agreeing).clamp(min=1)
        torch.testing.assert_close(tensor, (agreeing[0] + agreeing[1]) / count, atol=1e-6, rtol=0)
    for name, tensor in factors(tmp_path / "dare").items():
        options = torch.stack([weight * (i * x[name] + j * y[name]) for i in (0, 2) for j in (0, 2)])
        assert float((options - tensor).abs().min(dim=0).values.max()) < 1e-6


def test_dare_follows_its_seed_and_leaves_the_callers_alone(tmp_path: Path) -> None:
    points = [make(tmp_path, "a", 1), make(tmp_path, "b", 2)]
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    for name, seed in (("x", 1), ("y", 1), ("z", 2)):
        run(points, "dare-ties", tmp_path / name, seed=seed)
    assert torch.equal(torch.rand(3), expected)
    x, y, z = (factors(tmp_path / n) for n in "xyz")
    assert all(torch.equal(x[n], y[n]) for n in x)
    assert any(not torch.equal(x[n], z[n]) for n in x)


def test_an_adapter_with_itself(tmp_path: Path) -> None:
    point = make(tmp_path, "a", 1)
    own = change(point)
    for method in ("cat", "svd"):
        _, found = run([point, point], method, tmp_path / method)
        assert all(np.allclose(found[n], own[n], atol=1e-5) for n in own)


def test_the_folder(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a", 1), make(tmp_path, "b", 2)
    done, _ = run([a, b], "cat", tmp_path / "out")
    assert {f.name for f in done.folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "merge.json"}
    told = json.loads((done.folder / "merge.json").read_text())
    assert (told["kind"], told["method"]) == ("adapters", "cat")
    assert [m["parts"]["adapter"] for m in told["models"]] == [a.parts["adapter"], b.parts["adapter"]]
    assert "peft" in told["versions"]
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 8, False)
    with pytest.raises(UsageError, match="is there already"):
        run([a, b], "cat", tmp_path / "out")


def test_peft_loads_what_is_merged(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    a, b = make(tmp_path, "a", 1, use_rslora=True), make(tmp_path, "b", 2, use_rslora=True)
    run([a, b], "cat", tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(a.folder)
    before = {n: p.detach().clone() for n, p in base.named_parameters()}
    tuned = PeftModel.from_pretrained(base, str(tmp_path / "out")).merge_and_unload()
    first, second = change(a), change(b)
    for name, parameter in tuned.named_parameters():
        exact = (first[name] + second[name]) / 2 if name in first else 0
        np.testing.assert_allclose((parameter - before[name]).detach().numpy(), exact, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "first", "second", "match"),
    [
        ("linear", {}, {"r": 8}, "linear needs adapters of one rank"),
        ("ties", {}, {"rank_pattern": {"q_proj": 2}}, "has a rank_pattern, ties needs one rank; use cat or svd"),
        ("cat", {}, {"modules_to_save": ["lm_head"]}, "holds whole tensors beside A and B"),
        ("cat", {}, {"bias": "lora_only"}, "trained biases too|holds whole tensors"),
        ("cat", {"use_dora": True}, {}, "sets use_dora"),
    ],
)
def test_adapters_that_cannot_be_merged(
    tmp_path: Path, method: str, first: dict[str, Any], second: dict[str, Any], match: str
) -> None:
    points = [make(tmp_path, "a", 1, **first), make(tmp_path, "b", 2, **second)]
    with pytest.raises(UsageError, match=match) as error:
        run(points, method, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_adapters_of_different_bases(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a", 1), make(tmp_path, "b", 2)
    shutil.copytree(a.folder, tmp_path / "other")
    moved = {n: t + 1 for n, t in models.tensors(a.folder).items()}
    from safetensors.torch import save_file

    save_file(moved, tmp_path / "other" / "model.safetensors")
    c = models.point(tmp_path / "other", alias="c", adapter=b.spec.adapter)
    with pytest.raises(UsageError, match="model 'c': stands on another base than 'a'"):
        run([a, c], "cat", tmp_path / "out")
    with pytest.raises(UsageError, match="model 'base': has no adapter"):
        run([a, models.point(a.folder)], "cat", tmp_path / "out")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_full_weights_take_adapters_in(tmp_path: Path, alpha: float) -> None:
    from forgetbench.merging.merge import merge

    tuned = make(tmp_path, "a", 1)
    base = models.point(tuned.folder)
    (recipe,) = recipes("wise-ft", 2, alphas=(alpha,))
    merge([base, tuned], recipe, tmp_path / "out")
    dw, before = change(tuned), models.tensors(base.folder)
    for name, tensor in models.tensors(tmp_path / "out").items():
        np.testing.assert_allclose((tensor - before[name]).numpy(), alpha * dw.get(name, np.zeros(())), atol=1e-6)


def test_adapters_of_different_layers_are_refused_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """peft keeps the modules of the first adapter's layers alone, and says nothing."""
    a = make(tmp_path, "a", 1, layers_to_transform=[0])
    b = make(tmp_path, "b", 2, layers_to_transform=[1])
    told = r"model 'b': has layers_to_transform \[1\], 'a' \[0\]; leave out --adapters"
    with pytest.raises(UsageError, match=told):
        run([a, b], "cat", tmp_path / "out")
    c = make(tmp_path, "c", 3, exclude_modules=["down_proj"])
    with pytest.raises(UsageError, match=r"model 'c': has exclude_modules \['down_proj'\], 'd' None"):
        run([make(tmp_path, "d", 4), c], "cat", tmp_path / "out")
    same = [make(tmp_path, name, seed, layers_to_transform=[1]) for name, seed in (("e", 5), ("f", 6))]
    _, found = run(same, "cat", tmp_path / "same")
    assert found.keys() == change(same[0]).keys()
    # Whatever else peft may leave out: what was written is compared with what was read.
    monkeypatch.setattr("forgetbench.merging.adapters._WHERE", ())
    with pytest.raises(
        UsageError, match=r"model 'b': 4 of its tensors are not in peft's merged adapter, first .*\.1\."
    ):
        run([a, b], "cat", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["lm_head", "embed_tokens"])
def test_an_adapter_on_a_tied_embedding_is_no_change_of_the_head(tmp_path: Path, part: str) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    (recipe,) = recipes("linear", 2)
    for tied in (True, False):
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tied)
        )  # fmt: skip
        folder = tmp_path / f"tied-{tied}"
        model.save_pretrained(folder / "base")
        (folder / "base" / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = LoraConfig(r=2, target_modules=[part], init_lora_weights=False)
            adapted = get_peft_model(model, options)
            adapted.save_pretrained(folder / "a")
        base, a = models.point(folder / "base"), models.point(folder / "base", alias="a", adapter=str(folder / "a"))
        if tied:
            with pytest.raises(
                UsageError, match="model 'a': has an adapter on the embedding, which is the output head"
            ):
                merge([base, a], recipe, folder / "out")
            assert not (folder / "out").exists()
        else:
            merge([base, a], recipe, folder / "out")
            found = models.tensors(folder / "out")
            stored = models.tensors(folder / "base")
            for name in ("lm_head", "model.embed_tokens"):
                assert torch.equal(found[f"{name}.weight"], stored[f"{name}.weight"]) is not name.endswith(part)


@pytest.mark.parametrize("apart", [True, False])
def test_embedding_and_tied_head_both_saved_whole(tmp_path: Path, apart: bool) -> None:
    """Alike they are the one tensor that the model has; trained apart they are two, and one file cannot hold both."""
    from tests.drift import made
    from tests.drift.test_adapter import adapter

    values = made.tensors()
    base = models.save(tmp_path / "base", values, config={"tie_word_embeddings": True})
    saved = values["model.embed_tokens.weight"] + 1.0
    both = {"embed_tokens": saved, "lm_head": saved + float(apart)}
    keys = {"embed_tokens": "model.embed_tokens", "lm_head": "lm_head"}
    named = {f"base_model.model.{keys[n]}.weight": t for n, t in both.items()}
    folder = adapter(tmp_path / "lora", values=named, modules_to_save=list(both))
    a = models.point(tmp_path / "base", alias="a", adapter=str(folder))
    (recipe,) = recipes("linear", 2)
    if apart:
        with pytest.raises(UsageError, match="model 'a': has an adapter on the embedding, which is the output head"):
            merge([base, a], recipe, tmp_path / "out")
        return
    merge([base, a], recipe, tmp_path / "out")
    found = models.tensors(tmp_path / "out")
    assert "lm_head.weight" not in found
    torch.testing.assert_close(found["model.embed_tokens.weight"], saved - 0.5)


def test_an_adapter_that_alters_its_base_is_not_merged(tmp_path: Path) -> None:
    """PiSSA's B A is most of the base's matrix: added to it, it would count twice."""
    from tests.drift import made
    from tests.drift.test_adapter import adapter

    base = models.save(tmp_path / "base", made.tensors())
    folder = adapter(tmp_path / "lora", init_lora_weights="pissa")
    a = models.point(tmp_path / "base", alias="a", adapter=str(folder))
    (recipe,) = recipes("linear", 2)
    with pytest.raises(UsageError, match="init_lora_weights 'pissa': peft alters the base"):
        merge([base, a], recipe, tmp_path / "out")


def test_an_adapter_on_packed_weights_is_not_merged(tmp_path: Path) -> None:
    """Taken over as the same bytes the change would be lost."""
    from tests.drift import made
    from tests.drift.test_adapter import Q, adapter

    packed = {f"{Q}.weight": torch.zeros(made.HIDDEN**2 // 2, 1, dtype=torch.uint8)}
    base = models.save(tmp_path / "base", {**made.tensors(), **packed})
    a = models.point(tmp_path / "base", alias="a", adapter=str(adapter(tmp_path / "lora")))
    (recipe,) = recipes("linear", 2)
    with pytest.raises(UsageError, match="is quantised and has an adapter on it"):
        merge([base, a], recipe, tmp_path / "out")
