"""Benchmark questions that stand in training data: by words, word for word or nearly.

Texts are compared as sequences of words: NFKC, case folded, punctuation and option letters at the start of a
line left out, each Chinese or Japanese character a word of its own. In this order:

exact   The whole question (with its options) stands in a training text, or the question without its options
        is a whole training text. Shorter than 6 words (10 characters) it must be the whole training text, and
        with the same punctuation: 21 + 1 is not 21 - 1.
ngram   13 words in a row are shared (20 characters of Chinese, which are about as long). 13 as in Brown et
        al. 2020, "Language Models are Few-Shot Learners", appendix C.
near    Jaccard similarity of the sets of 3-word shingles (4 characters) is at least 0.5, for questions of 13
        words (20 characters) or more. MinHash with LSH finds the candidates (Broder 1997, "On the
        resemblance and containment of documents"; datasketch), the exact similarity decides.

Words in a row that more than 10 different questions share are a benchmark's own boilerplate (MMLU's moral
scenarios open with the same 36 words 895 times) and prove nothing: they are left out of ngram and near. So
`find_leaks` wants *all* questions of a benchmark, also those that were not asked.

What it does not find: paraphrases, translations, questions rewritten by more than about a word in six. What
it must not be read as: proof that an item was learnt, or that others were not.

Measured on planted questions (tests/analysis/test_leaks.py): recall and precision stand there.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from forgetbench.analysis.types import Comparison, Leak, PairedScores
from forgetbench.types import ItemKey

NGRAM, NGRAM_CJK = 13, 20
SHINGLE, SHINGLE_CJK = 3, 4
SHORTEST, SHORTEST_CJK = 6, 10
NEAR = 0.5
BOILERPLATE = 10
_PERMUTATIONS = 128
_LSH = 0.4
"""Below NEAR, so that the sketch's error costs candidates and no leaks."""
_EXCERPT = 160

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")
_MARKER = re.compile(r"(?m)^[ \t]*\(?[A-Za-z][.):、][ \t]*(?=\S)")
_IS_CJK = re.compile(f"[{_CJK}]")

Words = tuple[str, ...]


class Question(NamedTuple):
    key: ItemKey
    text: str
    """The question as people read it, without options or worked examples."""
    choices: tuple[str, ...] = ()


class Text(NamedTuple):
    text: str
    where: str


def words(text: str) -> Words:
    """A text as it is compared.

    >>> words("(A) The Café's open!\\nB. 你好")
    ('the', 'café', 's', 'open', '你', '好')
    """
    return tuple(_WORD.findall(_MARKER.sub("", unicodedata.normalize("NFKC", text)).casefold()))


