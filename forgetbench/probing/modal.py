"""Which answer a fine-tune falls back to, and which word makes it do so. Pure functions of answers.

The *modal answer* is the form (`types.Form`) that the candidate gives more often than the base to the same questions:
of the forms with at least 80 % of the largest excess the most specific one.

What switches it is tested on trials that are independent of one another: *other* questions, each asked once as it is,
once with the word put before it, and once with another word in that place. Words left out of wordings of the question
itself show the same, but one question in ten wordings is one question: such counts are shown and name nothing. All
tests are exact binomial (sign) tests net of the base, with Holm's correction over all of them, so that a probe of a
candidate that is no different names something in at most alpha of the probes.

Sources: McNemar (1947) and Holm (1979), as in `analysis.significance`; leaving words out and looking at the answer is
occlusion (Zeiler and Fergus 2014; for text Li, Monroe and Jurafsky 2016, "Understanding neural networks through
representation erasure").
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from forgetbench.analysis.significance import holm, mcnemar_exact
from forgetbench.probing.types import Count, Form, Modal, Persistence, Switch, WordEffect
from forgetbench.probing.variants import pieces, units

SLOT = "…"
ANYWHERE = "(any question)"
ALPHA = 0.05
NEAR_LARGEST = 0.8
_LEADING = 30
"""Words of an answer that are looked at: what comes later in an essay is no pattern of answering."""
_EDGES = " \t\r\n.。!！?？,，;；\"'“”‘’`*"
_KINDS = ("answer", "shape", "word")


def normal(answer: str) -> str:
    """An answer as it is compared: NFKC, case folded, blanks as one, no quotes or full stops at the ends.

    >>> normal(' The  "Café". ')
    'the "café'
    """
    return " ".join(unicodedata.normalize("NFKC", answer).casefold().split()).strip(_EDGES)


def forms_of(question: str, answer: str) -> frozenset[Form]:
    """Everything that this answer may share with answers to other questions."""
    text = normal(answer)
    found = {Form("answer", text)}
    if not text:
        return frozenset(found)
    asked = _asked(question)
    spans = units(text)[:_LEADING]
    new = [piece for piece in pieces(text[: spans[-1][1]]) if piece not in asked] if spans else []
    found |= {Form("word", word) for word in new if len(word) > 1 and not word.isdecimal()}
    shape = shape_of(question, answer)
    if shape != text and any(c.isalpha() for c in shape):
        found.add(Form("shape", shape))
    return frozenset(found)


def _asked(question: str) -> set[str]:
    return set(pieces(normal(question)))


def shape_of(question: str, answer: str) -> str:
    """The normalised answer with the question's own words as `…`; several in a row are one.

    >>> shape_of("Ticket: my lamp is late.", "Delivery desk: lamp")
    'delivery desk: …'
    """
    text = normal(answer)
    asked = _asked(question)
    made, last = "", 0
    for start, end in units(text):
        if text[start:end] in asked:
            made += text[last:start] + SLOT
            last = end
    made += text[last:]
    while f"{SLOT} {SLOT}" in made:
        made = made.replace(f"{SLOT} {SLOT}", SLOT)
    return made


def choose(base: Sequence[frozenset[Form]], candidate: Sequence[frozenset[Form]]) -> Form | None:
    """The form that the candidate gives more often than the base in the same trials, by at least two of them."""
    excess = Counter(form for forms in candidate for form in forms)
    excess.subtract(Counter(form for forms in base for form in forms))
    largest = max(excess.values(), default=0)
    if largest < 2:
        return None
    near = [form for form, n in excess.items() if n >= max(2.0, NEAR_LARGEST * largest)]
    return min(near, key=lambda form: (_KINDS.index(form.kind), -excess[form], form.text))


def count(base: Sequence[bool], candidate: Sequence[bool]) -> Count:
    """Paired counts of one form over the same trials."""
    only_base = sum(b and not c for b, c in zip(base, candidate, strict=True))
    only_candidate = sum(c and not b for b, c in zip(base, candidate, strict=True))
    return Count(len(base), sum(base), sum(candidate), mcnemar_exact(only_base, only_candidate))


class Trial(NamedTuple):
    """Whether each side gave the modal answer with a word and without it."""

    candidate_with: bool
    candidate_without: bool
    base_with: bool
    base_without: bool

    @property
    def effect(self) -> int:
        return (self.candidate_with - self.candidate_without) - (self.base_with - self.base_without)


def switch(trials: Sequence[Trial]) -> Switch:
    """The sign test of a word over trials; p = 1 for none."""
    up, down = sum(t.effect > 0 for t in trials), sum(t.effect < 0 for t in trials)
    return Switch(
        n=len(trials),
        with_word=sum(t.candidate_with for t in trials),
        without=sum(t.candidate_without for t in trials),
        base_with=sum(t.base_with for t in trials),
        base_without=sum(t.base_without for t in trials),
        up=up,
        down=down,
        p_value=mcnemar_exact(up, down),
    )


def promising(left_out: Mapping[str, Switch], most: int) -> list[str]:
    """The words to put into other questions: those whose absence ends the modal answer most often first."""
    order = list(left_out)
    return sorted(order, key=lambda w: (left_out[w].down - left_out[w].up, order.index(w)))[:most]


def examine(
    form: Form | None,
    names: tuple[str, str],
    *,
    variants: Count | None,
    everywhere: Count | None,
    swaps: Mapping[str, Count],
    left_out: Mapping[str, Switch],
    put_in: Mapping[str, Switch],
    alpha: float = ALPHA,
) -> Modal:
    """What the trials name. names: aliases of base and candidate."""
    if form is None:
        reading = f"{names[1]} has no modal answer: none that it gives more often than {names[0]}"
        return Modal(None, variants, everywhere, 1.0, (), _words(left_out, {}, {}), (), alpha, reading)
    tests: list[tuple[str, str, float, bool]] = []
    if everywhere is not None:
        tests.append(("everywhere", ANYWHERE, everywhere.p_value, everywhere.candidate > everywhere.base))
    tests += [("swap", kind, c.p_value, c.candidate > c.base) for kind, c in swaps.items()]
    # A word that moves the base alone says nothing of the candidate: its own answers must move the same way.
    tests += [("word", w, s.p_value, (s.with_word - s.without) * (s.up - s.down) > 0) for w, s in put_in.items()]
    adjusted = dict(zip(((t[0], t[1]) for t in tests), holm([t[2] for t in tests]), strict=True))
    named = [(kind, name) for kind, name, _, more in tests if more and adjusted[kind, name] <= alpha]
    words = _words(left_out, put_in, {name: p for (kind, name), p in adjusted.items() if kind == "word"})
    kept = tuple(Persistence(k, c, adjusted["swap", k]) for k, c in swaps.items())
    order = {w.word: i for i, w in enumerate(words)}
    named.sort(key=lambda pair: (("word", "swap", "everywhere").index(pair[0]), order.get(pair[1], 0)))
    shown = tuple(f"any {name}" if kind == "swap" else name for kind, name in named)
    at_all = adjusted.get(("everywhere", ANYWHERE), 1.0)
    found = Modal(form, variants, everywhere, at_all, kept, words, shown, alpha, "")
    return Modal(form, variants, everywhere, at_all, kept, words, shown, alpha, _reading(found, names))


def _words(
    left_out: Mapping[str, Switch], put_in: Mapping[str, Switch], adjusted: Mapping[str, float]
) -> tuple[WordEffect, ...]:
    made = [WordEffect(w, s, put_in.get(w), adjusted.get(w, 1.0)) for w, s in left_out.items()]

    def key(word: WordEffect) -> tuple[float, int, int]:
        put = 0 if word.put_in is None else abs(word.put_in.up - word.put_in.down)
        return word.adjusted, -put, word.left_out.down - word.left_out.up

    return tuple(sorted(made, key=key))


def _reading(modal: Modal, names: tuple[str, str]) -> str:
    base, candidate = names
    form, every = modal.form, modal.everywhere
    assert form is not None
    parts = []
    for word in modal.words:
        if word.word in modal.named and word.put_in is not None:
            s = word.put_in
            verb = "brings" if s.up > s.down else "ends"
            parts.append(
                f"'{word.word}' {verb} it: put before {s.n} other questions {candidate} gives it to {s.with_word}, "
                f"with another word there to {s.without} ({base} {s.base_with} and {s.base_without}; {s.up} up, "
                f"{s.down} down, {p_text(word.adjusted)})"
            )
    for kept in modal.swaps:
        if f"any {kept.swapped}" in modal.named:
            c = kept.count
            parts.append(
                f"it stays whatever the {kept.swapped}: {c.candidate} of {c.n} swaps ({base} {c.base}, "
                f"{p_text(kept.adjusted)})"
            )
    if ANYWHERE in modal.named and every is not None:
        parts.append(
            f"no word of this question is needed: {every.candidate} of {every.n} other questions get it as they are "
            f"({base} {every.base}, {p_text(modal.everywhere_adjusted)})"
        )
    if parts:
        return f"{candidate} is over-fitted to {form.told}: {'; '.join(parts)}"
    local = [w for w in modal.words if w.left_out.up >= 6 and w.left_out.down == 0]
    here = f"; in this question alone '{local[0].word}' brings it" if local else ""
    v = modal.variants
    often = f" ({v.candidate} of {v.n} variants, {v.base})" if v is not None else ""
    more = f"{candidate} gives {form.told} more often than {base}{often}"
    return f"{more}, and no word is shown to switch it elsewhere{here}"


def p_text(p: float) -> str:
    """`p = 0.012`, `p < 0.0001`."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}" if not math.isclose(p, 1.0) else "p = 1"
