"""Resolving: what is missing or broken is one line, and any change of a part changes the fingerprint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.errors import UsageError
from tests.engines import tiny

pytestmark = pytest.mark.unit


def look(folder: Path, **spec: str) -> Checkpoint:
    return resolve(ModelSpec("m", str(folder), **spec), cache_dir=folder.parent / "cache")  # type: ignore[arg-type]


def cut(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


def make_sharded(folder: Path, name: str = "model-00001-of-00001.safetensors") -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, r"models\.m\.path: .*no such folder"),
    "a file": (lambda f: (shutil.rmtree(f), f.write_text("x")), "is a file, not a folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "config cut short": (lambda f: cut(f / "config.json", 30), r"config.json:\d+: is not valid JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "holds a list"),
    "config not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "cannot be read"),
    "config nested too deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "not valid JSON"),
    "config of nothing": (lambda f: (f / "config.json").write_text("{}"), "has no `model_type`"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "weights cut short": (lambda f: cut(f / "model.safetensors", 9000), r"is 9000 bytes long, its header says"),
    "header cut short": (lambda f: cut(f / "model.safetensors", 100), r"has a header of \d+ bytes in a file of 100"),
    "weights empty": (lambda f: cut(f / "model.safetensors", 0), "too short for safetensors"),
    "weights are no safetensors": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0hello"),
        "header that is not JSON",
    ),
    "a shard is missing": (lambda f: make_sharded(f, "gone.safetensors"), r"1 missing shards, first gone"),
    "an index of nothing": (
        lambda f: (make_sharded(f), (f / "model.safetensors.index.json").write_text("{}")),
        "has no `weight_map`",
    ),
    "an empty .bin": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "pytorch_model.bin").write_bytes(b"")),
        "pytorch_model.bin: is empty",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer"),
    "an empty tokenizer": (lambda f: (f / "tokenizer.json").write_text(""), "tokenizer.json: is empty"),
    "tokenizer config broken": (lambda f: (f / "tokenizer_config.json").write_text("{,"), "tokenizer_config.json:1"),
    "generation config broken": (lambda f: (f / "generation_config.json").write_text("no"), "generation_config.json"),
    "template broken": (lambda f: (f / "chat_template.jinja").write_text("{% for %}"), "chat template, line 1"),
    "an adapter in place of a model": (
        lambda f: (f / "config.json").rename(f / "adapter_config.json"),
        "is a LoRA adapter without its base",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_one_line(folder: Path, name: str) -> None:
    break_it, words = BREAKS[name]
    break_it(folder)
    with pytest.raises(UsageError, match=words) as caught:
        look(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"dtype": "float8"}, r"models\.m\.dtype: 'float8'"),
        ({"tokenizer": "./nowhere"}, r"models\.m\.tokenizer: ./nowhere: there is no such folder"),
        ({"adapter": "/nowhere/at/all"}, r"models\.m\.adapter: .*no such folder"),
        ({"adapter": "."}, r"models\.m\.adapter: .*holds no adapter_config.json"),
    ],
)
def test_other_keys(folder: Path, spec: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UsageError, match=words):
        look(folder, **spec)


def test_a_broken_tokenizer_is_one_line(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "tokenizer_config.json").write_text("{}")
    checkpoint = look(folder)
    with pytest.raises(UsageError, match="the tokenizer cannot be loaded") as caught:
        checkpoint.tokenizer()
    assert "\n" not in str(caught.value)


def test_adapters(folder: Path) -> None:
    adapter = tiny.save_adapter(folder, folder.parent / "adapter")
    one = look(folder, adapter=str(adapter))
    other = look(folder, adapter=str(tiny.save_adapter(folder, folder.parent / "other", seed=1)))
    assert one.adapter_folder == adapter
    assert len({look(folder).digest, one.digest, other.digest}) == 3
    tiny.edit_json(adapter / "adapter_config.json", lora_alpha=9)  # scaling alone
    scaled = look(folder, adapter=str(adapter))
    assert [p for p in one.parts if one.parts[p] != scaled.parts[p]] == ["adapter"]
    tiny.edit_json(adapter / "adapter_config.json", peft_type="PROMPT_TUNING")
    with pytest.raises(UsageError, match="virtual tokens"):
        look(folder, adapter=str(adapter))
    tiny.edit_json(adapter / "adapter_config.json", peft_type=None)
    with pytest.raises(UsageError, match="has no `peft_type`"):
        look(folder, adapter=str(adapter))


def flip_last_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


CHANGES: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a bit of the weights": (lambda f: flip_last_byte(f / "model.safetensors"), {"weights"}),
    "the config": (lambda f: tiny.edit_json(f / "config.json", rms_norm_eps=1e-5), {"config"}),
    "a merge of the tokenizer": (
        lambda f: tiny.edit_json(f / "tokenizer.json", truncation={"max_length": 5}),
        {"tokenizer"},
    ),
    "the tokenizer's config": (
        lambda f: tiny.edit_json(f / "tokenizer_config.json", clean_up_tokenization_spaces=True),
        {"tokenizer"},
    ),
    "a space in the template": (
        lambda f: (f / "chat_template.jinja").write_text((f / "chat_template.jinja").read_text() + " "),
        {"template"},
    ),
    "a stop id": (lambda f: tiny.edit_json(f / "generation_config.json", eos_token_id=[1, 2]), {"stop_ids"}),
    "the end token": (
        lambda f: tiny.edit_json(f / "tokenizer_config.json", eos_token="<|end|>"),
        {"tokenizer", "stop_ids"},
    ),
    # What cannot change an answer must not make a run incomparable.
    "where it was saved from": (lambda f: tiny.edit_json(f / "config.json", _name_or_path="elsewhere"), set()),
    "who saved it": (lambda f: tiny.edit_json(f / "config.json", transformers_version="9"), set()),
    "how it likes to be sampled": (lambda f: tiny.edit_json(f / "generation_config.json", temperature=0.6), set()),
    "a file beside it": (lambda f: (f / "README.md").write_text("x"), set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_fingerprints(folder: Path, name: str) -> None:
    before = look(folder)
    change, parts = CHANGES[name]
    change(folder)
    after = look(folder)
    assert {p for p in before.parts if before.parts[p] != after.parts[p]} == parts
    assert (before.digest != after.digest) == bool(parts)


def test_the_same_content_elsewhere_is_the_same_checkpoint(original: Path, folder: Path) -> None:
    one, two = look(original), resolve(ModelSpec("other", str(folder)), cache_dir=folder.parent)
    assert one.digest == two.digest
    assert one.parts == two.parts


def test_a_tokenizer_of_another_folder(folder: Path) -> None:
    other = tiny.save(folder.parent / "other", bos=False)
    own, borrowed = look(folder), look(folder, tokenizer=str(other))
    assert {p for p in own.parts if own.parts[p] != borrowed.parts[p]} == {"tokenizer", "template"}
    assert borrowed.tokenizer_folder == other


def test_stop_ids(folder: Path) -> None:
    assert look(folder).stop_ids == (1,)
    tiny.edit_json(folder / "generation_config.json", eos_token_id=None)
    tiny.edit_json(folder / "config.json", eos_token_id=[7, 9])
    tiny.edit_json(folder / "tokenizer_config.json", eos_token={"content": "<|end|>", "special": True})
    assert look(folder).stop_ids == (2, 7, 9)
    tiny.edit_json(folder / "tokenizer_config.json", eos_token="no such token")
    assert look(folder).stop_ids == (7, 9)


def test_sharded_weights(folder: Path) -> None:
    whole = look(folder)
    make_sharded(folder)
    sharded = look(folder)
    assert {p for p in whole.parts if whole.parts[p] != sharded.parts[p]} == {"weights"}


def test_hit_path_loads_neither_tokenizer_nor_torch(folder: Path) -> None:
    """Resolve, render, plan and make the engine: everything that a run with nothing left to do needs."""
    code = f"""
import sys
from pathlib import Path
from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.engines.registry import make_engine
from forgetbench.planning import TaskJob, build_plan
from forgetbench.types import Decode, Item, ItemKey, PromptSpec

class T:
    name, version, metrics, binary = "t", "1", ("acc",), True
    def load(self): return [Item(ItemKey("t", "h"), "a/b", {{}}, "g", "gh")]
    def prompt(self, item, shots): return PromptSpec("rank", "Q:", choices=("a", "b"))
    def score(self, item, response): return []
    def canonical(self, doc): return None

checkpoint = resolve(ModelSpec("m", {str(folder)!r}), cache_dir=Path({str(folder.parent / "cache")!r}))
task = T()
jobs = [TaskJob(task, task.load(), "ability", "raw"), TaskJob(task, task.load(), "chat", "chat")]
plan = build_plan(jobs, checkpoint)
assert len(plan.requests) == 2, plan
assert make_engine(checkpoint).identity["dtype"] == "float32"
heavy = {{"torch", "transformers", "tokenizers", "huggingface_hub", "pandas", "numpy"}} & set(sys.modules)
assert not heavy, heavy
print(checkpoint.digest)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == look(folder).digest
