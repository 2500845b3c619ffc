"""Variants of a question that need no template: typos, other scripts, case, punctuation, phrases, words left out.

All are pure functions of the text (and a seed), none gives the text back, and none touches a number: 12 with a typo is
another question, and so is 3.5 with a Chinese full stop. Where a variant touches a word that stands in the reference
too (copy this word), nobody knows what is right any more, and `keeps_gold` is off.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Iterator

from forgetbench.probing.types import Variant

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_UNIT = re.compile(rf"[{CJK}]{{1,2}}|(?:(?![{CJK}])[^\W_])+(?:['’\-](?:(?![{CJK}])[^\W_])+)*")
_IS_CJK = re.compile(f"[{CJK}]")
_RUN = re.compile(f"[{CJK}]+")
_NEIGHBOURS = {
    **dict(zip("qwertyuiop", ("wa", "qes", "wrd", "etf", "ryg", "tuh", "yij", "uok", "ipl", "ol"), strict=True)),
    **dict(zip("asdfghjkl", ("qsz", "adwx", "sfec", "dgrv", "fhtb", "gjyn", "hkum", "jli", "kop"), strict=True)),
    **dict(zip("zxcvbnm", ("asx", "zcs", "xvd", "cbf", "vng", "bmh", "nj"), strict=True)),
}
_TWINS = str.maketrans("aceopxyACEHKMOPTXB", "асеорхуАСЕНКМОРТХВ")
"""Latin letters and the Cyrillic ones that look the same."""
_CHINESE_MARKS = str.maketrans(".,?!:;", "。，？！：；")
_CLOSERS = ".?!。？！"
_COMPOUND = re.compile(r"\d+(?:[.,:/]\d+)+")
_NUMERIC = re.compile(r"[^\sA-Za-z](?=\d)|\d")
"""A digit, and a mark before one: 3.5, 1,200, 10:30, -5."""
_FRAMES = ("Please answer: {}", "Question: {}", "I have a question. {}", "Hello! {}", "{} Thank you.",
           "{} Please be brief.", "{} I want to know.")  # fmt: skip
_FRAMES_CJK = ("请问：{}", "问题：{}", "我有一个问题。{}", "你好！{}", "{}谢谢。", "{}请简短回答。", "{}我想知道。")


def units(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word of a text; Chinese and Japanese, which have no blanks, in pieces of two characters.

    >>> ["What's 日本的首都?"[a:b] for a, b in units("What's 日本的首都?")]
    ["What's", '日本', '的首', '都']
    """
    return [match.span() for match in _UNIT.finditer(text)]


def words_of(text: str) -> list[str]:
    """The distinct words of a text, in order, as they are compared."""
    return list(dict.fromkeys(fold(text[a:b]) for a, b in units(text)))


def in_numbers(text: str) -> set[str]:
    """The words of a text that are a part of a number: 3 and 5 of 3.5, and not 12.

    >>> sorted(in_numbers("12 and 3.5"))
    ['3', '5']
    """
    parts = (part for match in _COMPOUND.finditer(text) for part in words_of(match.group()))
    return set(parts)


def has_word(text: str, word: str) -> bool:
    """Whether a word, as `words_of` gives it, stands in a text. A Chinese one may begin anywhere: `units` cuts a run of
    characters into pairs from its start, and would find it in every other place only.

    >>> has_word("日本的首都", "首都"), has_word("The cats", "cat")
    (True, False)
    """
    return finder(text)(word)


def finder(text: str) -> Callable[[str], bool]:
    """`has_word` of one text, for many words."""
    known, folded = set(words_of(text)), fold(text)
    return lambda word: word in known or (bool(_IS_CJK.match(word)) and word in folded)


def pieces(text: str) -> list[str]:
    """The words of a text as it has them, in order, and of a run of Chinese characters all pairs.

    >>> pieces("say 日本的")
    ['say', '日本', '的', '本的']
    """
    runs = [match.group() for match in _RUN.finditer(text)]
    return [*(text[a:b] for a, b in units(text)), *(run[i : i + 2] for run in runs for i in range(1, len(run) - 1, 2))]


