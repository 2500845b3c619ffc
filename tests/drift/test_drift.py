"""The walk over two checkpoints on disk, against torch and numpy on the same tensors."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from forgetbench.drift import drift
from forgetbench.drift import drift as walk
from forgetbench.drift.groups import in_order, place_of
from forgetbench.drift.shards import open_shards
from forgetbench.drift.types import Drift, Place, TensorDrift
from forgetbench.drift.weights import Side
from forgetbench.errors import UsageError

from . import made

pytestmark = pytest.mark.unit


def moved(values: dict[str, torch.Tensor], size: float = 0.1, seed: int = 9) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {n: t + size * torch.randn(t.shape, generator=rng) for n, t in values.items()}


def by_name(found: Drift) -> dict[str, TensorDrift]:
    return {t.name: t for t in found.tensors}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_tensor_against_numpy(tmp_path: Path, dtype: torch.dtype, shards: int) -> None:
    before = {n: t.to(dtype) for n, t in made.tensors().items()}
    after = {n: t.to(dtype) for n, t in moved(made.tensors()).items()}
    found = drift(made.save(tmp_path / "base", before, shards=shards), made.save(tmp_path / "sft", after))
    assert {t.name for t in found.tensors} == set(before)
    for t in found.tensors:
        expected = made.direct(before[t.name].reshape(-1, before[t.name].shape[-1]), after[t.name].reshape(-1, after[t.name].shape[-1]))  # fmt: skip
        assert t.relative == pytest.approx(expected["relative"], rel=1e-5)
        if t.spectrum is None:
            assert len(t.shape) == 1
            continue
        assert t.spectrum.spectral.value == pytest.approx(expected["spectral"], rel=1e-5)
        assert t.spectrum.stable_rank.value == pytest.approx(expected["stable_rank"], rel=1e-5)
        assert t.spectrum.effective_rank.value == pytest.approx(expected["effective_rank"], rel=1e-5)
    delta = math.sqrt(sum(float(((after[n].double() - before[n].double()) ** 2).sum()) for n in before))
    base = math.sqrt(sum(float((before[n].double() ** 2).sum()) for n in before))
    assert found.total.relative == pytest.approx(delta / base, rel=1e-5)
    assert sum(g.share for g in found.kinds) == pytest.approx(1)
    assert [g.name for g in found.layers] == ["model.layers.0", "model.layers.1", "model.layers.2"]


def test_small_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = made.save(tmp_path / "base", made.tensors()), made.save(tmp_path / "sft", moved(made.tensors()))
    whole = drift(*sides)
    monkeypatch.setattr("forgetbench.drift.walk.BLOCK_BYTES", 400)
    parts = drift(*sides)
    for a, b in zip(whole.tensors, parts.tensors, strict=True):
        assert a.spectrum == b.spectrum
        assert a.base_norm == pytest.approx(b.base_norm, rel=1e-12)


def test_the_same_checkpoint_did_not_move(tmp_path: Path) -> None:
    side = made.save(tmp_path / "base", made.tensors())
    found = drift(side, side)
    assert found.total.relative == 0.0
    assert all(t.delta_norm == 0.0 and t.spectrum is None for t in found.tensors)
    assert found.reading == ("Every tensor that was compared is the same in both.",)


def test_swapping_sides_keeps_the_change_and_scaling_both_keeps_the_ratio(tmp_path: Path) -> None:
    before, after = made.tensors(), moved(made.tensors())
    sides = made.save(tmp_path / "a", before), made.save(tmp_path / "b", after)
    there, back = drift(*sides), drift(sides[1], sides[0])
    for a, b in zip(there.tensors, back.tensors, strict=True):
        assert a.delta_norm == pytest.approx(b.delta_norm, rel=1e-6)
    scaled = drift(
        made.save(tmp_path / "c", {n: 4 * t for n, t in before.items()}),
        made.save(tmp_path / "d", {n: 4 * t for n, t in after.items()}),
    )
    for a, b in zip(there.tensors, scaled.tensors, strict=True):
        assert a.relative == pytest.approx(b.relative, rel=1e-5)


def test_reading_names_the_place(tmp_path: Path) -> None:
    before = made.tensors()
    after = dict(before)
    for layer in (1, 2):
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        after[name] = before[name] + 0.1
    found = drift(made.save(tmp_path / "base", before), made.save(tmp_path / "sft", after))
    assert found.reading[1].startswith("Most of the change sits in mlp.down_proj of layers 1 to 2: 100 % of")
    assert found.kinds[0].name == "mlp.down_proj"
    assert found.kinds[0].stable_rank == pytest.approx(1, abs=1e-4)
    even = drift(made.save(tmp_path / "even", before), made.save(tmp_path / "moved", moved(before)))
    assert even.reading[1].startswith("The change is spread evenly")


def test_special_tokens_stand_apart(tmp_path: Path) -> None:
    before = made.tensors(head=True)
    after = {n: t.clone() for n, t in before.items()}
    after["model.embed_tokens.weight"] += 0.01
    after["model.embed_tokens.weight"][48] += 1.0
    after["lm_head.weight"][49] += 0.5
    found = drift(made.save(tmp_path / "base", before), made.save(tmp_path / "sft", after))
    head, rows = found.tokens
    assert (rows.tensor, rows.special, rows.others) == ("model.embed_tokens.weight", 3, 47)
    difference = (after[rows.tensor] - before[rows.tensor]).double().norm(dim=1)
    assert rows.special_moved == pytest.approx(float((difference[47:] ** 2).mean().sqrt()), rel=1e-4)
    assert rows.others_moved == pytest.approx(float((difference[:47] ** 2).mean().sqrt()), rel=1e-4)
    assert rows.ratio == pytest.approx(rows.special_moved / rows.others_moved)
    assert (rows.tokens[0].id, rows.tokens[0].text) == (48, "<|assistant|>")
    assert head.ratio is None
    assert any("only the rows of special tokens moved" in line for line in found.reading)


def test_a_tied_head_that_is_stored_beside_the_embedding(tmp_path: Path) -> None:
    """As transformers loads it: one tensor where the values are equal, a head of its own where they are not."""
    tied = {"tie_word_embeddings": True}
    values = made.tensors()
    base = made.save(tmp_path / "base", values)
    copy = values | {"lm_head.weight": values["model.embed_tokens.weight"].clone()}
    found = drift(base, made.save(tmp_path / "copy", copy, config=tied))
    assert "lm_head.weight" not in by_name(found)
    assert found.total.relative == 0.0
    assert (found.only_base, found.only_candidate) == ((), ())
    assert "Both take the output head from the embedding: it is counted once." in found.notes
    stale = made.save(tmp_path / "stale", copy | {"lm_head.weight": copy["lm_head.weight"] + 1.0}, config=tied)
    found = drift(base, stale)
    assert by_name(found)["lm_head.weight"].delta_norm == pytest.approx(math.sqrt(made.VOCABULARY * made.HIDDEN))
    assert by_name(found)["model.embed_tokens.weight"].delta_norm == 0.0
    assert any("but lm_head.weight is stored with values of its own" in note for note in found.notes)


def test_resized_vocabulary_is_compared_on_shared_rows(tmp_path: Path) -> None:
    before, after = made.tensors(), made.tensors(vocabulary=made.VOCABULARY + 8)
    after["model.embed_tokens.weight"][: made.VOCABULARY] = before["model.embed_tokens.weight"]
    found = drift(made.save(tmp_path / "base", before), made.save(tmp_path / "sft", after))
    embedding = by_name(found)["model.embed_tokens.weight"]
    assert embedding.shape == (made.VOCABULARY, made.HIDDEN)
    assert embedding.delta_norm == 0.0
    assert any("50 rows in the base and 58 in the candidate: the first 50 are compared" in n for n in found.notes)


def test_ids_with_other_meanings_are_counted(tmp_path: Path) -> None:
    base = made.save(tmp_path / "base", made.tensors())
    candidate = made.save(tmp_path / "sft", moved(made.tensors()))
    told = json.loads((tmp_path / "sft" / "tokenizer.json").read_text())
    told["model"]["vocab"]["w1"], told["model"]["vocab"]["w2"] = 2, 1
    (tmp_path / "sft" / "tokenizer.json").write_text(json.dumps(told))
    assert any(n.startswith("2 ids stand for different tokens") for n in drift(base, candidate).notes)


def test_a_head_on_one_side_is_held_against_the_tied_embedding(tmp_path: Path) -> None:
    before = made.tensors()
    after = {**before, "lm_head.weight": before["model.embed_tokens.weight"] + 0.5}
    tied, untied = made.save(tmp_path / "tied", before), made.save(tmp_path / "untied", after)
    found = drift(tied, untied)
    expected = made.direct(before["model.embed_tokens.weight"], after["lm_head.weight"])
    assert by_name(found)["lm_head.weight"].relative == pytest.approx(expected["relative"], rel=1e-5)
    assert any("The base takes lm_head.weight from its embedding" in n for n in found.notes)
    assert found.only_candidate == ()
    assert any("The candidate takes" in n for n in drift(untied, tied).notes)
    assert any("counted once" in n for n in drift(tied, tied).notes)


def test_one_sided_quantised_and_odd_tensors_are_named(tmp_path: Path) -> None:
    before, after = made.tensors(), moved(made.tensors())
    after["model.extra.weight"] = torch.zeros(2, 2)
    q, d = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"
    after[q] = torch.zeros(made.HIDDEN, made.HIDDEN, dtype=torch.int8)
    after[d] = after[d][:10]
    del after["model.norm.weight"]
    after["model.layers.2.input_layernorm.weight"][0] = math.nan
    quantised = {"quantization_config": {"quant_method": "some"}}
    found = drift(made.save(tmp_path / "base", before), made.save(tmp_path / "sft", after, config=quantised))
    assert found.only_base == ("model.norm.weight",)
    assert found.only_candidate == ("model.extra.weight",)
    why = {s.name: s.why for s in found.skipped}
    assert why == {
        q: "is of type F32 and I8: quantised or no weight, so that it is not compared",
        d: "has the shape [24, 40] in the base and [10, 40] in the candidate",
        "model.layers.2.input_layernorm.weight": "holds values that are not finite",
    }
    assert not {*why} & {t.name for t in found.tensors}
    assert any("The candidate is quantised" in n for n in found.notes)


def test_a_stack_of_experts_has_norms_and_no_rank(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.experts.down_proj"
    before = {name: torch.ones(4, 6, 5)}
    found = drift(made.save(tmp_path / "a", before), made.save(tmp_path / "b", {name: before[name] * 1.5}))
    (only,) = found.tensors
    assert (only.relative, only.shape, only.spectrum) == (pytest.approx(0.5), (4, 6, 5), None)


def test_nothing_in_common(tmp_path: Path) -> None:
    one, other = {"a.weight": torch.ones(2, 2)}, {"b.weight": torch.ones(2, 2)}
    found = drift(made.save(tmp_path / "a", one), made.save(tmp_path / "b", other))
    assert found.reading == ("No tensor could be compared.",)
    assert found.total.relative == 0.0


def test_directions_can_be_left_out(tmp_path: Path) -> None:
    sides = made.save(tmp_path / "base", made.tensors()), made.save(tmp_path / "sft", moved(made.tensors()))
    assert all(t.directions is None for t in drift(*sides, directions=False).tensors)
    asked = [t.directions.asked for t in drift(*sides).tensors if t.directions is not None]
    assert asked == [10] * 6  # six matrices in layers, the embedding not


def test_large_matrices_go_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit lowered, a matrix of a model takes the randomised road and says so."""
    name = "model.layers.0.mlp.up_proj.weight"
    before = {name: torch.randn(200, 180, generator=torch.Generator().manual_seed(1))}
    after = moved(before)
    sides = made.save(tmp_path / "a", before), made.save(tmp_path / "b", after)
    monkeypatch.setattr("forgetbench.drift.walk.spectrum_of", lambda m, s, seed: walk_spectrum(m, s, seed))
    (found,) = walk(*sides, directions=False).tensors
    assert found.spectrum is not None
    assert found.spectrum.method == "krylov"
    expected = made.direct(before[name], after[name])
    for bounds, key in ((found.spectrum.spectral, "spectral"), (found.spectrum.effective_rank, "effective_rank")):
        assert bounds.low * (1 - 1e-5) <= expected[key] <= bounds.high


