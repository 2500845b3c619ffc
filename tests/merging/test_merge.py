"""Whole folders: what is in them, what must not change, and every way in which a merge is refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.merging import combine, stream
from forgetbench.merging.merge import merge
from forgetbench.merging.recipe import numbers, recipes
from forgetbench.merging.types import Merged
from tests.drift import made
from tests.merging import direct, models

pytestmark = pytest.mark.unit
METHODS = ("linear", "slerp", "ties", "dare", "dare-ties", "wise-ft")


def run(points: list[Checkpoint], method: str, out: Path, **options: Any) -> Merged:
    more = {k: options.pop(k) for k in ("like", "dtype") if k in options}
    (recipe,) = recipes(method, len(points), **options)
    return merge(points, recipe, out, **more)


def options_of(method: str) -> dict[str, Any]:
    return {"alphas": (0.5,)} if method in ("slerp", "wise-ft") else {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_merged_with_itself_is_itself(tmp_path: Path, method: str, dtype: torch.dtype) -> None:
    values = {n: t.to(dtype) for n, t in made.tensors().items()}
    values["model.norm.weight"][0] = -0.0
    point = models.save(tmp_path / "base", values)
    count = 2 if method in ("slerp", "wise-ft") else 3
    run([point] * count, method, tmp_path / "out", **options_of(method))
    assert models.bits(tmp_path / "out") == models.bits(point.folder)


@pytest.mark.parametrize("method", ["wise-ft", "slerp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_alpha_0_and_1_are_the_inputs_bit_for_bit(tmp_path: Path, method: str, dtype: torch.dtype) -> None:
    base, one, _ = models.trio(tmp_path, dtype)
    for alpha, point in ((0.0, base), (1.0, one)):
        done = run([base, one], method, tmp_path / f"at{alpha}", alphas=(alpha,))
        assert models.bits(done.folder) == models.bits(point.folder)
        assert done.copied == done.tensors


def test_one_weight_and_lambda_0_are_the_inputs_bit_for_bit(tmp_path: Path) -> None:
    base, one, two = models.trio(tmp_path)
    done = run([base, one, two], "linear", tmp_path / "linear", weights=(0, 3, 0))
    assert models.bits(done.folder) == models.bits(one.folder)
    done = run([base, one, two], "ties", tmp_path / "ties", lam=0)
    assert models.bits(done.folder) == models.bits(base.folder)


def direct_merge(method: str, base: Any, one: Any, two: Any) -> Any:
    match method:
        case "linear":
            return direct.soup([base, one, two], [1, 1, 1])
        case "wise-ft":
            return 0.5 * base + 0.5 * one
        case "slerp":
            return direct.slerp(base, one, 0.5)
        case _:
            return direct.ties(base, [one, two], 0.2, 1.0, [1, 1])


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "wise-ft"])
@pytest.mark.parametrize("sliced", [False, True])
def test_folders_hold_what_the_formulas_say(
    tmp_path: Path, method: str, sliced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [made.tensors(), models.tuned(1, 2.0), models.tuned(2, 2.0)]
    base, one, two = (
        models.save(tmp_path / n, s, shards=i + 1) for i, (n, s) in enumerate(zip("bot", sets, strict=True))
    )
    if sliced:  # a slice is a few rows, and shards hold a tensor or two
        monkeypatch.setattr(combine, "SLICE", 100)
        monkeypatch.setattr(stream.layout, "__defaults__", (6000,))
    points = [base, one, two] if method in ("linear", "ties") else [base, one]
    run(points, method, tmp_path / "out", **options_of(method))
    found = models.tensors(tmp_path / "out")
    assert found.keys() == sets[0].keys()
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == (7 if sliced else 1)
    for name, tensor in found.items():
        exact = direct_merge(method, *(s[name].double().numpy() for s in sets))
        np.testing.assert_allclose(tensor.numpy(), exact, atol=5e-6)


@pytest.mark.parametrize("method", METHODS)
def test_slices_do_not_change_a_bit(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = models.trio(tmp_path)[: 2 if method in ("slerp", "wise-ft") else 3]
    run(points, method, tmp_path / "whole", **options_of(method))
    monkeypatch.setattr(combine, "SLICE", 70)
    run(points, method, tmp_path / "sliced", **options_of(method))
    whole, sliced = models.tensors(tmp_path / "whole"), models.tensors(tmp_path / "sliced")
    for name, tensor in whole.items():
        # The angle of slerp is a sum, which slices may round another way.
        torch.testing.assert_close(sliced[name], tensor, rtol=0, atol=1e-6 if method == "slerp" else 0)


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_order_does_not_matter_with_equal_weights(tmp_path: Path, method: str) -> None:
    base, one, two = models.trio(tmp_path)
    first = [one, two] if method == "linear" else [base, one, two]
    second = [two, one] if method == "linear" else [base, two, one]
    run(first, method, tmp_path / "a")
    run(second, method, tmp_path / "b")
    assert models.bits(tmp_path / "a") == models.bits(tmp_path / "b")


@pytest.mark.parametrize("method", ["slerp", "wise-ft"])
def test_alpha_is_symmetric(tmp_path: Path, method: str) -> None:
    base, one, _ = models.trio(tmp_path)
    run([base, one], method, tmp_path / "a", alphas=(0.3,))
    run([one, base], method, tmp_path / "b", alphas=(0.7,))
    b = models.tensors(tmp_path / "b")
    for name, tensor in models.tensors(tmp_path / "a").items():
        torch.testing.assert_close(tensor, b[name], atol=1e-6, rtol=0)


def test_dare_follows_its_seed(tmp_path: Path) -> None:
    points = models.trio(tmp_path)
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(points, "dare", tmp_path / name, seed=seed, density=0.5)
    a, b, c = (models.bits(tmp_path / n) for n in "abc")
    assert a == b
    assert all(a[n] != c[n] for n in a)


def test_dare_draws_anew_for_each_tensor_and_model() -> None:
    draws = {combine.generator(s, n, m).random(4).tobytes() for s in (0, 1) for n in ("a", "b") for m in (1, 2)}
    assert len(draws) == 8


def test_the_folder_is_complete(tmp_path: Path) -> None:
    base, one, two = models.trio(tmp_path, torch.bfloat16)
    for point in (base, two):
        (point.folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "of": point.alias}))
    (two.folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (two.folder / "optimizer.pt").write_bytes(b"large")
    two = models.point(two.folder)
    done = run([base, one, two], "dare-ties", tmp_path / "deep" / "out", seed=3, density=0.25, lam=0.5)
    files = {f.name for f in done.folder.iterdir()}
    assert files == {
        "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors", "merge.json",
    }  # fmt: skip
    for name in files - {"model.safetensors", "merge.json"}:
        assert (done.folder / name).read_bytes() == (two.folder / name).read_bytes()
    assert {t.dtype for t in models.tensors(done.folder).values()} == {torch.bfloat16}
    told = json.loads((done.folder / "merge.json").read_text())
    assert told["method"] == "dare-ties"
    assert told["parameters"] == {"weights": [1.0, 1.0], "density": 0.25, "lam": 0.5}
    assert told["seed"] == 3
    assert told["like"] == "two"
    assert [m["digest"] for m in told["models"]] == [base.digest, one.digest, two.digest]
    assert {"forgetbench", "torch", "numpy", "safetensors"} <= set(told["versions"])
    merged = models.point(done.folder)
    assert merged.has_chat_template
    assert merged.parts["tokenizer"] == two.parts["tokenizer"]
    assert list(tmp_path.glob("**/*.tmp")) == []
    other = run([base, one, two], "dare-ties", tmp_path / "again", seed=3, density=0.25, lam=0.5)
    assert (other.folder / "merge.json").read_bytes() == (done.folder / "merge.json").read_bytes()
    assert (
        run([base, one, two], "linear", tmp_path / "like", like=0).folder.joinpath("generation_config.json").read_text()
        == (base.folder / "generation_config.json").read_text()
    )


def test_a_template_and_tokenizer_of_the_entry_are_taken(tmp_path: Path) -> None:
    base, one, two = models.trio(tmp_path)
    spec = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}", "tokenizer": str(one.folder)}
    (one.folder / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    chosen = models.point(base.folder, **spec)
    done = run([chosen, two], "linear", tmp_path / "out", like=0)
    found = models.point(done.folder)
    assert found.template == spec["chat_template"]
    assert (done.folder / "tokenizer_config.json").is_file()


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("float16", torch.float16)])
def test_a_named_type(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    base, one, _ = models.trio(tmp_path, torch.bfloat16)
    done = run([base, one], "wise-ft", tmp_path / "out", alphas=(1.0,), dtype=name)
    found, given = models.tensors(done.folder), models.tensors(one.folder)
    assert all(t.dtype == dtype and torch.equal(t, given[n].to(dtype)) for n, t in found.items())
    assert json.loads((done.folder / "config.json").read_text())["dtype"] == name
    assert done.copied == 0


def test_vocabularies_of_different_size(tmp_path: Path) -> None:
    small, large = made.tensors(1, vocabulary=50, head=True), made.tensors(2, vocabulary=53, head=True)
    a, b = models.save(tmp_path / "a", small), models.save(tmp_path / "b", large)
    done = run([a, b], "linear", tmp_path / "up")
    found = models.tensors(done.folder)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert found[name].shape[0] == 53
        torch.testing.assert_close(found[name][:50], (small[name] + large[name][:50]) / 2)
        assert torch.equal(found[name][50:], large[name][50:])
    (note,) = [n for n in done.notes if "vocabularies" in n]
    assert "('a' 50, 'b' 53): the first 50 rows are merged, the other 3 are taken from 'b' alone" in note
    done = run([a, b], "linear", tmp_path / "down", like=0, dtype="bfloat16")
    assert models.tensors(done.folder)["lm_head.weight"].shape[0] == 50
    assert any("further rows are left out, as 'a' has none" in n for n in done.notes)
    # The rest of the rows in another type, and the shared rows from a copy.
    done = run([a, b], "wise-ft", tmp_path / "named", alphas=(0.0,), dtype="float16")
    head = models.tensors(done.folder)["lm_head.weight"]
    assert torch.equal(head, torch.cat([small["lm_head.weight"], large["lm_head.weight"][50:]]).half())


def test_tokens_that_mean_something_else_are_counted(tmp_path: Path) -> None:
    base, one, _ = models.trio(tmp_path)
    file = one.folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"w3"', '"moved"'))
    done = run([base, models.point(one.folder)], "linear", tmp_path / "out")
    assert any("1 token ids mean something else in 'base' than in 'one'" in n for n in done.notes)


def test_heads_of_their_own_and_tied_ones(tmp_path: Path) -> None:
    tied, own = made.tensors(1), made.tensors(2, head=True)
    a = models.save(tmp_path / "a", tied, config={"tie_word_embeddings": True})
    b = models.save(tmp_path / "b", own, config={"tie_word_embeddings": False})
    done = run([a, b], "linear", tmp_path / "out")
    expected = (tied["model.embed_tokens.weight"] + own["lm_head.weight"]) / 2
    torch.testing.assert_close(models.tensors(done.folder)["lm_head.weight"], expected)
    assert any("'a' takes its output head from the embedding" in n for n in done.notes)
    with pytest.raises(UsageError, match="'a' takes it from the embedding; pass --like b"):
        run([a, b], "linear", tmp_path / "no", like=0)
    copied = models.save(
        tmp_path / "c",
        {**tied, "lm_head.weight": tied["model.embed_tokens.weight"].clone()},
        config={"tie_word_embeddings": True},
    )
    for like in (0, 1):
        done = run([a, copied], "linear", tmp_path / f"tied-{like}", like=like)
        assert "lm_head.weight" not in models.tensors(done.folder)
    # Under the same config transformers computes with a head that holds values of its own: it is not dropped.
    stale = models.save(tmp_path / "d", own, config={"tie_word_embeddings": True})
    with pytest.raises(UsageError, match="model 'd': has an output head of its own"):
        run([a, stale], "linear", tmp_path / "no", like=0)


def test_a_tensor_that_is_no_weight_is_taken_over(tmp_path: Path) -> None:
    mask = {"mask": torch.tensor([1, 2, 3])}
    a, b = (models.save(tmp_path / n, made.tensors(i) | mask) for i, n in enumerate("ab"))
    done = run([a, b], "linear", tmp_path / "out")
    assert torch.equal(models.tensors(done.folder)["mask"], mask["mask"])
    c = models.save(tmp_path / "c", made.tensors() | {"mask": torch.tensor([1, 2, 4])})
    with pytest.raises(UsageError, match="mask: is of type I64 and not the same in all models"):
        run([a, c], "linear", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def shapeless(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t[:-1] if "layers.1.mlp" in n else t for n, t in values.items()}


def without(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t for n, t in values.items() if "layers.2" not in n}


def more(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return values | {"model.layers.3.extra.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("change", "config", "match"),
    [
        (dict, {"model_type": "mistral"}, "model 'b': is of type mistral, 'a' of type llama"),
        (dict, {"num_attention_heads": 8}, "model 'b': has num_attention_heads 8, 'a' None"),
        (dict, {"quantization_config": {"bits": 4}}, "model 'b': is quantised"),
        (without, {}, "model 'b': lacks 3 tensors of 'a', first model.layers.2.input_layernorm.weight"),
        (more, {}, "model 'b': has 1 tensors that 'a' lacks, first model.layers.3.extra.weight"),
        (shapeless, {}, r"layers.1.mlp.down_proj.weight: has shape \[23, 40\], in 'a' \[24, 40\]"),
    ],
)
def test_models_that_do_not_fit_together(
    tmp_path: Path, change: Callable[[Any], Any], config: dict[str, Any], match: str
) -> None:
    a = models.save(tmp_path / "a", made.tensors())
    b = models.save(tmp_path / "b", change(made.tensors()), config=config)
    with pytest.raises(UsageError, match=match) as error:
        run([a, b], "linear", tmp_path / "out", like=0)
    assert "\n" not in str(error.value)
    assert error.value.cure
    assert {f.name for f in tmp_path.iterdir()} <= {"a", "b", "cache"}


def test_settings_that_differ_are_told(tmp_path: Path) -> None:
    a = models.save(tmp_path / "a", made.tensors(), config={"rope_theta": 1e4})
    b = models.save(tmp_path / "b", made.tensors(1), config={"rope_theta": 1e6})
    assert run([a, b], "linear", tmp_path / "out").notes == (
        "config.json of 'a' and 'b' differ in rope_theta: the result has what 'b' says.",
    )


def test_nan_in_an_input_names_the_tensor_and_leaves_nothing(tmp_path: Path) -> None:
    values = made.tensors(1)
    values["model.layers.1.mlp.down_proj.weight"][3, 4] = float("nan")
    points = [models.save(tmp_path / "a", made.tensors()), models.save(tmp_path / "b", values)]
    for method in METHODS:
        with pytest.raises(
            UsageError, match=r"model 'b': model\.layers\.1\.mlp\.down_proj\.weight: holds NaN or infinity"
        ):
            run(points, method, tmp_path / "out", **options_of(method))
    assert {f.name for f in tmp_path.iterdir()} <= {"a", "b", "cache"}


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = models.trio(tmp_path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="no space left on the disk; free some") as error:
        run(points, "linear", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".*")) == []


def test_a_disk_too_small_is_seen_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    points = models.trio(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"needs 0.06 GB, the disk has 0.00 GB free"):
        run(points, "linear", tmp_path / "out")


def test_an_interrupted_merge_leaves_nothing(tmp_path: Path) -> None:
    points = models.trio(tmp_path)
    (recipe,) = recipes("linear", 3)

    def stop(done: int, total: int, name: str) -> None:
        if done == 5:
            assert not (tmp_path / "out").exists()
            assert len(list(tmp_path.glob(".out.*.tmp"))) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(points, recipe, tmp_path / "out", tell=stop)
    assert list(tmp_path.glob(".out*")) == []
    assert not (tmp_path / "out").exists()


def test_what_a_killed_merge_left_is_told(tmp_path: Path) -> None:
    points = models.trio(tmp_path)
    (tmp_path / ".out.123-abcd.tmp").mkdir()
    assert any("merge that did not end" in n for n in run(points, "linear", tmp_path / "out").notes)


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    points = models.trio(tmp_path)
    with pytest.raises(UsageError, match="is there already; name another folder"):
        run(points, "linear", points[0].folder)
    with pytest.raises(UsageError, match="cannot be written"):
        run(points, "linear", points[0].folder / "config.json" / "out")


@pytest.mark.parametrize(
    ("method", "count", "options", "match"),
    [
        ("average", 2, {}, "'average' is no way to merge full weights; use one of linear, slerp"),
        ("linear", 1, {}, "there is nothing to merge"),
        ("slerp", 3, {}, "3 were named, slerp goes from one to another"),
        ("wise-ft", 2, {"alphas": (0.5, 1.5)}, r"--alphas: 1.5 is not in \[0, 1\]"),
        ("wise-ft", 2, {"alphas": (float("nan"),)}, "--alphas: nan is not"),
        ("wise-ft", 2, {"alphas": (0.5, 0.5)}, "name a value twice"),
        ("ties", 3, {"density": 0.0}, r"--density: 0 is not in \(0, 1\]"),
        ("ties", 3, {"density": 1.1}, "--density: 1.1 is not in"),
        ("ties", 3, {"lam": -1.0}, "--lambda: -1 is not"),
        ("ties", 3, {"weights": (1, 1, 1)}, "--weights: are 3, the models that are weighed 2"),
        ("linear", 2, {"weights": (0, 0)}, "--weights: are all 0"),
        ("linear", 2, {"weights": (1, -1)}, "--weights: -1 is not"),
        ("linear", 2, {"density": 0.5}, "--density: has no part in linear"),
        ("dare", 2, {"seed": -1}, "--seed: -1 is negative"),
        ("linear", 2, {"alphas": (0.5,)}, "--alphas: has no part in linear"),
    ],
)
def test_parameters_out_of_range(method: str, count: int, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        recipes(method, count, **options)
    assert error.value.cure


def test_numbers() -> None:
    assert numbers("0,.25, 1", "--alphas") == (0.0, 0.25, 1.0)
    assert numbers(None, "--alphas") is None
    with pytest.raises(UsageError, match="--alphas: 'half' is not a number"):
        numbers("0,half", "--alphas")


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dtype: 'int8' is unknown"):
        run(models.trio(tmp_path), "linear", tmp_path / "out", dtype="int8")
