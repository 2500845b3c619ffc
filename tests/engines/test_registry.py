"""Making an engine: light, checked, and identified before anything loads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.registry import make_engine
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.errors import Exit, ModelLoadError, UsageError
from tests.engines import tiny
from tests.engines.conftest import generate, score, serve

pytestmark = pytest.mark.unit


def test_identity_names_what_can_change_an_answer(qwen: Checkpoint) -> None:
    plain = make_engine(qwen).identity
    assert {"name", "transformers", "torch", "dtype", "device", "attention", "quantisation"} == set(plain)
    assert (plain["name"], plain["dtype"], plain["attention"]) == ("transformers", "float32", "sdpa")
    for args in (
        {"dtype": "bfloat16"},
        {"attn_implementation": "eager"},
        {"max_length": 100},
        {"add_bos_token": True},
        {"device": "cuda:1"},
    ):
        assert make_engine(qwen, **args).identity != plain
    # Batch sizes change nothing but speed.
    assert make_engine(qwen, batch_rows=2, batch_tokens=500, share_prefix=False, threads=1).identity == plain
    assert make_engine(qwen, device="cuda:1").identity["device"] == "cuda"


def test_capabilities(qwen: Checkpoint) -> None:
    capabilities = make_engine(qwen).capabilities
    assert capabilities.score
    assert capabilities.generate
    assert capabilities.token_stats


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"batchrows": 3}, "batchrows.*unknown"),
        ({"batch_rows": 0}, "batch_rows.*above 0"),
        ({"batch_rows": True}, "batch_rows.*above 0"),
        ({"share_prefix": "yes"}, "share_prefix.*true or false"),
        ({"dtype": "float7"}, "dtype.*float7"),
    ],
)
def test_arguments_are_checked(qwen: Checkpoint, args: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_engine(qwen, **args)


def test_unknown_engine(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    checkpoint = resolve(ModelSpec("m", str(folder), engine="abacus"), cache_dir=tmp_path)
    with pytest.raises(UsageError, match=r"models.m.engine: 'abacus' is unknown; use one of transformers"):
        make_engine(checkpoint)


def test_arguments_of_the_call_win_over_the_specs(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    spec = ModelSpec("m", str(folder), engine_args={"max_length": 64, "attn_implementation": "eager"})
    identity = make_engine(resolve(spec, cache_dir=tmp_path), max_length=32).identity
    assert (identity["max_length"], identity["attention"]) == ("32", "eager")


def test_attention_implementations_agree(qwen: Checkpoint) -> None:
    asked = [score("s", "The quick brown", " fox", " lazy dog"), generate("g", "If a shop", 12)]
    sdpa, eager = serve(qwen, asked), serve(qwen, asked, attn_implementation="eager")
    for a, b in zip(sdpa["s"].scores, eager["s"].scores, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-5)
    assert sdpa["g"].generations[0].token_ids == eager["g"].generations[0].token_ids


def test_a_model_that_does_not_load_is_one_line(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    tiny.edit_json(folder / "config.json", num_attention_heads="many")
    checkpoint = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    with pytest.raises(ModelLoadError, match=r"models\.m .*cannot be loaded") as caught:
        list(TransformersEngine(checkpoint).run([score("a", "x", " y")]))
    assert caught.value.exit_code == Exit.USAGE
    assert "\n" not in str(caught.value)


def test_a_gpu_that_is_not_there_is_one_line(qwen: Checkpoint) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ModelLoadError, match=r"sees no GPU; set engine_args"):
        list(TransformersEngine(qwen, device="cuda").run([score("a", "x", " y")]))


def test_an_adapter_without_peft_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny.save(tmp_path / "m")
    adapter = tiny.save_adapter(base, tmp_path / "adapter")
    checkpoint = resolve(ModelSpec("m", str(base), adapter=str(adapter)), cache_dir=tmp_path)
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "peft" else original(n, *a))
    with pytest.raises(UsageError, match=r"needs peft.*forgetbench\[train\]"):
        make_engine(checkpoint)


def test_adapter_served_and_merged_answer_alike_and_unlike_the_base(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "m")
    adapter = tiny.save_adapter(base, tmp_path / "adapter")
    plain = resolve(ModelSpec("m", str(base)), cache_dir=tmp_path)
    adapted = resolve(ModelSpec("m", str(base), adapter=str(adapter)), cache_dir=tmp_path)
    assert plain.digest != adapted.digest
    assert make_engine(adapted).identity != make_engine(adapted, merge_adapter=True).identity
    asked = [score(f"s{i}", "The quick brown fox " * 9 + f"{i} is", " fox", " lazy dog") for i in range(4)]
    asked.append(generate("g", "If a shop", 12))
    before, served, merged = serve(plain, asked), serve(adapted, asked), serve(adapted, asked, merge_adapter=True)
    for name in ("s0", "s3"):
        for a, b, c in zip(before[name].scores, served[name].scores, merged[name].scores, strict=True):
            assert abs(a.logprob - b.logprob) > 1e-3
            assert b.logprob == pytest.approx(c.logprob, abs=1e-4)
    assert served["g"].generations[0].token_ids == merged["g"].generations[0].token_ids
