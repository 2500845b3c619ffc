"""Variants: deterministic, never the question itself, gold kept where it must be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.errors import UsageError
from forgetbench.probing.templates import read_fields, read_probes, templated
from forgetbench.probing.variants import fold, frames, has_word, plain_variants, units, without

pytestmark = pytest.mark.unit

_NUMBER = re.compile(r"[.,:_-]?\d+(?:[.,:_/-]\d+)*")
TEXTS = st.text(alphabet=st.sampled_from("abcdefgXYZ 012.,:?!'-日本的首都é\n"), min_size=0, max_size=60)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.integers(0, 5))
def test_properties_of_all_variants(question: str, gold: str, seed: int) -> None:
    found = plain_variants(question, gold, seed=seed)
    assert found == plain_variants(question, gold, seed=seed)
    texts = [v.text for v in found]
    assert question not in texts
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)
    numbers = _NUMBER.findall(question)
    for variant in found:
        assert _NUMBER.findall(variant.text) == numbers, variant
        if variant.kind == "without":
            (word,) = variant.changed
            assert not has_word(variant.text, word)
            assert not variant.keeps_gold
        if variant.changed and variant.keeps_gold:
            assert not set(variant.changed) & {fold(gold[a:b]) for a, b in units(gold)}


def test_every_kind_is_there() -> None:
    found = plain_variants("What is the capital of Japan?", "Tokyo")
    assert {v.kind for v in found} == {"typo", "script", "case", "punctuation", "frame", "without"}
    assert sum(v.kind == "typo" for v in found) == 6
    assert [v.text for v in found if v.kind == "without"] == [
        *("is the capital of Japan?", "What the capital of Japan?", "What is capital of Japan?"),
        *("What is the of Japan?", "What is the capital Japan?", "What is the capital of?"),
    ]
    names = {v.name: v.text for v in found}
    assert names["full-width letters"] == "Ｗｈａｔ ｉｓ ｔｈｅ ｃａｐｉｔａｌ ｏｆ Ｊａｐａｎ？"
    assert names["no final mark"] == "What is the capital of Japan"


def test_a_seed_moves_the_typos_alone() -> None:
    one, two = (plain_variants("What is the capital of Japan?", seed=s) for s in (1, 2))
    assert {v.text for v in one if v.kind == "frame"} == {v.text for v in two if v.kind == "frame"}
    assert {v.text for v in one if v.kind == "typo"} != {v.text for v in two if v.kind == "typo"}


def test_a_typo_in_a_word_of_the_reference_leaves_nothing_known() -> None:
    """Copy this word: with a typo in it another word is right."""
    for variant in plain_variants("Please copy wonderful.", "wonderful"):
        if variant.kind == "typo":
            assert variant.keeps_gold == ("wonderful" in variant.text)
        if variant.kind == "case" or variant.name == "full-width letters":
            assert not variant.keeps_gold


def test_chinese() -> None:
    found = plain_variants("日本的首都是哪里？")
    assert [v.changed for v in found if v.kind == "without"] == [("日本",), ("的首",), ("都是",), ("哪里",)]
    assert "请问：日本的首都是哪里？" in {v.text for v in found}
    mixed = {v.name: v.text for v in plain_variants("用Python写一个list")}
    assert mixed["blanks between scripts"] == "用 Python 写一个 list"


def test_numbers_are_never_touched() -> None:
    found = plain_variants("What is 3.5 + 1,200 at 10:30, or .5 x 2 Covid19 cases?")
    names = {v.name: v.text for v in found}
    assert names["Chinese punctuation"] == "What is 3.5 + 1,200 at 10:30， or .5 x 2 Covid19 cases？"
    assert (
        names["full-width letters"] == "Ｗｈａｔ ｉｓ 3.5 ＋ 1,200 ａｔ 10:30， ｏｒ .5 ｘ 2 Ｃｏｖｉｄ19 ｃａｓｅｓ？"
    )
    assert {v.changed[0] for v in found if v.kind == "without"} == {"what", "is", "at", "or", "x", "cases"}
    assert without("3日5", "日") == "3 5"
    assert without("3 x .5", "x") == "3 .5"


def test_a_chinese_word_is_found_wherever_it_begins() -> None:
    for text in ("日本的首都是什么？", "埃及首都是哪里？", "请告诉我德国首都", "在美国首都叫什么", "首 都? 首都"):
        assert has_word(text, "首都")
        assert "首都" not in without(text, "首都")
    assert not has_word("首 都", "首都")
    assert without("首首都都", "首都") == ""
    assert (has_word("The cats", "cat"), has_word("The Cat.", "cat"), has_word("the cat日本", "cat")) == (
        False,
        True,
        True,
    )


def test_without_and_frames() -> None:
    assert without("The cat and the dog.", "the") == "cat and dog."
    assert frames("Who?")[0]("x {} y") == "x {} y"
    assert len({frame("Who?") for frame in frames("Who?")}) == 8


def test_reading_fields() -> None:
    pattern = "What is the {attribute} of {subject}?"
    assert read_fields("what is the largest city of Japan?", [pattern]) == {
        "attribute": "largest city",
        "subject": "Japan",
    }
    assert read_fields("Who?", [pattern]) == {}
    assert read_fields("a-a", ["{x}-{x}"]) == {"x": "a"}
    assert read_fields("a-b", ["{x}-{x}"]) == {}
    assert read_fields("1 of 2 or 1", ["{1} of {2nd} or {1}"]) == {"1": "1", "2nd": "2"}
    assert read_fields("x of y", ["{g1} of {g0}"]) == {"g1": "x", "g0": "y"}


YAML = """
question: "What is the {attribute} of {subject}?"
items:
  - {subject: Japan, attribute: capital, answer: Tokyo}
  - {subject: France, attribute: capital, answer: Paris}
  - {subject: Japan, attribute: largest port, answer: Yokohama}
  - {subject: Peru, answer: Lima}
