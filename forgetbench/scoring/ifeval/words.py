"""What a text says: keywords, letters, cases, commas, language, lengths.

A checker takes the text and the instruction's arguments, and returns whether it is followed and what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from forgetbench.scoring.ifeval.text import count_words, language, sentences, tokens

Arguments = Mapping[str, Any]


class Check(NamedTuple):
    followed: bool
    seen: str
    """What the text has, for the one sentence that says why."""


def counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _enough(n: int, relation: str, wanted: int) -> bool:
    return n < wanted if relation == "less than" else n >= wanted


def keywords_existence(text: str, arguments: Arguments) -> Check:
    """Every keyword is found, as a regular expression, in any case, inside words too."""
    missing = [k for k in arguments["keywords"] if not re.search(k, text, re.IGNORECASE)]
    return Check(not missing, f"without {', '.join(missing)}" if missing else "all keywords")


def keywords_frequency(text: str, arguments: Arguments) -> Check:
    n = len(re.findall(arguments["keyword"].strip(), text, re.IGNORECASE))
    return Check(_enough(n, arguments["relation"], arguments["frequency"]), f"{arguments['keyword']} {n} times")


def keywords_forbidden(text: str, arguments: Arguments) -> Check:
    """No forbidden word is found as a whole word."""
    found = [w for w in arguments["forbidden_words"] if re.search(rf"\b{w}\b", text, re.IGNORECASE)]
    return Check(not found, f"with {', '.join(found)}" if found else "no forbidden word")


def letter_frequency(text: str, arguments: Arguments) -> Check:
    """The character itself, letter or not. For `#` and `!` (two prompts) lm-eval draws a random letter instead."""
    n = text.lower().count(arguments["letter"].strip().lower())
    return Check(
        _enough(n, arguments["let_relation"], arguments["let_frequency"]), f"letter {arguments['letter']} {n} times"
    )


def capital_words(text: str, arguments: Arguments) -> Check:
    """Tokens with capitals and no small letters; `WELL-KNOWN` is one."""
    n = sum(token.isupper() for token in tokens(text))
    seen = counted(n, "word") + " in capitals"
    return Check(_enough(n, arguments["capital_relation"], arguments["capital_frequency"]), seen)


def english_capital(text: str, arguments: Arguments) -> Check:
    return _english(text) if text.isupper() else Check(False, "not all in capitals")


def english_lowercase(text: str, arguments: Arguments) -> Check:
    return _english(text) if text.islower() else Check(False, "not all in small letters")


def _english(text: str) -> Check:
    found = language(text)
    return Check(found in ("en", None), f"language {found or 'unknown'}")


def response_language(text: str, arguments: Arguments) -> Check:
    """A text without letters to tell a language by counts as followed."""
    found = language(text)
    return Check(found in (arguments["language"], None), f"language {found or 'unknown'}")


def no_comma(text: str, arguments: Arguments) -> Check:
    n = text.count(",")
    return Check(n == 0, counted(n, "comma"))


def number_words(text: str, arguments: Arguments) -> Check:
    n = count_words(text)
    return Check(_enough(n, arguments["relation"], arguments["num_words"]), counted(n, "word"))


def number_sentences(text: str, arguments: Arguments) -> Check:
    n = len(sentences(text))
    return Check(_enough(n, arguments["relation"], arguments["num_sentences"]), counted(n, "sentence"))
