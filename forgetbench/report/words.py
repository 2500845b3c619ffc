"""The report's fixed text in another language: `reports/<lang>.json`.

`words` maps English text to its translation; a figure goes into {braces}. `sentences` are lines that other
rooms of the project write in English with names and figures inside (notes, why evidence is unfit): they are
recognised by their pattern. What the catalogue does not know stays English: better read than lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from forgetbench import resources
from forgetbench.errors import UsageError

ENGLISH = "en"

SPOKEN = (
    *("ability", "chat", "as_used", "raw"),
    *("none", "mild", "moderate", "severe"),
    *("ok", "unparsed", "truncated", "refused", "timeout", "infra_error"),
    *("looped", "wrong_language", "thought"),
    *("exact", "ngram", "near"),
    *("lost", "gained", "changed", "same", "dropped"),
    *("stop", "length", "error"),
    *("against base", "against locked", "against previous"),
    *("Pass", "Blocked", "Inconclusive"),
    *("By ability", "By task", "By subject"),
    *(
        "format",
        "loop",
        "wrong language",
        "style",
        "access",
        "weakened",
        "flicker",
        "undetermined",
        "consistent",
        "not recovered",
    ),
    *("What it would say next", "On fixed texts", "How answers look", "How varied answers are"),
    *("How sure it is among options", "How likely the reference answer is", "pass@k and reach"),
    *("lost correct", "corrected", "other", "firm", "mostly"),
)
"""Words that templates and scripts look up by value, so that no reader of the source sees them: all of them."""


_LONGEST = 1_000


class Words:
    """A catalogue: call it with English text and the values that stand in it."""

    def __init__(
        self, lang: str = ENGLISH, words: Mapping[str, str] | None = None, sentences: Mapping[str, str] | None = None
    ) -> None:
        self.lang = lang
        self.words = dict(words or {})
        self.sentences = dict(sentences or {})

    def __call__(self, text: str, **values: object) -> str:
        told = self.words.get(text, text)
        return told.format(**values) if values else told

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(english), translated) for english, translated in self.sentences.items()]

    def sentence(self, text: str) -> str:
        """A line made elsewhere, if one of the patterns is its own; what stands in it is translated too."""
        if text in self.words:
            return self.words[text]
        if len(text) > _LONGEST:  # patterns with several holes take long on long texts
            return text
        for pattern, translated in self._patterns:
            found = pattern.fullmatch(text)
            if found:
                return translated.format(**{k: self.sentence(v) for k, v in found.groupdict().items()})
        return text


def _pattern(english: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", english)
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts)), re.DOTALL
    )


def languages() -> list[str]:
    """Those that there are: English and a catalogue for each other."""
    return [ENGLISH, *sorted(f.stem for f in resources.path("reports").glob("*.json"))]


def load_words(lang: str) -> Words:
    """The catalogue of a language. Raises UsageError for one that there is not."""
    known = languages()
    if lang not in known:
        raise UsageError("--lang", f"there is no report in '{lang}'", f"choose one of: {', '.join(known)}")
    if lang == ENGLISH:
        return Words()
    file: Path = resources.path("reports", f"{lang}.json")
    catalogue: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return Words(lang, catalogue["words"], catalogue["sentences"])
