"""The same example more than once: word for word, nearly, by meaning; and the same prompt with another answer.

exact     all turns equal but for case, blanks and width (NFKC)
near      Jaccard similarity of the sets of 3-word shingles (4 characters of Chinese) at least 0.7, for examples of 10
          words (15 characters) or more. MinHash of 128 permutations with LSH finds the candidates (Broder 1997, "On the
          resemblance and containment of documents"; datasketch), the exact similarity decides. Greedy, as deduplication
          is done: an example is compared with those kept so far, so a text copied 10,000 times costs as much as one.
meaning   cosine similarity under any embedder, where one is given
conflict  equal prompts with unequal answers: the model can learn a coin toss at best

A template with one word filled in ("What is the capital of ...?") is no near duplicate while it is short. Long ones
are: shared boilerplate counts, since the model is trained on it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgetbench.analysis.leaks import grams, plain, words
from forgetbench.probing.variants import is_cjk
from forgetbench.training.check.report import Finding, State, passed, shown
from forgetbench.training.check.rows import Row

NEAR = 0.7
SHINGLE, SHINGLE_CJK = 3, 4
SHORTEST, SHORTEST_CJK = 10, 15
PERMUTATIONS = 128
_LSH = 0.55
"""Below NEAR, so that the sketch's error costs candidates and not duplicates."""
_MOST_CANDIDATES = 50
FAIL = 0.3
"""Share of the examples that are copies, from which the check fails: the set is not what its size says."""
NEAR_WARN = 0.01
MEANING = 0.95
Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts -> (n, d) array of embeddings."""
Pair = tuple[int, int, float]
"""(a copy, the earlier one that it is like, similarity)."""
_CURE = "keep one of each, or say with weights that the repetition is wanted"


def duplicates(rows: Sequence[Row], embed: Embed | None = None) -> list[Finding]:
    """Exact, near and (with an embedder) semantic duplicates and conflicts, each against the examples left by those
    before it. Cost: near ones 0.7 ms an instruction example on one core; by meaning n^2 d / 2."""
    exact = exact_duplicates(rows)
    copies = {i for i, _, _ in exact}
    rest = [i for i in range(len(rows)) if i not in copies]
    near = [(rest[i], rest[j], s) for i, j, s in near_duplicates([rows[i].text for i in rest])]
    found = [
        _finding("duplicates: exact", "copies of an earlier example", rows, exact, 0.0),
        _finding("duplicates: near", f"near copies (Jaccard from {NEAR:g})", rows, near, NEAR_WARN),
    ]
    if embed is not None:
        copies |= {i for i, _, _ in near}
        rest = [i for i in rest if i not in copies]
        alike = [(rest[i], rest[j], s) for i, j, s in semantic_duplicates([rows[i].text for i in rest], embed)]
        found.append(_finding("duplicates: meaning", f"alike (cosine from {MEANING:g})", rows, alike, NEAR_WARN))
    return [*found, conflicts(rows)]


def exact_duplicates(rows: Sequence[Row]) -> list[Pair]:
    first: dict[tuple[tuple[str, str], ...], int] = {}
    found = []
    for i, row in enumerate(rows):
        earlier = first.setdefault(tuple((t.role, plain(t.text)) for t in row.turns), i)
        if earlier != i:
            found.append((i, earlier, 1.0))
    return found


def near_duplicates(texts: Sequence[str], threshold: float = NEAR) -> list[Pair]:
    """Each text that is like an earlier one that was kept, with the most similar of those."""
    from datasketch import MinHash, MinHashLSH

    # Of the weights the second is that of missed pairs: a missed pair is lost, a false one only costs a comparison.
    lsh = MinHashLSH(threshold=min(_LSH, threshold), num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    kept: dict[int, frozenset[str]] = {}
    found: list[Pair] = []
    for i, text in enumerate(texts):
        mine = shingles(text)
        if not mine:
            continue
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([s.encode("utf-8", "surrogatepass") for s in sorted(mine)])
        near = [(len(mine & kept[j]) / len(mine | kept[j]), -j) for j in sorted(lsh.query(sketch))[:_MOST_CANDIDATES]]
        best, minus_j = max(near, default=(0.0, 0))
        if best >= threshold:
            found.append((i, -minus_j, best))
        else:
            lsh.insert(i, sketch, check_duplication=False)
            kept[i] = mine
    return found


def overlaps(rows: Sequence[Row], others: Sequence[Row], threshold: float = NEAR) -> list[Pair]:
    """Each of `others` that stands in `rows` too, word for word (similarity 1) or nearly, with the most similar row:
    (index in others, index in rows, similarity), in the order of `others`. Only `others` are indexed, so that a
    large training set costs time and no memory."""
    from datasketch import MinHash, MinHashLSH

    def key(row: Row) -> tuple[tuple[str, str], ...]:
        return tuple((t.role, plain(t.text)) for t in row.turns)

    def sketch(mine: frozenset[str]) -> Any:
        made = MinHash(num_perm=PERMUTATIONS, seed=1)
        made.update_batch([s.encode("utf-8", "surrogatepass") for s in sorted(mine)])
        return made

    lsh = MinHashLSH(threshold=min(_LSH, threshold), num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    same: dict[tuple[tuple[str, str], ...], list[int]] = {}
    sets: dict[int, frozenset[str]] = {}
    for i, row in enumerate(others):
        same.setdefault(key(row), []).append(i)
        if mine := shingles(row.text):
            sets[i] = mine
            lsh.insert(i, sketch(mine), check_duplication=False)
    best: dict[int, tuple[int, float]] = {}
    for j, row in enumerate(rows):
        found = dict.fromkeys(same.get(key(row), ()), 1.0)
        if theirs := shingles(row.text):
            for i in lsh.query(sketch(theirs)):
                found.setdefault(i, len(theirs & sets[i]) / len(theirs | sets[i]))
        for i, similarity in found.items():
            if similarity >= threshold and similarity > best.get(i, (0, 0.0))[1]:
                best[i] = (j, similarity)
    return [(i, *best[i]) for i in sorted(best)]


def shingles(text: str) -> frozenset[str]:
    """Empty for a text too short to be called a near copy of another."""
    sequence = words(text)
    cjk = is_cjk(text)
    if len(sequence) < (SHORTEST_CJK if cjk else SHORTEST):
        return frozenset()
    return frozenset(grams(sequence, SHINGLE_CJK if cjk else SHINGLE))


def semantic_duplicates(texts: Sequence[str], embed: Embed, threshold: float = MEANING, block: int = 512) -> list[Pair]:
    """Each text whose embedding is like that of an earlier one that was kept. Raises ValueError for embeddings that
    are not one row a text."""
    if not texts:
        return []
    vectors = np.asarray(embed(texts), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(f"the embedder gave an array of shape {vectors.shape} for {len(texts)} texts")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    copies = np.zeros(len(texts), dtype=np.bool_)
    found: list[Pair] = []
    for start in range(0, len(texts), block):
        alike = unit[start : start + block] @ unit.T
        for i in range(start, min(start + block, len(texts))):
            row = np.where(copies[:i], -1.0, alike[i - start, :i])
            if i and row.max() >= threshold:
                copies[i] = True
                found.append((i, int(row.argmax()), float(row.max())))
    return found


def conflicts(rows: Sequence[Row]) -> Finding:
    """Prompts that are answered in more than one way."""
    answers: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.answer is not None and row.prompt.strip():
            answers.setdefault(plain(row.prompt), {}).setdefault(plain(row.answer), row)
    many = {prompt: list(by.values()) for prompt, by in answers.items() if len(by) > 1}
    if not many:
        return passed("duplicates: conflict", "no prompt has two answers", len(answers))
    lines = [
        (" and ".join(r.where for r in mine[:3]), f"{mine[0].prompt} -> " + " | ".join(str(r.answer) for r in mine[:3]))
        for mine in many.values()
    ]
    return Finding(
        "duplicates: conflict",
        "warn",
        f"{len(many):,} of {len(answers):,} prompts have more than one answer",
        len(many),
        len(answers),
        shown(lines),
        "keep the right answer; where several are right this can stay",
    )


def _finding(check: str, what: str, rows: Sequence[Row], pairs: Sequence[Pair], warn: float) -> Finding:
    total = len(rows)
    share = len(pairs) / total if total else 0.0
    message = f"{len(pairs):,} of {total:,} examples ({100 * share:.1f} %) are {what}"
    if share >= FAIL:
        state: State = "fail"
    elif pairs and share > warn:
        state = "warn"
    else:
        state = "pass"
    lines = [(rows[i].where, f"like {rows[j].where} ({s:.2f}): {rows[i].text}") for i, j, s in pairs]
    # What passes may still have a few: they are shown, without a cure.
    return Finding(check, state, message, len(pairs), total, shown(lines), _CURE if state != "pass" else "")
