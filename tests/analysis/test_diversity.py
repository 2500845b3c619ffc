from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from forgetbench.analysis.diversity import (
    compression_ratio,
    distinct_k,
    diversity_measures,
    ead_across_inputs,
    ead_per_input,
    repetition_across,
    vendi_per_input,
    vendi_score,
)
from forgetbench.analysis.equivalence import by_comparison
from forgetbench.analysis.ngrams import ead_by_group, ead_of_all
from forgetbench.analysis.openings import habit_measures
from forgetbench.analysis.outputs import Answered, Output, equal_lengths
from tests.analysis.null_worlds import VOCABULARY, embedding, outputs

pytestmark = pytest.mark.unit


def answered(base: Sequence[Sequence[str]], candidate: Sequence[Sequence[str]]) -> list[Answered]:
    """Texts by item and sample; a token is a character."""
    made = []
    for i, sides in enumerate(zip(base, candidate, strict=True)):
        b, s = (tuple(Output(t, tuple(map(ord, t)), "stop", t) for t in texts) for texts in sides)
        made.append(Answered(f"item{i}", b, s))
    return made


def same_on_both(world: list[Answered]) -> list[Answered]:
    return [dataclasses.replace(a, candidate=a.base) for a in world]


def test_per_input_is_the_mean_over_items() -> None:
    world = outputs(0)
    found = ead_per_input(world, VOCABULARY)
    expected = [
        ead_by_group([o.token_ids for o in a.candidate], np.zeros(3, dtype=np.int64), VOCABULARY)[0] for a in world
    ]
    assert found.candidate == pytest.approx(np.mean(expected))
    assert found.n == len(world)


def test_across_inputs_is_one_output_of_each_cut_to_equal_lengths() -> None:
    world = outputs(1)
    found = ead_across_inputs(world, VOCABULARY)
    each = np.arange(len(world))
    expected = []
    for j in range(3):
        cut = [a.base[j].token_ids[: len(a.candidate[j].token_ids)] for a in world]
        expected.append(ead_of_all(cut, each, VOCABULARY).value)
    assert found.base == pytest.approx(np.mean(expected))


def test_a_collapsed_candidate_is_seen_by_all() -> None:
    """Every answer of the candidate is one text; the base's are all different."""
    rng = np.random.default_rng(2)
    base = [["".join(rng.choice(list("abcdefgh"), 30)) for _ in range(4)] for _ in range(30)]
    world = answered(base, [["abcdefghabcdefghabcdefghabcdef"] * 4] * 30)
    found = {m.name: m for m in diversity_measures(world, 50_000, embed=lambda t: np.eye(256)[[ord(x[0]) for x in t]])}
    for name in ("ead_per_input", "ead_across_inputs", "distinct_4"):
        assert found[name].proven, name
        assert found[name].difference < 0.0, name
    for name in ("self_repetition_4", "compression_ratio"):
        assert found[name].proven, name
        assert found[name].difference > 0.0, name
    assert (found["distinct_4"].base, found["distinct_4"].candidate) == (4.0, 1.0)
    assert found["distinct_4"].reading == "4 samples of one question give 1.00 different answers on average, base 4.00"
    assert found["vendi_4"].candidate == pytest.approx(1.0)


def test_compression_against_zlib() -> None:
    world = answered([["hello hello hello"], ["abcabcabc"]], [["hello"], ["abcabcabcabc"]])
    found = compression_ratio(world)
    cut = [{"hello", "abcabcabc"}, {"hello", "abcabcabc"}]
    for value, texts in zip((found.base, found.candidate), cut, strict=True):
        ratios = [len(j) / len(zlib.compress(j, 6)) for j in ("\n".join(o).encode() for o in (texts, sorted(texts)))]
        assert value == pytest.approx(ratios[0]) or value == pytest.approx(ratios[1])
    tokens = compression_ratio(world, lambda ids: "".join(map(chr, ids)))
    assert (tokens.base, tokens.candidate) == (found.base, found.candidate)
    empty = compression_ratio(answered([[""], [""]], [[""], ["a"]]))
    assert empty.base == empty.candidate == 1 / len(zlib.compress(b"\n", 6))


def test_lengths_are_cut_pair_by_pair() -> None:
    world = answered([["abcdef"], ["ab"]], [["xyz"], ["uvwxyz"]])
    assert equal_lengths(world, 0) == ([tuple(map(ord, "abc")), tuple(map(ord, "ab"))], [(120, 121, 122), (117, 118)])
    with pytest.raises(ValueError, match="no output"):
        Answered("x", (), (Output("", ()),))
    with pytest.raises(ValueError, match="no items"):
        ead_per_input([], 10)