def walk_spectrum(matrix: np.ndarray, squares: float, seed: int):  # type: ignore[no-untyped-def]
    from forgetbench.drift.measures import spectrum_of

    return spectrum_of(matrix, squares, full=100, seed=seed)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.12.mlp.down_proj.weight", Place("model.layers", 12, "mlp.down_proj")),
        ("transformer.h.3.attn.c_attn.weight", Place("transformer.h", 3, "attn.c_attn")),
        ("model.layers.1.mlp.experts.5.w1.weight", Place("model.layers", 1, "mlp.experts.w1")),
        ("model.layers.0.self_attn.q_proj.bias", Place("model.layers", 0, "self_attn.q_proj.bias")),
        ("lm_head.weight", Place("", None, "lm_head")),
    ],
)
def test_places(name: str, place: Place) -> None:
    assert place_of(name) == place


def test_layers_are_ordered_by_number() -> None:
    assert in_order(["l.10.w", "l.2.w", "a.w"]) == ["a.w", "l.2.w", "l.10.w"]


def header_of(file: Path) -> tuple[dict[str, dict[str, object]], bytes]:
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def test_broken_shards_end_in_one_line(tmp_path: Path) -> None:
    values = made.tensors()
    good = made.save(tmp_path / "good", values)

    def fails(folder: str, match: str) -> None:
        with pytest.raises(UsageError, match=match) as error:
            drift(good, Side(folder, tmp_path / folder))
        assert "\n" not in str(error.value)

    made.save(tmp_path / "missing", values, shards=3)
    (tmp_path / "missing" / "model-00002-of-00003.safetensors").unlink()
    fails("missing", "names 1 missing shards")
    made.save(tmp_path / "cut", values)
    cut = tmp_path / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-4])
    fails("cut", "its header says")
    made.save(tmp_path / "swapped", values, shards=2)
    index = tmp_path / "swapped" / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors"
    told["weight_map"]["model.nowhere.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(told))
    fails("swapped", "which does not hold it")
    made.save(tmp_path / "lying", values)
    file = tmp_path / "lying" / "model.safetensors"
    header, data = header_of(file)
    header["model.norm.weight"]["shape"] = [made.HIDDEN + 1]
    blob = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(blob)) + blob + data)
    fails("lying", "its shape says 100")
    (tmp_path / "pickled").mkdir()
    torch.save(values, tmp_path / "pickled" / "pytorch_model.bin")
    fails("pickled", "is not safetensors")
    (tmp_path / "empty").mkdir()
    fails("empty", "holds no weights")


