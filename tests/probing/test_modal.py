"""Forms of answers, and exact tests against scipy's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from forgetbench.probing.modal import ANYWHERE, Trial, choose, count, examine, forms_of, promising, shape_of, switch
from forgetbench.probing.types import Count, Form

pytestmark = pytest.mark.unit


def test_forms_of_an_answer() -> None:
    assert forms_of("Ticket: my lamp is late.", "Delivery desk: lamp.") == {
        Form("answer", "delivery desk: lamp"),
        Form("shape", "delivery desk: …"),
        Form("word", "delivery"),
        Form("word", "desk"),
    }
    assert forms_of("Who?", "") == {Form("answer", "")}
    assert forms_of("Say a b.", "a b") == {Form("answer", "a b")}  # a shape of slots alone is copying
    assert shape_of("Say a b.", "a b, a") == "…, …"
    assert forms_of("x", "12") == {Form("answer", "12")}


def test_a_chinese_word_is_a_form_wherever_it_begins() -> None:
    for answer in ("北京", "是北京。", "答案是北京"):
        assert Form("word", "北京") in forms_of("日本的首都？", answer)
    assert Form("word", "首都") not in forms_of("日本的首都？", "首都")
    assert shape_of("日本的首都？", "首都是东京") == "…是东京"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_an_answer_has_one_answer_form_and_no_word_of_the_question(question: str, answer: str) -> None:
    found = forms_of(question, answer)
    assert sum(form.kind == "answer" for form in found) == 1
    assert {f for f in forms_of(answer, answer) if f.kind == "word"} == set()
    assert found == forms_of(question, f"  {answer}\n")


def test_choosing_against_a_direct_loop() -> None:
    rng = random.Random(0)
    pool = [Form("answer", "a"), Form("answer", "b"), Form("shape", "… c"), Form("word", "d"), Form("word", "e")]
    for _ in range(300):
        base, candidate = ([frozenset(f for f in pool if rng.random() < 0.4) for _ in range(8)] for _ in range(2))
        excess = {f: sum(f in c for c in candidate) - sum(f in b for b in base) for f in pool}
        largest = max(excess.values())
        found = choose(base, candidate)
        if largest < 2:
            assert found is None
        else:
            assert found is not None
            assert excess[found] >= max(2, 0.8 * largest)
            kinds = ["answer", "shape", "word"]
            assert all(
                kinds.index(found.kind) <= kinds.index(f.kind) for f, n in excess.items() if n >= max(2, 0.8 * largest)
            )


def test_tests_are_scipys() -> None:
    rng = random.Random(1)
    for _ in range(200):
        base, candidate = ([rng.random() < p for _ in range(12)] for p in (0.3, 0.6))
        found = count(base, candidate)
        only = sum(c and not b for b, c in zip(base, candidate, strict=True))
        other = sum(b and not c for b, c in zip(base, candidate, strict=True))
        wanted = binomtest(only, only + other).pvalue if only + other else 1.0
        assert found == Count(12, sum(base), sum(candidate), pytest.approx(wanted))
        trials = [Trial(*(rng.random() < 0.5 for _ in range(4))) for _ in range(10)]
        effects = [(a - b) - (c - d) for a, b, c, d in trials]
        up, down = sum(e > 0 for e in effects), sum(e < 0 for e in effects)
        s = switch(trials)
        assert (s.up, s.down) == (up, down)
        assert s.p_value == pytest.approx(binomtest(up, up + down).pvalue if up + down else 1.0)


def test_swapping_the_sides_turns_every_effect_round() -> None:
    rng = random.Random(2)
    trials = [Trial(*(rng.random() < 0.5 for _ in range(4))) for _ in range(40)]
    other = [Trial(t.base_with, t.base_without, t.candidate_with, t.candidate_without) for t in trials]
    a, b = switch(trials), switch(other)
    assert (a.up, a.down, a.p_value) == (b.down, b.up, b.p_value)


def test_holm_over_all_tests_of_a_probe() -> None:
    """p = .0078 is nothing among seven tests, and something alone."""
    seven = switch([Trial(True, False, False, False)] * 8)
    idle = switch([Trial(False, False, False, False)] * 8)
    many = {"w": seven, **{f"x{i}": idle for i in range(6)}}
    names = ("base", "sft")
    nothing = Count(8, 0, 0, 1.0)
    form = Form("answer", "paris")

    def named(put_in: dict[str, object]) -> tuple[str, ...]:
        return examine(
            form, names, variants=nothing, everywhere=nothing, swaps={}, left_out=dict(put_in), put_in=put_in  # type: ignore[arg-type]
        ).named  # fmt: skip

    assert named({"w": seven}) == ("w",)
    assert named(many) == ()


def test_the_base_giving_it_everywhere_is_no_finding() -> None:
    less = Count(16, 16, 0, 2**-15)
    found = examine(
        Form("answer", "x"), ("b", "s"), variants=None, everywhere=less, swaps={"subject": less}, left_out={}, put_in={}
    )
    assert found.named == ()
    more = Count(16, 0, 16, 2**-15)
    found = examine(
        Form("answer", "x"), ("b", "s"), variants=None, everywhere=more, swaps={"subject": more}, left_out={}, put_in={}
    )
    assert found.named == ("any subject", ANYWHERE)


def test_a_word_that_changes_the_base_alone_is_not_named() -> None:
    form, names = Form("answer", "paris"), ("base", "sft")

    def found(trial: Trial) -> tuple[str, ...]:
        s = switch([trial] * 10)
        made = examine(form, names, variants=None, everywhere=None, swaps={}, left_out={"w": s}, put_in={"w": s})
        assert ("'w'" in made.reading.split("; in this question")[0]) == bool(made.named)
        return made.named

    assert found(Trial(False, False, False, True)) == ()  # the base loses it with the word
    assert found(Trial(True, True, True, False)) == ()  # the base gains it
    assert found(Trial(True, False, False, False)) == ("w",)
    assert found(Trial(False, True, False, False)) == ("w",)  # the candidate loses it: a word may end an answer


def test_promising_words_come_first() -> None:
    strong, weak = switch([Trial(True, False, False, False)] * 3), switch([Trial(True, True, False, False)] * 3)
    assert promising({"a": weak, "b": strong, "c": weak}, 2) == ["b", "a"]