def test_longer_answers_alone_are_not_more_repetition() -> None:
    """The candidate's answers are the base's and as much again: cut to equal lengths nothing differs."""
    base = [[f"{i * 7919 % 1000:03} words of the answer"] for i in range(20)]
    world = answered(base, [[t[0] + " and then some more of it, and more"] for t in base])
    for found in (compression_ratio(world), repetition_across(world), ead_across_inputs(world, 50_000)):
        assert found.difference == pytest.approx(0.0, abs=1e-12)
        assert found.delta is not None
        assert found.delta.low == found.delta.high == 0.0


def test_distinct_k_takes_equal_numbers_of_samples() -> None:
    world = answered([["a", "b", "c"], ["a", "a", "b"]], [["a", "b"], ["x", "x", "x"]])
    found = distinct_k(world)
    assert (found.name, found.base, found.candidate) == ("distinct_2", 1.5, 1.5)
    all_one = distinct_k(world, by_comparison(lambda a, b: True))
    assert (all_one.base, all_one.candidate) == (1.0, 1.0)


@pytest.mark.parametrize("shape", [(6, 3), (4, 10), (1, 5)])
def test_vendi_against_the_kernel_itself(shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(3).normal(size=shape)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.clip(np.linalg.eigvalsh(unit @ unit.T / len(unit)), 1e-15, None)
    assert vendi_score(vectors) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-6)


def test_vendi_ends_of_the_range() -> None:
    assert vendi_score(np.eye(5)) == pytest.approx(5.0)
    assert vendi_score(np.ones((5, 3))) == pytest.approx(1.0)
    with pytest.raises(ValueError):
        vendi_score(np.zeros((2, 3)))
    world = outputs(4, items=10)
    found = vendi_per_input(world, embedding)
    expected = [vendi_score(embedding([o.text for o in a.base])) for a in world]
    assert found.base == pytest.approx(np.mean(expected))


def everything(world: list[Answered]) -> dict[str, tuple[float | None, float]]:
    found = (*diversity_measures(world, VOCABULARY, embed=embedding), *habit_measures(world))
    return {m.name: (m.base, m.candidate) for m in found}


def test_identical_outputs_differ_in_nothing() -> None:
    world = same_on_both(outputs(5))
    for m in (*diversity_measures(world, VOCABULARY, embed=embedding), *habit_measures(world)):
        assert m.difference == 0.0, m.name
        assert m.delta is not None
        assert m.delta.low <= 0.0 <= m.delta.high, m.name
        assert not m.proven


def test_order_of_items_changes_nothing() -> None:
    world = outputs(6)
    shuffled = [world[i] for i in np.random.default_rng(0).permutation(len(world))]
    first, second = everything(world), everything(shuffled)
    for name, values in first.items():
        assert second[name] == pytest.approx(values), name


def test_names_of_tokens_change_nothing() -> None:
    world = outputs(7)
    names = np.random.default_rng(1).permutation(VOCABULARY) + 1_000

    def renamed(made: tuple[Output, ...]) -> tuple[Output, ...]:
        return tuple(dataclasses.replace(o, token_ids=tuple(int(names[i]) for i in o.token_ids)) for o in made)

    other = [dataclasses.replace(a, base=renamed(a.base), candidate=renamed(a.candidate)) for a in world]
    first, second = everything(world), everything(other)
    for name, values in first.items():
        assert second[name] == pytest.approx(values), name


def test_items_twice_over_leave_the_means() -> None:
    world = outputs(8)
    twice = [dataclasses.replace(a, item=a.item + x, cluster=a.item) for a in world for x in "ab"]
    first, second = everything(world), everything(twice)
    of_all = ("ead_across_inputs", "self_repetition_4", "compression_ratio")
    for name, values in first.items():
        if name not in of_all:  # what is shared between items grows where each has a double
            assert second[name] == pytest.approx(values), name
    assert second["self_repetition_4"][0] > first["self_repetition_4"][0]


def test_many_items_are_left_out_in_groups() -> None:
    """Above 200 clusters: same value, an interval much as wide."""
    world = outputs(9, items=260, samples=1)
    found = repetition_across(world)
    assert found.delta is not None
    assert found.delta.low < found.difference < found.delta.high
    assert diversity_measures(world, VOCABULARY)[0].name == "ead_across_inputs"