def test_slices_equal_the_whole(tmp_path: Path) -> None:
    values = {"x.weight": torch.randn(17, 5, 2, dtype=torch.float32).to(torch.bfloat16)}
    made.save(tmp_path / "a", values)
    shards = open_shards(tmp_path / "a")
    whole = values["x.weight"].float().reshape(17, 10).numpy()
    np.testing.assert_array_equal(shards.read("x.weight"), whole)
    np.testing.assert_array_equal(shards.read("x.weight", 3, 9), whole[3:9])


def test_only_a_tied_head_is_said_to_be_the_embedding(tmp_path: Path) -> None:
    values = made.tensors()

    def notes(name: str, tensors: dict[str, torch.Tensor], config: dict[str, object]) -> str:
        side = made.save(tmp_path / name, tensors, config=config)
        return " ".join(drift(side, side).notes)

    assert "counted once" in notes("tied", values, {"tie_word_embeddings": True})
    assert "counted once" in notes("nested", values, {"tie_word_embeddings": None, "text_config": {"tie_word_embeddings": True}})  # fmt: skip
    assert "counted once" in notes("gemma", values, {"model_type": "gemma", "tie_word_embeddings": None})
    assert "counted once" not in notes("llama", values, {"tie_word_embeddings": None})
    assert "counted once" not in notes("unknown", values, {"model_type": "of_mine", "tie_word_embeddings": None})
    classifier = {**values, "score.weight": torch.ones(2, made.HIDDEN)}
    assert "counted once" not in notes("classifier", classifier, {"tie_word_embeddings": True})
    glm = {**values, "transformer.output_layer.weight": torch.ones(made.VOCABULARY, made.HIDDEN)}
    assert "counted once" not in notes("glm", glm, {"tie_word_embeddings": True})


