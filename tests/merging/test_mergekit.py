"""Whole merges against mergekit, where it is installed (0.1.5 in the extra `dev`; LGPL, so that it is for tests only).

Both read the same folders and write one; the files are compared tensor by tensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.merging import combine
from forgetbench.merging.merge import merge
from forgetbench.merging.recipe import recipes
from tests.merging import models

pytest.importorskip("mergekit.merge", exc_type=ImportError)
pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    """Real models: a base and three fine-tunes of it, the same ones wherever it runs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models")
    config = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)  # fmt: skip
    model = LlamaForCausalLM(config)
    found = []
    for i in range(4):
        torch.manual_seed(i)
        if i:
            with torch.no_grad():
                for p in model.parameters():
                    p += 0.01 * torch.randn_like(p)
        model.save_pretrained(folder / f"m{i}")
        (folder / f"m{i}" / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
        found.append(models.point(folder / f"m{i}"))
    return found


def theirs(
    out: Path,
    points: list[Checkpoint],
    method: str,
    base: Checkpoint | None,
    parameters: Any,
    each: Any,
    dtype: str = "float32",
) -> Any:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge

    told: dict[str, Any] = {
        "merge_method": method,
        "dtype": dtype,
        "parameters": parameters,
        "models": [{"model": str(p.folder), "parameters": e} for p, e in zip(points, each, strict=True)],
    }
    if base is not None:
        told["base_model"] = str(base.folder)
    run_merge(
        MergeConfiguration.model_validate(told),
        str(out),
        options=MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False),
    )
    return models.tensors(out)


def ours(out: Path, points: list[Checkpoint], method: str, **options: Any) -> Any:
    (recipe,) = recipes(method, len(points), **options)
    merge(points, recipe, out)
    return models.tensors(out)


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max()) for n in a)


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("weights", "lam"), [((1, 1), 1.0), ((0.3, 1.7), 0.6)])
def test_ties_of_two_is_exact(
    points: list[Checkpoint], tmp_path: Path, density: float, weights: tuple[float, float], lam: float
) -> None:
    base, *rest = points[:3]
    each = [{"weight": w, "density": density} for w in weights]
    them = theirs(tmp_path / "them", rest, "ties", base, {"normalize": True, "lambda": lam}, each)
    us = ours(tmp_path / "us", points[:3], "ties", weights=weights, density=density, lam=lam)
    assert far(us, them) == 0.0
    moved = far(us, models.tensors(base.folder))
    assert moved > 1e-3


def test_ties_of_three_is_exact(points: list[Checkpoint], tmp_path: Path) -> None:
    each = [{"weight": w, "density": 0.2} for w in (1.0, 0.5, 2.0)]
    them = theirs(tmp_path / "them", points[1:], "ties", points[0], {"normalize": True}, each)
    assert far(ours(tmp_path / "us", points, "ties", weights=(1.0, 0.5, 2.0), density=0.2), them) == 0.0


@pytest.mark.parametrize("weights", [(1, 1, 1), (0.2, 1.0, 3.0)])
def test_linear(points: list[Checkpoint], tmp_path: Path, weights: tuple[float, ...]) -> None:
    them = theirs(tmp_path / "them", points[:3], "linear", None, {"normalize": True}, [{"weight": w} for w in weights])
    assert far(ours(tmp_path / "us", points[:3], "linear", weights=weights), them) <= 1e-6


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_slerp_and_wise_ft(points: list[Checkpoint], tmp_path: Path, alpha: float) -> None:
    base, other = points[1:3]
    them = theirs(tmp_path / "slerp", [base, other], "slerp", base, {"t": alpha}, [{}, {}])
    assert far(ours(tmp_path / "us-slerp", [base, other], "slerp", alphas=(alpha,)), them) <= 1e-6
    each = [{"weight": 1 - alpha}, {"weight": alpha}]
    them = theirs(tmp_path / "linear", [base, other], "linear", None, {"normalize": True}, each)
    assert far(ours(tmp_path / "us", [base, other], "wise-ft", alphas=(alpha,)), them) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_slerp_of_a_real_fine_tune(demo_world: Path, tmp_path: Path, alpha: float) -> None:
    """Nearly parallel weights: mergekit in float32 takes their angle with few digits, in double it agrees with us."""
    two = [models.point(demo_world / "models" / name) for name in ("base", "sft_v2")]
    us = ours(tmp_path / "us", two, "slerp", alphas=(alpha,))
    exact = theirs(tmp_path / "double", two, "slerp", two[0], {"t": alpha}, [{}, {}], dtype="float64")
    rough = theirs(tmp_path / "single", two, "slerp", two[0], {"t": alpha}, [{}, {}])
    assert far(us, exact) <= 5e-7
    assert far(us, exact) < far(rough, exact) <= 1e-5


@pytest.mark.parametrize("method", ["dare", "dare-ties"])
def test_dare_on_the_same_draws(
    points: list[Checkpoint], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mergekit draws from torch, and rescales by the L1 norm and not by the paper's 1 / density: it gets our draws, no
    rescaling, and lambda / density."""
    base, *rest = points[:3]
    density, lam = 0.4, 0.8
    original = combine.generator
    calls: list[tuple[int, ...]] = []

    def drawn(probability: torch.Tensor) -> torch.Tensor:
        """The models' task vectors of a tensor come one after the other."""
        rng = original(7, "any", len(calls) % 2 + 1)
        calls.append(tuple(probability.shape))
        values = rng.random(tuple(probability.shape), dtype="float32") < density
        return torch.from_numpy(values).to(probability.dtype)

    monkeypatch.setattr(combine, "generator", lambda seed, name, model: original(seed, "any", model))
    monkeypatch.setattr(torch, "bernoulli", drawn)
    each = [{"weight": 1.0, "density": density}] * 2
    parameters = {"normalize": True, "rescale": False, "lambda": lam / density}
    name = {"dare": "dare_linear", "dare-ties": "dare_ties"}[method]
    them = theirs(tmp_path / "them", rest, name, base, parameters, each)
    us = ours(tmp_path / "us", points[:3], method, density=density, lam=lam, seed=7)
    assert len(calls) == 2 * len(them)
    assert calls[::2] == calls[1::2]
    assert far(us, them) <= 1e-6
    assert far(us, models.tensors(base.folder)) > 1e-3
