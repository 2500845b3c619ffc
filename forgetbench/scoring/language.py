"""Notice an answer in the wrong language, by scripts alone, and only where there is no doubt.

Letters are counted by script (a Chinese character counts as two, since it says more than a Latin letter);
code, links, formulas and tags are left out. An answer is `wrong` when

- the question has at least 10 letters, 80 % of them in one script, and asks for no other language;
- the answer has at least 30 letters, 70 % of them in another script, and at most 10 % in the question's.

Chinese and Japanese share a script: kana is what tells them apart. `unknown` is anything that cannot be
judged, `same` the rest. What it does not find: another language in the same script (French for English),
answers that only mix languages, short answers. On published answers of chat models it raises a false alarm
at most once in 500 (tests/scoring/test_language.py).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from typing import Literal, NamedTuple

Judgement = Literal["same", "wrong", "unknown"]

MIN_QUESTION, MIN_ANSWER = 10, 30
_QUESTION_SHARE, _ANSWER_SHARE, _LEFT_OVER = 0.8, 0.7, 0.1
_KANA_SHARE = 0.1
"""Japanese text has a third to a half of kana."""

_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0041, 0x024F, "latin"),
    (0x0370, 0x03FF, "greek"),
    (0x0400, 0x052F, "cyrillic"),
    (0x0530, 0x058F, "armenian"),
    (0x0590, 0x05FF, "hebrew"),
    (0x0600, 0x077F, "arabic"),
    (0x0900, 0x097F, "devanagari"),
    (0x0980, 0x09FF, "bengali"),
    (0x0A80, 0x0AFF, "gujarati"),
    (0x0B80, 0x0BFF, "tamil"),
    (0x0C00, 0x0C7F, "telugu"),
    (0x0C80, 0x0CFF, "kannada"),
    (0x0E00, 0x0E7F, "thai"),
    (0x10A0, 0x10FF, "georgian"),
    (0x1100, 0x11FF, "hangul"),
    (0x1E00, 0x1EFF, "latin"),
    (0x3040, 0x30FF, "kana"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xAC00, 0xD7AF, "hangul"),
    (0xF900, 0xFAFF, "han"),
    (0x20000, 0x323AF, "han"),
)
_STARTS = [low for low, _, _ in _RANGES]
_WEIGHT = {"han": 2, "kana": 2, "hangul": 2}

_LEFT_OUT = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]{1,200}\$|\\[A-Za-z]+|https?://\S+|<[^<>\n]{1,60}>",
    re.DOTALL,
)
_OTHER_LANGUAGE = re.compile(
    r"""translat|\blanguages?\b|\b(?:english|chinese|mandarin|japanese|korean|russian|arabic|hindi|urdu|thai|greek
        |hebrew|tamil|telugu|kannada|marathi|gujarati|bengali|punjabi|nepali|persian|farsi|bulgarian|ukrainian
        |french|german|spanish|italian|portuguese|latin|swahili|vietnamese|finnish)\b
        |翻译|译[成为文]|[英中日韩俄法德汉外]语|[英中日韩俄法德]文|语言|单词|拼音|代码|程序|函数""",
    re.IGNORECASE | re.VERBOSE,
)


class Letters(NamedTuple):
    """Weighted letters of a text."""

    total: int
    script: str
    """The most frequent one; empty without letters."""
    counts: Counter[str]

    def share(self, script: str) -> float:
        return self.counts[script] / self.total if self.total else 0.0


def letters(text: str) -> Letters:
    """Count a text's letters by script."""
    counts: Counter[str] = Counter()
    for character, n in Counter(_LEFT_OUT.sub(" ", text)).items():
        place = bisect_right(_STARTS, ord(character)) - 1
        if place >= 0 and character.isalpha() and ord(character) <= _RANGES[place][1]:
            script = _RANGES[place][2]
            counts[script] += n * _WEIGHT.get(script, 1)
    total = counts.total()
    if total and counts["kana"] / total >= _KANA_SHARE:
        counts["kana"] += counts.pop("han", 0)  # Japanese: its Chinese characters too
    return Letters(total, counts.most_common(1)[0][0] if total else "", counts)


def language(question: str, answer: str) -> Judgement:
    """Whether the answer is in the question's script (see the module's docstring).

    >>> language("What is the capital of France?", "法国的首都是巴黎，它位于塞纳河畔，人口约两百万。")
    'wrong'
    """
    asked = letters(question)
    if asked.total < MIN_QUESTION or asked.share(asked.script) < _QUESTION_SHARE:
        return "unknown"
    if _OTHER_LANGUAGE.search(question):
        return "unknown"
    said = letters(answer)
    if said.total < MIN_ANSWER or said.share(said.script) < _ANSWER_SHARE:
        return "unknown"
    if said.script == asked.script:
        return "same"
    return "wrong" if said.share(asked.script) <= _LEFT_OVER else "unknown"
