"""Typed results of probing: variants of a question, what both checkpoints answered, and what that names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from forgetbench.analysis.types import Interval
from forgetbench.types import Message

Asked = Literal["subject", "attribute", "reverse", "yes", "no", "paraphrase", "other"]
"""Kinds that templates make."""
Kind = Literal["original", Asked, "typo", "script", "case", "punctuation", "frame", "without"]

FormKind = Literal["answer", "shape", "word"]


class Form(NamedTuple):
    """Something that answers may share, from the most to the least specific.

    answer: the whole answer, normalised. shape: the same with the question's own words as `…`, so that `repair desk:
    lamp` and `repair desk: radio` have one shape. word: one word of the answer that is not in the question.
    """

    kind: FormKind
    text: str

    @property
    def told(self) -> str:
        """`the answer 'paris'`, `answers like 'repair desk: …'`, `answers with 'desk'`."""
        if not self.text:
            return "no answer at all"
        return {"answer": "the answer", "shape": "answers like", "word": "answers with"}[self.kind] + f" '{self.text}'"


@dataclass(frozen=True, slots=True)
class Variant:
    """One wording of a question, or a question made of it."""

    kind: Kind
    name: str
    """What was done, for people: `without 'capital'`, `subject = France`."""
    text: str
    """The question asked."""
    expected: tuple[str, ...] | None = None
    """Texts one of which a right answer holds. None: not known."""
    keeps_gold: bool = False
    """The item's own reference is still the right answer, so that its task can score it."""
    changed: tuple[str, ...] = ()
    """Words of the original that are not in it any more, or fields that were swapped."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What one checkpoint answered to one variant."""

    text: str
    """The greedy answer: what the task extracts, else the output."""
    right: bool | None
    """None: no right answer is known, or the engine failed."""
    samples: tuple[str, ...] = ()
    """Sampled answers beside it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a probe's table."""

    variant: Variant
    base: Answered | None
    """None: the engine failed on it."""
    candidate: Answered | None


@dataclass(frozen=True, slots=True)
class Count:
    """How often both sides gave the modal answer in the same n trials, and the exact sign test of that."""

    n: int
    base: int
    candidate: int
    p_value: float
    """Two-sided exact binomial of the trials in which only one side gave it (McNemar's exact test)."""


@dataclass(frozen=True, slots=True)
class Switch:
    """What a word does in trials with it and without it, net of what it does in the base.

    A trial's effect is (candidate with - candidate without) - (base with - base without), each 1 where the modal
    answer was given.
    """

    n: int
    with_word: int
    """Trials in which the candidate gave the modal answer with the word."""
    without: int
    base_with: int
    base_without: int
    up: int
    """Trials with a positive effect."""
    down: int
    p_value: float
    """Two-sided exact binomial of `up` among `up` + `down`, 1/2."""


@dataclass(frozen=True, slots=True)
class WordEffect:
    """One word of the question."""

    word: str
    left_out: Switch
    """In wordings of this question. They are no independent trials: shown, and names nothing alone."""
    put_in: Switch | None
    """Put before other questions, another word in its place: independent trials. None: not tried."""
    adjusted: float
    """Holm's p over all tests of the probe; 1 where it was not tried."""


@dataclass(frozen=True, slots=True)
class Persistence:
    """The modal answer kept although a part of the question was swapped and another answer is right or unknown."""

    swapped: str
    """Kind of variant: subject, attribute, ..."""
    count: Count
    adjusted: float


@dataclass(frozen=True, slots=True)
class Modal:
    """The answer that the candidate falls back to, and what makes it do so."""

    form: Form | None
    """None: no answer that the base does not give as often."""
    variants: Count | None
    """All variants of the question. They are no independent trials."""
    everywhere: Count | None
    """Other questions as they are."""
    everywhere_adjusted: float
    swaps: tuple[Persistence, ...]
    words: tuple[WordEffect, ...]
    """Largest effect first."""
    named: tuple[str, ...]
    """Words that switch the answer in other questions too, `(any question)` where no word is needed, and swapped
    fields that do not matter: adjusted p at most alpha."""
    alpha: float
    reading: str
    """One sentence."""


class Example(NamedTuple):
    """One training example that asks and answers."""

    prompt: str
    """The user's turn that is answered."""
    answer: str
    task_type: str
    where: str
    """`file:line`."""
    before: tuple[Message, ...] | None = ()
    """What stands before the prompt: a system message, earlier turns. None: it cannot be asked again as it was
    trained, since it uses tools, or the answer follows no user's turn."""


@dataclass(frozen=True, slots=True)
class Line:
    """A training line that teaches what was found."""

    where: str
    prompt: str
    answer: str
    overlap: float
    """Share of the question's n-grams (1 to 3 words) that stand in it."""
    same_answer: bool
    """Its answer has the modal form."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What the training file holds of a modal answer."""

    total: int
    """Examples read."""
    with_form: int
    """Of them those whose answer has the modal form."""
    by_word: Mapping[str, tuple[int, int]]
    """Named word -> (examples with it in the prompt, of them those with the modal form)."""
    lines: tuple[Line, ...]
    """Nearest first."""


@dataclass(frozen=True, slots=True)
class ItemProbe:
    """One question probed."""

    name: str
    """The item's key, or the row of the probe file."""
    question: str
    gold: str
    view: str
    rows: tuple[Row, ...]
    modal: Modal
    taught: Taught | None
    requests: int
    """Asked of both sides together."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """A share of n with its 95 % Wilson interval."""

    k: int
    n: int
    interval: Interval

    @property
    def value(self) -> float:
        return self.k / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Learnt:
    """Does it answer its own training items: greedy answers equal to the training answer."""

    task_type: str
    base: Share
    candidate: Share
    p_value: float
    """Exact, paired, of no difference between the two sides."""
    examples: tuple[tuple[str, str, str, str], ...] = ()
    """(file:line, prompt, training answer, candidate's answer) of some that are not answered as trained."""


@dataclass(frozen=True, slots=True)
class Echoed:
    """Does it answer test items with training answers: the items that the candidate answers wrongly."""

    task_type: str
    view: str
    how: Literal["verbatim", "shape", "word"]
    """word: holds `word`."""
    wrong: Share
    """The candidate's wrong answers that are one of the training file's."""
    base: Share
    """The base's answers to the same items that are one: what to expect where nothing was learnt by heart."""
    gold: Share
    """The right answers of the same items that are one: how far the two share their answers anyway."""
    p_value: float
    """Exact, paired: the candidate's answer is one, against the base's or the right one is."""
    adjusted: float
    """Holm over all rows."""
    examples: tuple[tuple[str, str, str], ...] = ()
    """(item, wrong answer, file:line of the training answer)."""
    word: str = ""
    """The hallmark of the training answers; empty for the other two."""


@dataclass(frozen=True, slots=True)
class TrainingFit:
    """Fit to the training set."""

    learnt: tuple[Learnt, ...]
    echoed: tuple[Echoed, ...]
    requests: int
    lines: tuple[str, ...]
    """One sentence each, for people."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FrequencyBin:
    """Facts that the base met about equally often."""

    low: float
    high: float
    """Smallest and largest count in it."""
    n: int
    """Items."""
    base: Share
    """Right answers of the base."""
    candidate: Share
    lost: Share
    """Of the items that the base has right those that the candidate has wrong."""


@dataclass(frozen=True, slots=True)
class FrequencyFit:
    """Loss by how often the base met a fact."""

    task: str
    view: str
    bins: tuple[FrequencyBin, ...]
    """Rarest first."""
    head_less_tail: Interval | None
    """Loss in the most frequent bin less that in the rarest, of those in which the base has something right; Newcombe's
    interval. None where that is one bin or none."""
    trend: float
    """Cochran-Armitage z of loss on the logarithm of 1 + count: negative, rare facts are lost more."""
    p_value: float
    """Two-sided, by permuting the counts over facts."""
    unknown: int
    """Items without a count, left out."""
    reading: str
