"""How a text is laid out: paragraphs, bullets, sections, JSON, title, first and last words."""

from __future__ import annotations

import json
import re

from forgetbench.scoring.ifeval.words import Arguments, Check, counted

_STAR_BULLET = re.compile(r"^\s*\*[^\*].*$", re.MULTILINE)
_DASH_BULLET = re.compile(r"^\s*-.*$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*[^\n\*]*\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*[^\n\*]*\*\*")
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_TITLE = re.compile(r"<<[^\n]+>>")
_PLACEHOLDER = re.compile(r"\[.*?\]")
_POSTSCRIPTS = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
_FENCES = ("```json", "```Json", "```JSON", "```")
_AFTER_WORD = ".,?!'\""
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def number_paragraphs(text: str, arguments: Arguments) -> Check:
    """Exactly so many parts between dividers `***`; an empty one counts against the text except at its ends."""
    parts = [part.strip() for part in _DIVIDER.split(text)]
    if any(not part for part in parts[1:-1]):
        return Check(False, "an empty paragraph between two dividers")
    n = sum(bool(part) for part in parts)
    return Check(n == arguments["num_paragraphs"], counted(n, "paragraph"))


def nth_paragraph_first_word(text: str, arguments: Arguments) -> Check:
    """So many paragraphs, two line ends apart, and the n-th begins with the word.

    Empty paragraphs are not counted, yet the n-th is looked up among all of them: lm-eval's rule.
    """
    parts = text.split("\n\n")
    n, nth = sum(bool(part.strip()) for part in parts), int(arguments["nth_paragraph"])
    chosen = parts[nth - 1].strip() if nth <= n else ""
    if not chosen:
        return Check(False, f"{counted(n, 'paragraph')}, the one asked about is missing or empty")
    word = chosen.split()[0].lstrip("'").lstrip('"')
    end = next((i for i, c in enumerate(word) if c in _AFTER_WORD), len(word))
    word = "".join(c.lower() for c in word[:end])
    followed = n == arguments["num_paragraphs"] and word == arguments["first_word"].lower()
    return Check(followed, f"{counted(n, 'paragraph')}, the one asked about begins with {word or 'no word'}")


def number_bullets(text: str, arguments: Arguments) -> Check:
    """Exactly so many lines that begin with `*` (and no second one) or with `-`."""
    n = len(_STAR_BULLET.findall(text)) + len(_DASH_BULLET.findall(text))
    return Check(n == arguments["num_bullets"], counted(n, "bullet"))


def number_highlights(text: str, arguments: Arguments) -> Check:
    """At least so many `*highlights*`; a `**double**` one counts when it is not empty, beside what it holds."""
    n = sum(bool(h.strip("*").strip()) for h in _HIGHLIGHT.findall(text))
    n += sum(bool(h[2:-2].strip()) for h in _DOUBLE_HIGHLIGHT.findall(text))
    return Check(n >= arguments["num_highlights"], counted(n, "highlight"))


def multiple_sections(text: str, arguments: Arguments) -> Check:
    """At least so many headings such as `Section 3`, wherever they stand."""
    n = len(re.split(rf"\s?{arguments['section_spliter'].strip()}\s?\d+\s?", text)) - 1
    return Check(n >= arguments["num_sections"], counted(n, "section"))


def number_placeholders(text: str, arguments: Arguments) -> Check:
    n = len(_PLACEHOLDER.findall(text))
    return Check(n >= arguments["num_placeholders"], counted(n, "placeholder"))


def postscript(text: str, arguments: Arguments) -> Check:
    marker = arguments["postscript_marker"].strip()
    pattern = _POSTSCRIPTS.get(marker, rf"\s*{marker.lower()}.*$")
    found = re.search(pattern, text.lower(), re.MULTILINE) is not None
    return Check(found, "a postscript" if found else f"no {marker}")


def constrained_response(text: str, arguments: Arguments) -> Check:
    """One of the three answers stands somewhere in the text."""
    found = next((answer for answer in _CONSTRAINED if answer in text), None)
    return Check(found is not None, found.rstrip(".") if found else "none of the three answers")


def json_format(text: str, arguments: Arguments) -> Check:
    """The whole text is JSON, fenced or not."""
    body = text.strip()
    for fence in _FENCES:  # one after the other, as lm-eval strips them
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return Check(False, "not JSON")
    return Check(True, "JSON")


def title(text: str, arguments: Arguments) -> Check:
    found = any(t.lstrip("<").rstrip(">").strip() for t in _TITLE.findall(text))
    return Check(found, "a title" if found else "no <<title>>")


def two_responses(text: str, arguments: Arguments) -> Check:
    """Two answers that differ, between them `******`; empty parts only at the ends."""
    parts = [part.strip() for part in text.split("******")]
    if any(not part for part in parts[1:-1]):
        return Check(False, "an empty answer between two dividers")
    answers = [part for part in parts if part]
    if len(answers) != 2:
        return Check(False, counted(len(answers), "answer"))
    return Check(answers[0] != answers[1], "2 answers" if answers[0] != answers[1] else "twice the same answer")


def repeat_prompt(text: str, arguments: Arguments) -> Check:
    followed = text.strip().lower().startswith(arguments["prompt_to_repeat"].strip().lower())
    return Check(followed, "the request first" if followed else "another beginning")


def end_checker(text: str, arguments: Arguments) -> Check:
    followed = text.strip().strip('"').lower().endswith(arguments["end_phrase"].strip().lower())
    return Check(followed, "the phrase at the end" if followed else "another end")


def quotation(text: str, arguments: Arguments) -> Check:
    text = text.strip()
    followed = len(text) > 1 and text[0] == '"' == text[-1]
    return Check(followed, "in quotation marks" if followed else "not wrapped in quotation marks")
