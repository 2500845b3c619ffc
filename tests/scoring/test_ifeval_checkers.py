"""Each of IFEval's 25 checkers on texts made by hand, the loose variants, the sentence splitter."""

from __future__ import annotations

from typing import Any

import pytest

from forgetbench.scoring.ifeval import NEEDS, Instruction, follow, loose_variants
from forgetbench.scoring.ifeval.text import count_words, language, sentences, tokens

pytestmark = pytest.mark.unit

ENGLISH = "this is a plain english sentence about the weather and the sea"

CASES: dict[str, list[tuple[dict[str, Any], str, bool]]] = {
    "keywords:existence": [
        ({"keywords": ["sea", "Weather"]}, ENGLISH, True),
        ({"keywords": ["sea"]}, "overseas", True),  # inside words too
        ({"keywords": ["sea", "moon"]}, ENGLISH, False),
    ],
    "keywords:frequency": [
        ({"keyword": " the ", "frequency": 3, "relation": "at least"}, ENGLISH, True),  # in "weather" too
        ({"keyword": "the", "frequency": 4, "relation": "at least"}, ENGLISH, False),
        ({"keyword": "the", "frequency": 4, "relation": "less than"}, ENGLISH, True),
        ({"keyword": "the", "frequency": 3, "relation": "less than"}, ENGLISH, False),
    ],
    "keywords:forbidden_words": [
        ({"forbidden_words": ["eat", "plan"]}, "weather, plane", True),  # whole words only
        ({"forbidden_words": ["eat", "plan"]}, "a PLAN.", False),
    ],
    "keywords:letter_frequency": [
        ({"letter": "E", "let_frequency": 2, "let_relation": "at least"}, "Eve", True),
        ({"letter": "e", "let_frequency": 3, "let_relation": "at least"}, "Eve", False),
        ({"letter": "e", "let_frequency": 2, "let_relation": "less than"}, "Eve", False),
        ({"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a #b", True),
        ({"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a", False),
    ],
    "language:response_language": [
        ({"language": "de"}, "Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter.", True),
        ({"language": "de"}, ENGLISH, False),
        ({"language": "de"}, "12345", True),  # nothing to tell a language by
    ],
    "length_constraints:number_sentences": [
        ({"num_sentences": 2, "relation": "at least"}, "One. Two!", True),
        ({"num_sentences": 3, "relation": "at least"}, "One. Two!", False),
        ({"num_sentences": 2, "relation": "less than"}, "One. Two!", False),
    ],
    "length_constraints:number_paragraphs": [
        ({"num_paragraphs": 2}, "a\n***\nb", True),
        ({"num_paragraphs": 2}, "***\na\n***\nb\n***", True),  # empty at the ends does not count
        ({"num_paragraphs": 2}, "a\n\nb", False),
        ({"num_paragraphs": 2}, "a *** *** b", False),
    ],
    "length_constraints:number_words": [
        ({"num_words": 3, "relation": "at least"}, "don't go", True),  # don, t, go
        ({"num_words": 4, "relation": "at least"}, "don't go", False),
        ({"num_words": 3, "relation": "less than"}, "don't go", False),
    ],
    "length_constraints:nth_paragraph_first_word": [
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Once"}, "a\n\n'once, there", True),
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "once"}, "a\n\ntwice", False),
        ({"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "once"}, "a\n\nonce", False),
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "once"}, "a\n\n\n\nonce", False),  # looked up empty
        ({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "once"}, "a", False),
    ],
    "detectable_content:number_placeholders": [
        ({"num_placeholders": 2}, "[name] lives in [city]", True),
        ({"num_placeholders": 2}, "[name lives in city]", False),
    ],
    "detectable_content:postscript": [
        ({"postscript_marker": "P.S."}, "Bye\np. s. call me", True),
        ({"postscript_marker": "P.S."}, "Bye\nPS call me", False),
        ({"postscript_marker": "P.P.S"}, "Bye\nP.P.S call me", True),
        ({"postscript_marker": "P.P.S"}, "Bye\nP.S. call me", False),
        ({"postscript_marker": "NB"}, "Bye\nnb call me", True),
    ],
    "detectable_format:number_bullet_lists": [
        ({"num_bullets": 2}, "* a\n- b", True),
        ({"num_bullets": 2}, "* a\n- b\n---", False),  # a rule counts
        ({"num_bullets": 1}, "** a\n* b", True),  # two stars are no bullet
    ],
    "detectable_format:constrained_response": [
        ({}, "Well. My answer is maybe.", True),
        ({}, "My answer is maybe", False),
    ],
    "detectable_format:number_highlighted_sections": [
        ({"num_highlights": 2}, "*a* and *b*", True),
        ({"num_highlights": 2}, "*a* and b", False),
        ({"num_highlights": 1}, "**\n**", False),
    ],
    "detectable_format:multiple_sections": [
        ({"section_spliter": " Section ", "num_sections": 2}, "Section 1\na\nSection 2\nb", True),
        ({"section_spliter": "Section", "num_sections": 2}, "SECTION 1\na\nSection 2\nb", False),
    ],
    "detectable_format:json_format": [
        ({}, '```json\n{"a": [1, 2]}\n```', True),
        ({}, '{"a": 1}', True),
        ({}, "Here: {}", False),
        ({}, "[" * 100_000, False),
    ],
    "detectable_format:title": [
        ({}, "<<poem of joy>>\nla", True),
        ({}, "<< >>", False),
        ({}, "<poem>", False),
    ],
    "combination:two_responses": [
        ({}, "a\n******\nb", True),
        ({}, "a ****** a", False),
        ({}, "a ****** b ****** c", False),
        ({}, "a ****** ****** b", False),
    ],
    "combination:repeat_prompt": [
        ({"prompt_to_repeat": "Say hello. "}, " say hello. Hello!", True),
        ({"prompt_to_repeat": "Say hello."}, "Sure. Say hello.", False),
    ],
    "startend:end_checker": [
        ({"end_phrase": "That is all. "}, 'Yes. "that is ALL."', True),
        ({"end_phrase": "That is all."}, "That is all. Bye", False),
    ],
    "startend:quotation": [
        ({}, ' "all of it" ', True),
        ({}, '"all" of it', False),
        ({}, '"', False),
    ],
    "change_case:capital_word_frequency": [
        ({"capital_frequency": 2, "capital_relation": "at least"}, "A WELL-KNOWN man", True),
        ({"capital_frequency": 2, "capital_relation": "at least"}, "WELL-KNOWN man", False),
        ({"capital_frequency": 2, "capital_relation": "less than"}, "NO WAY", False),
    ],
    "change_case:english_capital": [
        ({}, ENGLISH.upper(), True),
        ({}, ENGLISH.capitalize(), False),
        ({}, "DAS IST EIN GANZ GEWÖHNLICHER DEUTSCHER SATZ ÜBER DAS WETTER", False),
    ],
    "change_case:english_lowercase": [
        ({}, ENGLISH, True),
        ({}, ENGLISH.capitalize(), False),
        ({}, "das ist ein ganz gewöhnlicher deutscher satz über das wetter", False),
    ],
    "punctuation:no_comma": [
        ({}, "one; two", True),
        ({}, "one, two", False),
    ],
}


