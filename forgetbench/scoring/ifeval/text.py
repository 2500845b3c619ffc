"""Sentences, words and the language of a text, with nothing to download.

`sentences` is the Punkt algorithm (Kiss and Strunk 2006, as nltk implements it) with a small set of parameters
written for this file, because the parameters that lm-eval downloads (`punkt_tab`, learnt from a newspaper) cannot
be had offline. What that changes is measured in docs/parity.md.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

LANGUAGE_SEED = 0
"""langdetect draws at random; unseeded, as lm-eval runs it, the same text may get two verdicts."""

# As a newspaper would teach them, without those that are common words too (no, ill, wash). "e.g.", "i.e." and
# "etc." are left out on purpose: Punkt's English parameters do not have them either, so published scores count a
# sentence that ends there.
_ABBREVIATIONS = (
    "mr mrs ms dr prof messrs sr jr st rev hon gov sen rep reps gen col lt maj capt sgt adm ph.d m.d b.a m.a m.b.a "
    "inc corp co cos ltd bros vs ave ft mg yr "
    "jan feb aug sept sep oct nov dec mon tues wed thurs fri "
    "u.s u.k u.n u.s.a u.s.s.r d.c l.a n.y n.j n.c s.c n.h n.m n.d s.d r.i w.va "
    "ala ariz ark calif colo conn fla ga kan ky md mich minn mont neb nev okla pa tenn tex va vt wis wyo "
    "a.m p.m a.d b.c"
)

# Common words that start a sentence only when they are capitalised: after an abbreviation or an ellipsis a
# capital letter on one of them is the sign of a new sentence.
_COMMON = (
    "a an the this that these those it he she we they you i there here what when where who why how which while "
    "if although though because since as after before until and but or nor so yet for in on at by with from to of "
    "under over into about despite among between both some many most all each every any no not however therefore "
    "thus indeed instead moreover furthermore meanwhile nevertheless finally first second third next then also "
    "please do does did is are was were be been have has had can could will would shall should may might must let "
    "my your his her its our their one two three in fact even only just never always once perhaps maybe well now"
)


@functools.cache
def _splitter() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    for word in _COMMON.split():
        parameters.ortho_context[word] = _SEEN
    tokenizer = PunktSentenceTokenizer()
    tokenizer._params = parameters  # the constructor takes a training text or a pickle, no parameters
    return tokenizer


_SEEN = (1 << 1) | (1 << 5)
"""Punkt's flags for a word that was seen capitalised at the start of sentences and in small letters within."""


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the blanks between them."""
    found: list[str] = _splitter().tokenize(text)
    return found


def tokens(text: str) -> list[str]:
    """Words and punctuation as nltk's `word_tokenize` cuts them (Penn Treebank rules), sentence by sentence."""
    from nltk.tokenize import NLTKWordTokenizer

    cut = NLTKWordTokenizer().tokenize
    return [token for sentence in sentences(text) for token in cut(sentence)]


def count_words(text: str) -> int:
    """Runs of letters, digits and underscores: `don't` is two words."""
    return len(re.findall(r"\w+", text))


@functools.cache
def _detectors() -> Any:
    from langdetect import DetectorFactory
    from langdetect.detector_factory import PROFILES_DIRECTORY

    factory = DetectorFactory()
    # In order of their names; langdetect's own loader takes the order in which the file system lists them.
    profiles = sorted(p for p in Path(PROFILES_DIRECTORY).iterdir() if p.is_file() and p.name[0] not in "._")
    factory.load_json_profile([p.read_text(encoding="utf-8") for p in profiles])
    factory.seed = LANGUAGE_SEED  # of this factory alone, not of whoever else uses langdetect
    return factory


@functools.lru_cache(maxsize=256)
def language(text: str) -> str | None:
    """The language of a text by its ISO 639-1 code (Chinese: zh-cn, zh-tw); None: it has no letters to tell by."""
    from langdetect import LangDetectException

    detector = _detectors().create()
    detector.append(text)
    try:
        found: str = detector.detect()
    except LangDetectException:
        return None
    return found