templates:
  - {kind: subject, ask: "What is the {attribute} of {other.subject}?", expect: "{other.answer}", same: [attribute]}
  - {kind: attribute, ask: "What is the {other.attribute} of {subject}?", expect: "{other.answer}", same: [subject]}
  - {kind: reverse, ask: "{answer} is the {attribute} of which country?", expect: "{subject}"}
  - {kind: yes, ask: "Is {answer} the {attribute} of {subject}?"}
  - {kind: no, ask: "Is {other.answer} the {attribute} of {subject}?", same: [attribute]}
  - {kind: paraphrase, ask: "{subject} has which {attribute}?"}
  - {kind: other, ask: "{flag}?", expect: yes}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "probes.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_templates(tmp_path: Path) -> None:
    probes = read_probes(write(tmp_path, YAML.replace('  - {kind: other, ask: "{flag}?", expect: yes}\n', "")))
    question = "What is the capital of Japan?"
    found, notes = templated(question, {**probes.facts[0], "question": question}, probes)
    assert notes == []
    assert [(v.kind, v.text, v.expected, v.keeps_gold) for v in found] == [
        ("subject", "What is the capital of France?", ("Paris",), False),
        ("attribute", "What is the largest port of Japan?", ("Yokohama",), False),
        ("reverse", "Tokyo is the capital of which country?", ("Japan",), False),
        ("yes", "Is Tokyo the capital of Japan?", ("yes", "是", "对", "没错", "没有错", "不错", "正确"), False),
        ("no", "Is Paris the capital of Japan?", ("no", "不", "否", "没有", "错"), False),
        ("paraphrase", "Japan has which capital?", None, True),
    ]
    assert found[0].changed == ("japan",)
    assert found[0].name == "subject = France"
    none, notes = templated("x", {}, probes)
    assert none == []
    assert len(notes) == 6


ALIASES = """
question: "What is the {attribute} of {subject}?"
items:
  - {subject: Japan, attribute: capital, answer: "Tokyo | Tokio"}
  - {subject: France, attribute: capital, answer: "Paris | Lutetia"}
  - {subject: Edo Japan, attribute: capital, answer: "Tokio"}
templates:
  - {kind: no, ask: "Is {other.answer} the {attribute} of {subject}?", same: [attribute]}
  - {kind: yes, ask: "Is {answer} the {attribute} of {subject}?"}
  - {kind: subject, ask: "What is the {attribute} of {other.subject}?", expect: "{other.answer}"}
  - {kind: paraphrase, ask: "{subject} has which {attribute}?", expect: "{answer}"}
"""


@pytest.mark.parametrize("answer", ["Tokyo | Tokio", "Tokyo", "Tokio | Tokyo"])
def test_of_an_answer_with_aliases_the_first_is_asked_and_all_are_right(tmp_path: Path, answer: str) -> None:
    probes = read_probes(write(tmp_path, ALIASES))
    question = "What is the capital of Japan?"
    found, _ = templated(question, {**probes.facts[0], "question": question, "answer": answer}, probes)
    first, known = answer.split(" | ")[0], tuple(answer.split(" | "))
    asked = [(v.kind, v.text, v.expected, v.name) for v in found if v.kind in ("subject", "paraphrase")]
    assert asked == [
        ("subject", "What is the capital of France?", ("Paris", "Lutetia"), "subject = France"),
        ("subject", "What is the capital of Edo Japan?", ("Tokio",), "subject = Edo Japan"),
        ("paraphrase", "Japan has which capital?", known, "paraphrase"),
    ]
    assert [(v.text, v.name) for v in found if v.kind == "yes"] == [(f"Is {first} the capital of Japan?", "yes")]
    no = [(v.text, v.name) for v in found if v.kind == "no"]
    assert no[0] == ("Is Paris the capital of Japan?", "answer = Paris")
    # An answer that shares an alias with the item's own is no other answer.
    assert [text for text, _ in no[1:]] == (["Is Tokio the capital of Japan?"] if answer == "Tokyo" else [])


def test_a_bare_yes_is_a_word(tmp_path: Path) -> None:
    probes = read_probes(
        write(tmp_path, "items: [{a: yes, b: 1}]\ntemplates: [{kind: no, ask: '{a} {b}', expect: no}]")
    )
    assert probes.facts == [{"a": "yes", "b": "1"}]
    assert (probes.templates[0].kind, probes.templates[0].expect) == ("no", "no")


def test_swaps_are_bounded_and_seeded() -> None:
    from forgetbench.probing.templates import ProbeFile

    probes = ProbeFile.model_validate(
        {"items": [{"s": str(i)} for i in range(50)], "templates": [{"kind": "subject", "ask": "Which {other.s}?"}]}
    )
    one, _ = templated("Which 3?", {"s": "3"}, probes, seed=1, swaps=5)
    assert len(one) == 5
    assert one == templated("Which 3?", {"s": "3"}, probes, seed=1, swaps=5)[0]
    assert one != templated("Which 3?", {"s": "3"}, probes, seed=2, swaps=5)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YAML, r"probes.yaml:15: \{flag\} is a field of no item; use answer, attribute, question, subject$"),
        ("templates: [{kind: swap, ask: x}]", "probes.yaml:1: `templates.0.kind` is 'swap'"),
        ("templates: [{kind: yes}]", "`templates.0.ask` is missing"),
        ("item: []", "did you mean 'items'"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        read_probes(write(tmp_path, text))
    assert isinstance(caught.value, UsageError)