def fold(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def is_cjk(text: str) -> bool:
    """Whether most of its letters are Chinese, Japanese or Korean."""
    letters = [c for c in text if c.isalpha()]
    return 2 * sum(bool(_IS_CJK.match(c)) for c in letters) > len(letters)


def without(text: str, word: str) -> str:
    """The text without a word (all its occurrences, case aside); blanks that it leaves are closed.

    >>> without("Name the capital of Peru.", "capital")
    'Name the of Peru.'
    """
    kept, last = [], 0
    for start, end in _places(text, fold(word)):
        kept.append(text[last:start])
        left = text[:start][-1:]
        if left and not left.isalpha() and _NUMERIC.match(text, end):
            kept.append(" ")  # of 3日5 two numbers are left, of :日5 no other one
        last = end
    kept.append(text[last:])
    left = re.sub(r"[^\S\n]{2,}", " ", "".join(kept))
    left = re.sub(r" +([.,;:?!])(?!\d)", r"\1", left).strip()
    # What is left may close up to the word again: 首首都都.
    return without(left, word) if last and has_word(left, fold(word)) else left


def _places(text: str, word: str) -> list[tuple[int, int]]:
    """Where a folded word stands, from left to right, none within another."""
    if not _IS_CJK.match(word):
        return [(a, b) for a, b in units(text) if fold(text[a:b]) == word]
    found: list[tuple[int, int]] = []
    for start in range(len(text)):
        for end in range(start + 1, min(start + len(word), len(text)) + 1):
            if fold(text[start:end]) == word and (not found or start >= found[-1][1]):
                found.append((start, end))
    return found


def frames(text: str) -> list[Callable[[str], str]]:
    """Ways to say a question within a phrase, in the language of `text`; the first says it alone."""
    templates = ("{}", *(_FRAMES_CJK if is_cjk(text) else _FRAMES))
    return [lambda question, t=template: t.replace("{}", question) for template in templates]  # type: ignore[misc]


def plain_variants(question: str, gold: str = "", *, seed: int = 0, typos: int = 2) -> list[Variant]:
    """All variants that need no template, each text once and none equal to the question.

    typos: of each of the three kinds. gold: the reference, see the module's docstring.
    """
    rng = random.Random(f"{seed} {question}")
    protected = {fold(gold[a:b]) for a, b in units(gold)}
    found: dict[str, Variant] = {}
    for variant in (
        *_typos(question, rng, typos, protected),
        *_scripts(question, rng, protected),
        *_cases(question, protected),
        *_punctuation(question),
        *_framed(question),
        *_left_out(question),
    ):
        if variant.text != question and variant.text.strip():
            found.setdefault(variant.text, variant)
    return list(found.values())


def _typos(question: str, rng: random.Random, each: int, protected: set[str]) -> Iterator[Variant]:
    long = [(a, b) for a, b in units(question) if b - a >= 4 and question[a:b].isascii() and question[a:b].isalpha()]
    kinds = (("neighbouring key", _neighbour), ("two letters swapped", _swapped), ("a letter dropped", _dropped))
    for name, spoil in kinds:
        for start, end in rng.sample(long, min(each, len(long))):
            word = question[start:end]
            spoilt = spoil(word, rng)
            if spoilt != word:
                text = question[:start] + spoilt + question[end:]
                keeps = fold(word) not in protected
                yield Variant("typo", f"{name}: {spoilt}", text, keeps_gold=keeps, changed=(fold(word),))


def _neighbour(word: str, rng: random.Random) -> str:
    places = [i for i, c in enumerate(word) if c.lower() in _NEIGHBOURS]
    i = rng.choice(places)
    new = rng.choice(_NEIGHBOURS[word[i].lower()])
    return word[:i] + (new.upper() if word[i].isupper() else new) + word[i + 1 :]


def _swapped(word: str, rng: random.Random) -> str:
    places = [i for i in range(1, len(word) - 1) if word[i] != word[i + 1]]
    if not places:
        return word
    i = rng.choice(places)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _dropped(word: str, rng: random.Random) -> str:
    i = rng.randrange(1, len(word))
    return word[:i] + word[i + 1 :]


def _scripts(question: str, rng: random.Random, protected: set[str]) -> Iterator[Variant]:
    words = {fold(question[a:b]) for a, b in units(question)}
    keeps = not words & protected
    spared = {match.start() for match in _NUMERIC.finditer(question)}
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and i not in spared else c for i, c in enumerate(question))
    yield Variant("script", "full-width letters", wide, keeps_gold=keeps)
    marks = "".join(c if i in spared else c.translate(_CHINESE_MARKS) for i, c in enumerate(question))
    yield Variant("script", "Chinese punctuation", marks, keeps_gold=True)
    yield Variant("script", "ideographic blanks", question.replace(" ", "\u3000"), keeps_gold=True)
    mixed = re.sub(rf"(?<=[{CJK}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{CJK}])", " ", question)
    yield Variant("script", "blanks between scripts", mixed, keeps_gold=True)
    tight = re.sub(rf"(?<=[{CJK}]) +(?=[A-Za-z0-9])|(?<=[A-Za-z0-9]) +(?=[{CJK}])", "", question)
    yield Variant("script", "no blanks between scripts", tight, keeps_gold=True)
    places = [(a, b) for a, b in units(question) if question[a:b].translate(_TWINS) != question[a:b]]
    if places:
        start, end = rng.choice(places)
        word = question[start:end]
        text = question[:start] + word.translate(_TWINS) + question[end:]
        keeps = fold(word) not in protected
        yield Variant("script", f"look-alike letters: {word}", text, keeps_gold=keeps, changed=(fold(word),))


def _cases(question: str, protected: set[str]) -> Iterator[Variant]:
    keeps = not {fold(question[a:b]) for a, b in units(question)} & protected
    for name, text in (("lower case", question.lower()), ("upper case", question.upper())):
        yield Variant("case", name, text, keeps_gold=keeps)


def _punctuation(question: str) -> Iterator[Variant]:
    bare = question.rstrip(_CLOSERS + " ")
    ending = question[len(bare) :].strip()
    yield Variant("punctuation", "no final mark", bare, keeps_gold=True)
    yield Variant("punctuation", "final mark doubled", bare + 2 * (ending or "?"), keeps_gold=True)
    yield Variant("punctuation", "three dots", bare + "...", keeps_gold=True)


def _framed(question: str) -> Iterator[Variant]:
    for frame in frames(question)[1:]:
        yield Variant("frame", frame("…"), frame(question), keeps_gold=True)


def _left_out(question: str) -> Iterator[Variant]:
    words = words_of(question)
    for word in words if len(words) > 1 else ():
        if any(c.isdigit() for c in word):
            continue
        yield Variant("without", f"without '{word}'", without(question, word), changed=(word,))