def plain(text: str) -> str:
    """A short text as it is compared: punctuation counts."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def grams(sequence: Words, n: int) -> list[str]:
    return [" ".join(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


def _is_cjk(sequence: Words) -> bool:
    return 2 * sum(1 for w in sequence if _IS_CJK.match(w)) > len(sequence)


@dataclass
class _Entry:
    """A question ready to be looked for."""

    key: ItemKey
    asked: Words
    whole: Words
    plain: str
    cjk: bool = field(init=False)

    def __post_init__(self) -> None:
        self.cjk = _is_cjk(self.whole)

    @property
    def n(self) -> int:
        return NGRAM_CJK if self.cjk else NGRAM

    @property
    def shortest(self) -> int:
        return SHORTEST_CJK if self.cjk else SHORTEST


def find_leaks(questions: Iterable[Question], texts: Iterable[Text]) -> list[Leak]:
    """The strongest evidence for each question that has any, in the order of the questions."""
    entries = [_entry(q) for q in questions]
    index = _Index([e for e in entries if e.whole])
    found: dict[ItemKey, Leak] = {}
    seen: set[str] = set()
    for text in texts:
        for part in _parts(text.text):
            sequence = words(part)
            joined = " ".join(sequence)
            same = plain(part)
            if same in seen:  # training data repeats itself
                continue
            seen.add(same)
            for leak in index.search(sequence, joined, same, text.where):
                old = found.get(leak.key)
                if old is None or _rank(leak) > _rank(old):
                    found[leak.key] = leak
    return [found[e.key] for e in entries if e.key in found]


def _entry(question: Question) -> _Entry:
    whole = "\n".join((question.text, *question.choices))
    return _Entry(question.key, words(question.text), words(whole), plain(whole))


def _rank(leak: Leak) -> tuple[int, float]:
    return ("near", "ngram", "exact").index(leak.how), leak.overlap


def _parts(text: str) -> list[str]:
    """The text, and its paragraphs where it has several: near-duplicates are compared as wholes."""
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if p.strip()]
    return [text, *paragraphs] if len(paragraphs) > 1 else [text]


class _Index:
    def __init__(self, entries: Sequence[_Entry]) -> None:
        self.entries = entries
        self.common = {
            n: _common([e for e in entries if e.cjk == cjk], n)
            for n, cjk in ((NGRAM, False), (SHINGLE, False), (NGRAM_CJK, True), (SHINGLE_CJK, True))
        }
        self.by_gram: dict[int, dict[str, list[int]]] = {NGRAM: {}, NGRAM_CJK: {}}
        self.whole: dict[str, list[int]] = defaultdict(list)
        """Whole texts -> the questions that they are."""
        self.plain: dict[str, list[int]] = defaultdict(list)
        """The same for short ones, with their punctuation."""
        self.short: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        """Number of words -> questions too short for n-grams, to be found inside a text."""
        asked = Counter(e.asked for e in entries)
        for i, e in enumerate(entries):
            if len(e.whole) < e.shortest:
                self.plain[e.plain].append(i)
            else:
                self.whole[" ".join(e.whole)].append(i)
            # A question that several items ask (with other options) names none of them.
            if e.asked != e.whole and asked[e.asked] == 1 and len(e.asked) >= e.shortest:
                self.whole[" ".join(e.asked)].append(i)
            if e.shortest <= len(e.whole) < e.n:
                self.short[len(e.whole)][" ".join(e.whole)].append(i)
            table = self.by_gram[e.n]
            for gram in set(grams(e.whole, e.n)) - self.common[e.n]:
                table.setdefault(gram, []).append(i)
        self.shingles = [self._shingles(e.whole, e.cjk) if len(e.whole) >= e.n else frozenset() for e in entries]
        self.vocabulary = frozenset().union(*self.shingles)
        self._lsh: Any = None

    def _shingles(self, sequence: Words, cjk: bool) -> frozenset[str]:
        n = SHINGLE_CJK if cjk else SHINGLE
        return frozenset(grams(sequence, n)) - self.common[n]

    def search(self, sequence: Words, joined: str, same: str, where: str) -> list[Leak]:
        found: dict[int, Leak] = {}

        def add(i: int, how: str, overlap: float, excerpt: str) -> None:
            leak = Leak(self.entries[i].key, how, overlap, where, excerpt[:_EXCERPT])
            if i not in found or _rank(leak) > _rank(found[i]):
                found[i] = leak

        for i in (*self.whole.get(joined, ()), *self.plain.get(same, ())):
            add(i, "exact", 1.0, same)
        for length, table in self.short.items():
            for gram in grams(sequence, length):
                for i in table.get(gram, ()):
                    add(i, "exact", 1.0, gram)
        self._ngrams(sequence, joined, add)
        self._near(sequence, joined, add)
        return list(found.values())

    def _ngrams(self, sequence: Words, joined: str, add: Any) -> None:
        for n, table in self.by_gram.items():
            hits: dict[int, list[str]] = defaultdict(list)
            if table:
                for gram in grams(sequence, n):
                    for i in table.get(gram, ()):
                        hits[i].append(gram)
            for i, shared in hits.items():
                whole = " ".join(self.entries[i].whole)
                if f" {whole} " in f" {joined} ":
                    add(i, "exact", 1.0, whole)
                else:
                    add(i, "ngram", _covered(self.entries[i].whole, set(shared), n), shared[0])

    def _near(self, sequence: Words, joined: str, add: Any) -> None:
        shingles = self._shingles(sequence, _is_cjk(sequence))
        # Lossless: with a Jaccard of NEAR at least that share of the text's own shingles is in some question.
        if not shingles or len(shingles & self.vocabulary) < NEAR * len(shingles):
            return
        for i in self._candidates(shingles):
            mine = self.shingles[i]
            jaccard = len(mine & shingles) / len(mine | shingles)
            if jaccard >= NEAR:
                add(i, "near", jaccard, joined)

    def _candidates(self, shingles: frozenset[str]) -> list[int]:
        from datasketch import MinHashLSH

        if self._lsh is None:
            self._lsh = MinHashLSH(threshold=_LSH, num_perm=_PERMUTATIONS, weights=(0.2, 0.8))
            for i, mine in enumerate(self.shingles):
                if mine:
                    self._lsh.insert(i, _sketch(mine))
        return [int(i) for i in self._lsh.query(_sketch(shingles))]


def _sketch(shingles: Collection[str]) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([s.encode() for s in sorted(shingles)])
    return sketch


def _common(entries: Sequence[_Entry], n: int) -> frozenset[str]:
    """The n-grams that more than BOILERPLATE different questions share."""
    counts: Counter[str] = Counter()
    for sequence in {e.whole for e in entries}:
        counts.update(set(grams(sequence, n)))
    return frozenset(gram for gram, count in counts.items() if count > BOILERPLATE)


def _covered(sequence: Words, shared: Collection[str], n: int) -> float:
    """Share of the words that lie inside a shared n-gram."""
    inside = np.zeros(len(sequence), dtype=np.bool_)
    for i, gram in enumerate(grams(sequence, n)):
        if gram in shared:
            inside[i : i + n] = True
    return float(inside.mean())


def without(scores: Iterable[PairedScores], leaked: Collection[ItemKey]) -> tuple[PairedScores, ...]:
    """The paired scores without the leaked items; a task of which nothing is left is left out."""
    keys = set(leaked)
    kept = []
    for part in scores:
        mask = np.asarray([key not in keys for key in part.keys], dtype=np.bool_)
        if mask.any():
            kept.append(part if mask.all() else part.pick(mask))
    return tuple(kept)


def mark_leaks(comparison: Comparison, leaks: Sequence[Leak], *, looked_at: str) -> Comparison:
    """The comparison with its leaked items, the changes without them, and a note with the counts.

    looked_at: what was searched, for the note.
    """
    from forgetbench.analysis.compare import changes_of

    compared = {key for part in comparison.scores for key in part.keys}
    mine = tuple(leak for leak in leaks if leak.key in compared)
    if not mine:
        note = f"training data: {looked_at} holds none of {len(compared):,} items"
        return replace(comparison, notes=(*comparison.notes, note))
    changes, silent = changes_of(without(comparison.scores, {leak.key for leak in mine}))
    how = Counter(leak.how for leak in mine)
    kinds = ", ".join(f"{how[kind]} {name}" for kind, name in _KINDS if how[kind])
    note = f"training data: {looked_at} holds {len(mine):,} of {len(compared):,} items ({kinds})"
    return replace(comparison, leaks=mine, without_leaks=tuple(changes), notes=(*comparison.notes, note, *silent))


_KINDS = (("exact", "word for word"), ("ngram", "by 13 words in a row"), ("near", "nearly"))
