"""One question probed: variants, words left out, words put into other questions, and what that names.

Asked of each side, at most: every variant greedily and in `samples` samples; every word (`MOST_WORDS`) left out of
`CARRIERS` wordings; `CONTEXTS` other questions as they are; and `PUT_INTO` of those with another word before them and
with each of the `MOST_PUT_IN` most promising words before them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from forgetbench.probing import modal as modals
from forgetbench.probing.asking import Both, Host, answer_text, answered, ask_both, put_before
from forgetbench.probing.templates import ProbeFile, templated
from forgetbench.probing.training_lines import taught
from forgetbench.probing.types import Count, Example, Form, ItemProbe, Row, Switch, Variant
from forgetbench.probing.variants import (
    finder,
    fold,
    frames,
    has_word,
    in_numbers,
    plain_variants,
    units,
    without,
    words_of,
)
from forgetbench.rounds import Asker, Side
from forgetbench.types import Decode, Request, Response

CARRIERS = 8
CONTEXTS = 32
PUT_INTO = 16
MOST_WORDS = 16
MOST_PUT_IN = 6
SAMPLES = 4
TEMPERATURE = 1.0
_SWAPPED = ("subject", "attribute", "other")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is probed: a question, who asks it, and what its templates know of it."""

    name: str
    host: Host
    question: str
    gold: str = ""
    expected: tuple[str, ...] | None = None
    """Right answers where the host is another item; None: the host's own task judges."""
    fields: Mapping[str, str] = field(default_factory=dict)


class _Heard(NamedTuple):
    """A trial's question and what both sides answered to it."""

    text: str
    both: Both

    @property
    def complete(self) -> bool:
        return bool(self.both.base and self.both.candidate)

    def forms(self) -> tuple[frozenset[Form], frozenset[Form]]:
        base, candidate = (modals.forms_of(self.text, answer_text(side[0])) for side in self.both)
        return base, candidate


class _Counting:
    """An asker that counts what it was asked for."""

    def __init__(self, ask: Asker) -> None:
        self.ask, self.ids = ask, set[str]()

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        self.ids |= {r.request_id for r in requests}
        return self.ask(name, requests)


def probe_item(
    base: Side,
    candidate: Side,
    ask: Asker,
    subject: Subject,
    contexts: Sequence[Host],
    *,
    probes: ProbeFile | None = None,
    examples: Sequence[Example] = (),
    samples: int = SAMPLES,
    seed: int = 0,
) -> ItemProbe:
    """contexts: other questions; at most CONTEXTS of them are asked. examples: the candidate's training data, empty:
    not known. Raises UsageError where the item cannot be varied; what the engine failed on is left out."""
    counting = _Counting(ask)
    names = (base.point.alias, candidate.point.alias)
    variants, notes = _variants(subject, probes, seed)
    chosen = [host for host in contexts if host.question != subject.question][:CONTEXTS]
    words = _chosen_words(subject.question)
    carriers = frames(subject.question)[:CARRIERS]
    pairs = [(w, c(subject.question), c(without(subject.question, w))) for w in words for c in carriers]
    first = [(subject.host, v.text) for v in variants]
    cut = [(subject.host, text) for _, whole, less in pairs for text in (whole, less)]
    every = [(host, host.question) for host in chosen]
    heard = _ask(base, candidate, counting, [*first, *cut, *every])
    of_variants, of_cut = heard[: len(first)], heard[len(first) : len(first) + len(cut)]
    of_every = heard[len(first) + len(cut) :]
    drawn: Sequence[Both] = [Both((), ())] * len(variants)
    if samples:
        drawn = ask_both(base, candidate, counting, first, decode=Decode(TEMPERATURE, n=samples))
    metric = next(iter(subject.host.candidate.task.metrics), None) if subject.expected is None else None
    rows = tuple(
        Row(v, *(answered(mine, more, v, metric) for mine, more in zip(h.both, s, strict=True)))
        for v, h, s in zip(variants, of_variants, drawn, strict=True)
    )
    known = [h.forms() for h in (*of_variants, *of_cut) if h.complete]
    form = modals.choose([b for b, _ in known], [c for _, c in known])
    cuts: dict[str, list[tuple[_Heard, _Heard]]] = {}
    for (word, _, _), whole, less in zip(pairs, of_cut[::2], of_cut[1::2], strict=True):
        cuts.setdefault(word, []).append((whole, less))
    left_out = {word: modals.switch(_trials(mine, form)) for word, mine in cuts.items()}
    put_in: dict[str, Switch] = {}
    if form is not None and chosen:
        best = modals.promising(left_out, MOST_PUT_IN)
        put_in = _put_in(base, candidate, counting, subject, chosen[:PUT_INTO], best, form, seed)
    found = modals.examine(
        form,
        names,
        variants=_count(of_variants, form),
        everywhere=_count(of_every, form),
        swaps=_swaps(variants, of_variants, form),
        left_out=left_out,
        put_in=put_in,
    )
    if not chosen:
        notes.append("no other questions to put a word into: no word can be named")
    return ItemProbe(
        name=subject.name,
        question=subject.question,
        gold=subject.gold,
        view=subject.host.candidate.view,
        rows=rows,
        modal=found,
        taught=taught(subject.question, form, [w for w in found.named if w in left_out], examples)
        if examples and form is not None
        else None,
        requests=len(counting.ids),
        notes=tuple(notes),
    )