def strictly(name: str, arguments: dict[str, Any], text: str) -> bool:
    [verdict] = follow(text, [Instruction(name, arguments)])
    return verdict.strict


def test_all_types_are_tried() -> None:
    assert CASES.keys() == NEEDS.keys()
    assert len(CASES) == 25
    for name, cases in CASES.items():
        assert {wanted for _, _, wanted in cases} == {True, False}, name
        assert all(set(NEEDS[name]) <= arguments.keys() for arguments, _, _ in cases)


@pytest.mark.parametrize(
    ("name", "arguments", "text", "wanted"), [(name, *case) for name, cases in CASES.items() for case in cases]
)
def test_each_type(name: str, arguments: dict[str, Any], text: str, wanted: bool) -> None:
    assert strictly(name, arguments, text) is wanted


@pytest.mark.parametrize("text", ["", " \n "])
def test_nothing_follows_no_instruction(text: str) -> None:
    for name, cases in CASES.items():
        [verdict] = follow(text, [Instruction(name, cases[0][0])])
        assert (verdict.strict, verdict.loose) == (False, False), name


def test_loose_variants() -> None:
    assert loose_variants("*a*\nb\n*c*") == (
        "*a*\nb\n*c*",
        "b\n*c*",
        "*a*\nb",
        "b",
        "a\nb\nc",
        "b\nc",
        "a\nb",
    )
    assert loose_variants("one") == ("one", "")


def test_a_preamble_is_forgiven_loosely_only() -> None:
    [verdict] = follow('Sure, here it is:\n{"a": 1}', [Instruction("detectable_format:json_format", {})])
    assert (verdict.strict, verdict.loose, verdict.seen) == (False, True, "not JSON")
    [verdict] = follow("Sure, here", [Instruction("punctuation:no_comma", {})])
    assert (verdict.strict, verdict.loose) == (False, False)  # what is left is empty, which follows nothing


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Dr. Smith left. He was late!", ["Dr. Smith left.", "He was late!"]),
        ("At 5 p.m. The show began.", ["At 5 p.m.", "The show began."]),
        ("It costs 3.50 dollars. Cheap?", ["It costs 3.50 dollars.", "Cheap?"]),
        ("J. Bach wrote it.", ["J. Bach wrote it."]),
        ('"Stop." She ran.', ['"Stop."', "She ran."]),
        ("He ran (fast.) Then he fell.", ["He ran (fast.)", "Then he fell."]),
        ("Well... he said no.", ["Well... he said no."]),
        ("Well... The end.", ["Well...", "The end."]),
        ("Fruit, e.g. apples.", ["Fruit, e.g.", "apples."]),  # as the published scores have it
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


def test_words_and_tokens() -> None:
    assert count_words("don't stop_now 3.5") == 5
    assert tokens("It's A-OK. Go!") == ["It", "'s", "A-OK", ".", "Go", "!"]


def test_language_is_the_same_every_time() -> None:
    import langdetect

    assert langdetect.DetectorFactory.seed is None  # the library's own setting is left alone
    text = "Hola amigo, ok no problem, ciao bella"
    found = set()
    for _ in range(10):
        language.cache_clear()
        found.add(language(text))
    assert len(found) == 1
    assert language("...") is None
