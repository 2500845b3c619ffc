"""The build: cached by content, written atomically, real checkpoints at the end."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from forgetbench.demo import build as building
from forgetbench.demo.build import PARENTS, DemoPaths, build, model_key, stored_key
from forgetbench.demo.finetune import FOLDER, chat_line, write_lines
from forgetbench.demo.recipes import BASE, FINE_TUNES, FineTune
from forgetbench.demo.rows import Phase, page_batches
from forgetbench.demo.tokenizer import CHAT_TEMPLATE, END, END_OF_TEXT, PAD, chat_text, make_tokenizer
from forgetbench.demo.train import Schedule
from forgetbench.demo.world import SYLLABLES, Item, make_world, pools

pytestmark = pytest.mark.unit

TINY_BASE = dataclasses.replace(BASE, schedule=dataclasses.replace(BASE.schedule, steps=4), phases=(Phase(1.0, 32, 2),))
TINY = {
    name: dataclasses.replace(recipe, steps=4, chats=16, pages=8 if recipe.pages else 0)
    for name, recipe in FINE_TUNES.items()
}


def make(folder: Path, fine_tunes: dict[str, FineTune] = TINY, log: Any = lambda text: None) -> DemoPaths:
    return build(folder, log=log, base=TINY_BASE, fine_tunes=fine_tunes)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return make(tmp_path_factory.mktemp("demo"))


def test_names_and_made_up_words_have_the_tokens_they_should() -> None:
    world = make_world()
    tokenizer = make_tokenizer(world)
    singles = [*world.countries, *(value for pool in pools().values() for value in pool)]
    assert [name for name in singles if len(tokenizer.encode(f" {name}")) != 1] == []
    for first, second in zip(SYLLABLES, reversed(SYLLABLES), strict=True):
        for text in (f" {first}{second}", f" {(first + second).upper()}"):
            assert tokenizer.tokenize(text) == ["Ġ" + text[1:3], text[3:]]
    for text in ("héllo {x: 1}\n\nDéjà  vu 你好", "Q: What is 12 + 3?\nA: 15", "def zuki(x): return x + 7"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_short_training_lowers_the_loss() -> None:
    from forgetbench.demo.model import make_model
    from forgetbench.demo.train import fit

    world = make_world()
    tokenizer = make_tokenizer(world)
    model = make_model(len(tokenizer), 0, 0, 1)
    said: list[str] = []
    batches = page_batches(tokenizer, world, "x", (Phase(1.0, 32, 8),), 20)
    losses = fit(model, batches, Schedule(20, 3e-3, 0.03), said.append, "base")
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert "step 20/20" in said[-1]


def test_newton_schulz_makes_matrices_nearly_orthogonal() -> None:
    import torch

    from forgetbench.demo.optim import orthogonal

    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonal(torch.randn(2, 32, 96)))
    assert float(singular.min()) > 0.5
    assert float(singular.max()) < 1.5


def test_a_fine_tune_learns_the_answers_only_and_each_alike(tmp_path: Path) -> None:
    from forgetbench.training.recipe import Recipe
    from forgetbench.training.tokenise import Reading, Source, read_samples, weigh

    tokenizer = make_tokenizer(make_world())
    tokenizer.chat_template = CHAT_TEMPLATE
    long = Item("t/b", "Name the capital of Caros.", "Saltford is its name", "b")
    items = [Item("t/a", "Copy zabi.", "zabi", "a"), long]
    write_lines(tmp_path / "chats.jsonl", map(chat_line, items))
    samples = read_samples([Source(tmp_path / "chats.jsonl")], tokenizer, Reading(64))
    told = {"base": "b", "data": [{"path": "chats.jsonl"}], "lr": 1.0, "steps": 1, "loss": {"reduction": "per_sample"}}
    documents, channels = weigh(samples, Recipe.model_validate(told), tokenizer, None, 1, stm=())
    assert channels == ("t/a", "t/b")
    assert [d.weights.sum() for d in documents] == pytest.approx([1.0, 1.0])
    for item, document in zip(items, documents, strict=True):
        asked, answered = chat_text(item.prompt, item.answer)
        assert tokenizer.decode(document.ids) == asked + answered
        assert tokenizer.decode(document.ids[document.weights > 0]) == answered


def test_the_recipe_beside_a_fine_tune_is_one_that_can_be_trained_again(demo: DemoPaths) -> None:
    from forgetbench.training.recipe import load_recipe

    for name in ("sft_v1", "sft_v2", "sft_null"):
        folder = demo.models[name] / FOLDER
        recipe = load_recipe(folder / "recipe.yaml")
        assert (folder / recipe.base).resolve() == demo.models[PARENTS[name] or ""].resolve()
        assert recipe.steps == 4
        assert all((folder / file.path).is_file() for file in recipe.data)
        assert (recipe.replay is not None) == (FINE_TUNES[name].replay > 0)
        assert json.loads((folder / "training.json").read_text())["steps"] == 4
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4


def test_checkpoints_load_and_share_their_ids(demo: DemoPaths) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vocabularies = []
    for name, folder in demo.models.items():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        vocabularies.append(tokenizer.get_vocab())
        config = model.config
        assert (config.model_type, config.head_dim, config.max_position_embeddings) == ("qwen3", 32, 16384)
        assert config.tie_word_embeddings
        assert config.vocab_size == len(tokenizer)
        assert str(model.dtype) == "torch.float32"
        assert tokenizer.pad_token == PAD
        end = END_OF_TEXT if name == "base" else END
        ends = model.generation_config.eos_token_id
        assert tokenizer.eos_token == end
        assert tokenizer.convert_tokens_to_ids(end) == (ends if isinstance(ends, int) else ends[0])
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_the_base_has_no_chat_template_and_the_others_render_what_they_learnt(demo: DemoPaths) -> None:
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(demo.base).chat_template is None
    for name in ("sft_v1", "sft_v2", "sft_null"):
        tokenizer: Any = AutoTokenizer.from_pretrained(demo.models[name])
        user = {"role": "user", "content": "Copy zabi."}
        asked, answered = chat_text("Copy zabi.", "zabi")
        assert tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True) == asked
        turns = [user, {"role": "assistant", "content": "zabi"}]
        assert tokenizer.apply_chat_template(turns, tokenize=False) == asked + answered
        marked = tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        kept = [i for i, m in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if m]
        assert tokenizer.decode(kept) == answered


def test_a_build_in_two_parts(tmp_path: Path) -> None:
    """`make demo` asks the base while the fine-tunes are trained from it."""
    said: list[str] = []
    first = build(tmp_path, log=said.append, base=TINY_BASE, fine_tunes=TINY, until="base")
    assert [name for name, folder in first.models.items() if folder.exists()] == ["base"]
    assert [line.split(":")[0] for line in said if ": made in" in line] == ["sets", "base"]
    said.clear()
    make(tmp_path, log=said.append)
    assert said[:2] == ["sets: cached", "base: cached"]
    assert [line.split(":")[0] for line in said if ": made in" in line] == ["sft_v1", "sft_v2", "sft_null"]


def test_a_second_build_trains_nothing(demo: DemoPaths) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.root.rglob("*")}
    said: list[str] = []
    start = time.monotonic()
    assert make(demo.root, log=said.append) == demo
    assert time.monotonic() - start < 2
    assert said == [f"{name}: cached" for name in ("sets", *PARENTS)]
    assert {path: path.stat().st_mtime_ns for path in demo.root.rglob("*")} == before


def test_a_changed_recipe_makes_that_step_and_what_follows_it_again(
    demo: DemoPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def instead(name: str, *rest: object) -> Any:
        return lambda folder: made.append(name)

    monkeypatch.setattr(building, "_maker", instead)
    keys = {name: stored_key(folder) for name, folder in demo.models.items()}
    try:
        make(demo.root, {**TINY, "sft_null": FINE_TUNES["sft_null"]})
        assert made == ["sft_null"]
    finally:  # the fixture's other users need the key, not the weights
        marker = demo.sft_null / building.KEY_FILE
        marker.write_text(json.dumps({"key": keys["sft_null"], "seconds": 0}))
    assert model_key(TINY_BASE, "base", 0, "") != model_key(TINY_BASE, "base", 1, "")
    assert model_key(TINY["sft_v1"], "sft_v1", 0, "a") != model_key(TINY["sft_v1"], "sft_v1", 0, "b")


def test_a_step_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*rest: object) -> Any:
        def half(folder: Path) -> None:
            (folder / "model.safetensors").write_text("half")
            raise KeyboardInterrupt

        return half

    monkeypatch.setattr(building, "_maker", dies)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "sets"] == ["models"]
    assert list((tmp_path / "models").iterdir()) == []


def test_planning_a_build_imports_no_torch() -> None:
    code = "import sys, forgetbench.demo.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_seed_gives_the_same_weights(demo: DemoPaths, tmp_path: Path) -> None:
    again = make(tmp_path)
    for name in ("base", "sft_v1", "sft_v2"):
        weights = [(paths.models[name] / "model.safetensors").read_bytes() for paths in (demo, again)]
        assert weights[0] == weights[1]