def _variants(subject: Subject, probes: ProbeFile | None, seed: int) -> tuple[list[Variant], list[str]]:
    own = [Variant("original", "as it is", subject.question, keeps_gold=True)]
    made, notes = templated(subject.question, subject.fields, probes, seed=seed) if probes else ([], [])
    plain = plain_variants(subject.question, subject.gold, seed=seed)
    found: dict[str, Variant] = {}
    for variant in (*own, *made, *plain):
        if subject.expected is not None and variant.keeps_gold:
            variant = Variant(variant.kind, variant.name, variant.text, subject.expected, True, variant.changed)
        found.setdefault(variant.text, variant)
    return list(found.values()), notes


def _chosen_words(question: str) -> list[str]:
    """Of a long question the longest words: those say what it is about. Half a number is no word."""
    parts = in_numbers(question)
    words = [w for w in words_of(question) if w not in parts]
    if len(words) < 2:
        return []
    longest = sorted(words, key=lambda w: (-len(w), words.index(w)))[:MOST_WORDS]
    return [w for w in words if w in longest]


def _ask(base: Side, candidate: Side, ask: Asker, asked: Sequence[tuple[Host, str]]) -> list[_Heard]:
    answers = ask_both(base, candidate, ask, asked)
    return [_Heard(text, both) for (_, text), both in zip(asked, answers, strict=True)]


def _trials(pairs: Sequence[tuple[_Heard, _Heard]], form: Form | None) -> list[modals.Trial]:
    """(with, without) as trials of a form; pairs that an engine failed on are left out."""
    made = []
    for with_word, less in pairs:
        if form is not None and with_word.complete and less.complete:
            (base_with, candidate_with), (base_less, candidate_less) = with_word.forms(), less.forms()
            made.append(
                modals.Trial(form in candidate_with, form in candidate_less, form in base_with, form in base_less)
            )
    return made


def _count(heard: Sequence[_Heard], form: Form | None) -> Count | None:
    sides = [h.forms() for h in heard if h.complete]
    if form is None or not sides:
        return None
    return modals.count([form in b for b, _ in sides], [form in c for _, c in sides])


def _swaps(variants: Sequence[Variant], heard: Sequence[_Heard], form: Form | None) -> dict[str, Count]:
    """By what was swapped, those variants to which the modal answer is not the right one."""
    made: dict[str, Count] = {}
    for kind in _SWAPPED:
        mine = [
            h
            for v, h in zip(variants, heard, strict=True)
            if v.kind == kind and not any(form in modals.forms_of(v.text, e) for e in v.expected or ())
        ]
        found = _count(mine, form)
        if found is not None:
            made[kind] = found
    return made


def _put_in(
    base: Side,
    candidate: Side,
    ask: Asker,
    subject: Subject,
    contexts: Sequence[Host],
    words: Sequence[str],
    form: Form,
    seed: int,
) -> dict[str, Switch]:
    """Each word before each other question that does not have it, against another word in that place."""
    surface = {fold(subject.question[a:b]): subject.question[a:b] for a, b in reversed(units(subject.question))}
    texts = [host.question for host in contexts]
    others = [_other_word(i, texts, subject.question, seed) for i in range(len(texts))]
    used = {w: [i for i, text in enumerate(texts) if not has_word(text, w) and others[i]] for w in words}
    asked = [(contexts[i], put_before(surface[w], texts[i])) for w in words for i in used[w]]
    places = sorted({i for mine in used.values() for i in mine})
    asked += [(contexts[i], put_before(others[i], texts[i])) for i in places]
    heard = iter(_ask(base, candidate, ask, asked))
    with_word = {(w, i): next(heard) for w in words for i in used[w]}
    placebo = {i: next(heard) for i in places}
    found = {}
    for w in words:
        found[w] = modals.switch(_trials([(with_word[w, i], placebo[i]) for i in used[w]], form))
    return found


def _other_word(at: int, texts: Sequence[str], question: str, seed: int) -> str:
    """A word of another context that stands neither in this one nor in the probed question; empty: there is none."""
    words = sorted({text[a:b] for i, text in enumerate(texts) if i != at for a, b in units(text)})
    here, asked = finder(texts[at]), finder(question)
    pool = [w for w in words if not here(fold(w)) and not asked(fold(w))]
    return random.Random(f"{seed} {texts[at]}").choice(pool) if pool else ""
