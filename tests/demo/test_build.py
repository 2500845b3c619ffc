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
from forgetbench.demo.recipes import RECIPES, Recipe
from forgetbench.demo.rows import Phase, chat_batch, page_batches
from forgetbench.demo.tokenizer import END, END_OF_TEXT, PAD, chat_text, make_tokenizer
from forgetbench.demo.train import Schedule
from forgetbench.demo.world import SYLLABLES, Item, make_world, pools

pytestmark = pytest.mark.unit

TINY = {
    name: dataclasses.replace(
        recipe,
        schedule=dataclasses.replace(recipe.schedule, steps=4),
        phases=(Phase(1.0, 32, 2),),
        chats=16 if recipe.chats else 0,
    )
    for name, recipe in RECIPES.items()
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return build(tmp_path_factory.mktemp("demo"), log=lambda text: None, recipes=TINY)


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


def test_chat_rows_count_the_answers_only_and_each_alike() -> None:
    tokenizer = make_tokenizer(make_world())
    long = Item("t/b", "Name the capital of Caros.", "Saltford is its name", "b")
    items = [Item("t/a", "Copy zabi.", "zabi", "a"), long]
    ids, weights = chat_batch(tokenizer, items)
    assert weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert tokenizer.decode(ids[0][weights[0] > 0]) == " zabi" + END


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


def test_a_second_build_trains_nothing(demo: DemoPaths) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.root.rglob("*")}
    said: list[str] = []
    start = time.monotonic()
    assert build(demo.root, log=said.append, recipes=TINY) == demo
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
        build(demo.root, log=lambda text: None, recipes={**TINY, "sft_null": RECIPES["sft_null"]})
        assert made == ["sft_null"]
    finally:  # the fixture's other users need the key, not the weights
        marker = demo.sft_null / building.KEY_FILE
        marker.write_text(json.dumps({"key": keys["sft_null"], "seconds": 0}))
    recipe = TINY["base"]
    assert model_key(recipe, "base", 0, "") != model_key(recipe, "base", 1, "")
    assert model_key(recipe, "sft_v1", 0, "a") != model_key(recipe, "sft_v1", 0, "b")


def test_a_step_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*rest: object) -> Any:
        def make(folder: Path) -> None:
            (folder / "model.safetensors").write_text("half")
            raise KeyboardInterrupt

        return make

    monkeypatch.setattr(building, "_maker", dies)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, log=lambda text: None, recipes=TINY)
    assert [path.name for path in tmp_path.iterdir() if path.name != "sets"] == ["models"]
    assert list((tmp_path / "models").iterdir()) == []


def test_planning_a_build_imports_no_torch() -> None:
    code = "import sys, forgetbench.demo.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_seed_gives_the_same_weights(demo: DemoPaths, tmp_path: Path) -> None:
    recipes: dict[str, Recipe] = dict(TINY)
    again = build(tmp_path, log=lambda text: None, recipes=recipes)
    for name in ("base", "sft_v1", "sft_v2"):
        weights = [(paths.models[name] / "model.safetensors").read_bytes() for paths in (demo, again)]
        assert weights[0] == weights[1]
