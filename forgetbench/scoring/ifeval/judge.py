"""All instruction types by their ids, and the two verdicts on a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from forgetbench.scoring.ifeval import shape, words

Checker = Callable[[str, Mapping[str, Any]], words.Check]

_TYPES: Mapping[str, tuple[Checker, tuple[str, ...]]] = {
    "keywords:existence": (words.keywords_existence, ("keywords",)),
    "keywords:frequency": (words.keywords_frequency, ("keyword", "frequency", "relation")),
    "keywords:forbidden_words": (words.keywords_forbidden, ("forbidden_words",)),
    "keywords:letter_frequency": (words.letter_frequency, ("letter", "let_frequency", "let_relation")),
    "language:response_language": (words.response_language, ("language",)),
    "length_constraints:number_sentences": (words.number_sentences, ("num_sentences", "relation")),
    "length_constraints:number_paragraphs": (shape.number_paragraphs, ("num_paragraphs",)),
    "length_constraints:number_words": (words.number_words, ("num_words", "relation")),
    "length_constraints:nth_paragraph_first_word": (
        shape.nth_paragraph_first_word,
        ("num_paragraphs", "nth_paragraph", "first_word"),
    ),
    "detectable_content:number_placeholders": (shape.number_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": (shape.postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": (shape.number_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": (shape.constrained_response, ()),
    "detectable_format:number_highlighted_sections": (shape.number_highlights, ("num_highlights",)),
    "detectable_format:multiple_sections": (shape.multiple_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": (shape.json_format, ()),
    "detectable_format:title": (shape.title, ()),
    "combination:two_responses": (shape.two_responses, ()),
    "combination:repeat_prompt": (shape.repeat_prompt, ("prompt_to_repeat",)),
    "startend:end_checker": (shape.end_checker, ("end_phrase",)),
    "startend:quotation": (shape.quotation, ()),
    "change_case:capital_word_frequency": (words.capital_words, ("capital_frequency", "capital_relation")),
    "change_case:english_capital": (words.english_capital, ()),
    "change_case:english_lowercase": (words.english_lowercase, ()),
    "punctuation:no_comma": (words.no_comma, ()),
}

NEEDS: Mapping[str, tuple[str, ...]] = {name: needs for name, (_, needs) in _TYPES.items()}
"""Instruction id -> the arguments it cannot do without."""


class Instruction(NamedTuple):
    id: str
    arguments: Mapping[str, Any]


class Followed(NamedTuple):
    """The verdicts on one instruction."""

    strict: bool
    loose: bool
    seen: str
    """What the text has, as it stands."""


def loose_variants(text: str) -> tuple[str, ...]:
    """The text as it stands; without its first, its last, and both these lines; and each of the four without `*`."""
    lines = text.split("\n")
    shorter = ("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))
    cuts = (text, *shorter)
    return tuple(dict.fromkeys((*cuts, *(cut.replace("*", "") for cut in cuts))))


def follow(text: str, instructions: Sequence[Instruction]) -> list[Followed]:
    """strict: the text as it stands follows the instruction; loose: one of its variants does. Blank never does."""
    made: list[Followed] = []
    variants = [v for v in loose_variants(text) if v.strip()]
    for instruction in instructions:
        check, _ = _TYPES[instruction.id]
        strict = check(text, instruction.arguments) if text.strip() else words.Check(False, "nothing")
        loose = strict.followed or any(check(v, instruction.arguments).followed for v in variants)
        made.append(Followed(strict.followed, loose, strict.seen))
    return made