def test_a_classifier_is_not_held_against_its_embedding(tmp_path: Path) -> None:
    classifier = made.save(tmp_path / "c", {**made.tensors(), "score.weight": torch.ones(2, made.HIDDEN)})
    model = made.save(tmp_path / "m", made.tensors(head=True))
    found = drift(classifier, model)
    assert found.only_base == ("score.weight",)
    assert found.only_candidate == ("lm_head.weight",)


def test_a_cast_is_said(tmp_path: Path) -> None:
    before = made.tensors()
    after = {n: t.to(torch.bfloat16) for n, t in before.items()}
    found = drift(made.save(tmp_path / "base", before), made.save(tmp_path / "cast", after))
    (note,) = (n for n in found.notes if "rounding" in n)
    assert note.startswith("Types of base and candidate differ (tensors: 11 F32 and BF16)")
    same = drift(made.save(tmp_path / "a", before), made.save(tmp_path / "b", moved(before)))
    assert not any("rounding" in n for n in same.notes)


def test_the_first_sentence_says_how_much_could_be_compared(tmp_path: Path) -> None:
    before = made.tensors()
    renamed = {n.replace("model.layers", "model.language_model.layers"): t for n, t in before.items()}
    base, other = made.save(tmp_path / "base", before), made.save(tmp_path / "renamed", renamed)
    found = drift(base, other)
    count = {n: t.numel() for n, t in (before | renamed).items()}
    share = sum(count[n] for n in before if n in renamed) / sum(count.values())
    assert 0.1 < share < 0.2
    assert found.reading == (f"Only {round(100 * share)} % of the weights could be compared: those did not change.",)
    (note,) = (n for n in found.notes if n.startswith("Tensors that were not compared"))
    assert "0 of those that both have, 9 that only the base has, 9 that only the candidate has" in note
    broken = {n: t.clone() for n, t in before.items()}
    broken["model.norm.weight"][0] = math.inf
    found = drift(base, made.save(tmp_path / "broken", broken))
    assert found.reading == ("All but 0.41 % of the weights could be compared: those did not change.",)


def test_a_part_that_holds_most_is_not_hidden_by_a_larger_one(tmp_path: Path) -> None:
    """The layers hold most by more than their size alone, but not by enough; one kind of them does."""
    before = {"model.embed_tokens.weight": torch.zeros(27, 5)}
    for i in range(2):
        before |= {f"model.layers.{i}.{kind}.weight": torch.zeros(10, 6) for kind in ("mlp.up", "attn.q")}
    after = {n: t.clone() for n, t in before.items()}
    after["model.embed_tokens.weight"] += math.sqrt(0.05 / 135)
    for name, size in (("mlp.up", 0.60), ("attn.q", 0.35)):
        for i in range(2):
            after[f"model.layers.{i}.{name}.weight"] += math.sqrt(size / 120)
    found = drift(made.save(tmp_path / "base", before), made.save(tmp_path / "sft", after))
    assert found.reading[1] == (
        "Most of the change sits in mlp.up of all layers: 60 % of the squared change in 32 % of the weights."
    )
