"""What a check for narrow hallucination finds, as typed results. Shares are fractions of 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from forgetbench.analysis.types import Interval
from forgetbench.ledger import Cost
from forgetbench.types import ItemKey, View

BeliefClass = Literal["firm", "mostly", "weak", "none"]
CLASSES: tuple[BeliefClass, ...] = get_args(BeliefClass)
HELD: tuple[BeliefClass, ...] = ("firm", "mostly")
"""Classes that a candidate can diverge from."""

Known = Literal["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"]
"""SliCK's classes (Gekhman et al. 2024, arXiv 2405.05904, table 2): how often the base gives the *gold* answer."""
KNOWN: tuple[Known, ...] = get_args(Known)

Kind = Literal["lost-correct", "corrected", "other"]
"""Of a divergence, by gold: the base right and the candidate wrong; the reverse; neither."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Mode = Literal["continuation", "few-shot", "ranking"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Options:
    """How much is asked, and where the classes part."""

    view: View = "ability"
    """Which answers of the candidate are looked at. The belief itself is asked for raw and few-shot."""
    tasks: frozenset[str] | None = None
    """Names of tasks; None: every one that generates an answer of its own (code and instructions never)."""
    draws: int = 10
    """Few-shot draws that class an item, each with one greedy answer."""
    samples: int = 3
    """Sampled answers of each of these draws."""
    shots: int = 4
    """Worked examples of a draw where the suite asks the task without any."""
    fresh: int = 5
    """Fresh answers of each side; the modal one is held against the belief."""
    temperature: float = 1.0
    """Of the sampled answers. Not SliCK's 0.5, which makes a belief of 64 % against 14 % look like one of 95 %."""
    firm: float = 0.9
    mostly: float = 0.7
    weak: float = 0.4
    """Least share of the answers that agree with the modal one."""
    max_items: int = 300
    """Items of a task, chosen by a hash of key and seed."""
    max_recoveries: int = 200
    """Diverged items that are asked again, and likewise control items."""
    max_tokens: int | None = None
    """Of every answer; None: the suite's own limit."""
    seed: int = 0


class Answer(NamedTuple):
    """One judged answer."""

    text: str | None
    """What the task took for the answer. None: refused, truncated, or nothing could be extracted."""
    correct: bool
    """Against gold."""
    surface: str = ""
    """The answer as it was written, for asking how likely it is."""
    lead: str = ""
    """Blanks before it."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What the base says of an item, again and again."""

    answer: Answer | None
    """Its modal answer. None: it never gave any."""
    share: float
    """Of all its answers, those that agree with the modal one."""
    n: int
    """Answers that it gave, greedy and sampled."""
    held: BeliefClass
    known: Known


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of items, or a difference of two such shares, with its 95 % interval over items (or clusters)."""

    value: float
    interval: Interval
    count: int
    """Items; of a difference those of the candidate less those of the base."""
    n: int


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of divergence."""

    kind: Kind
    candidate: int
    base: int
    """Items on which the base's own fresh answers part from its belief in this way: the floor."""
    net: Rate


@dataclass(frozen=True, slots=True)
class Margins:
    """How much likelier each side finds the base's answer a_b than the candidate's a_s, in nats."""

    candidate: float | None
    """log pi_s(a_b) - log pi_s(a_s)."""
    base: float | None
    """log pi_b(a_b) - log pi_b(a_s)."""


@dataclass(frozen=True, slots=True)
class FirstDivergence:
    """Where the candidate leaves the base's answer when it is made to read it."""

    position: int | None
    """Token of the answer, from 0, that the candidate would not have written; None: it would have written all."""
    n_tokens: int
    expected: str
    """That token, which the base wrote; empty where there is none."""
    preferred: str
    """What the candidate would have written."""
    logprob: float
    """The candidate's log-probability of the base's token there, in nats; of the last one where it never leaves."""
    logprob_sum: float
    """Of the whole answer."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """One item on which the candidate does not say what the base believes."""

    key: ItemKey
    task_type: str
    question: str
    gold: str
    belief: str
    held: BeliefClass
    share: float
    candidate: str
    kind: Kind
    base_diverged: bool
    """The base's own fresh answers did so too."""
    margins: Margins | None = None
    first: FirstDivergence | None = None
    recovered_by: tuple[Mode, ...] | None = None
    """Under which other question the candidate gave the base's answer. Each is one more draw: of single items it
    proves nothing (see `Recovery`). None: not asked."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """How often asking otherwise brought back the base's answer."""

    mode: Mode | Literal["any"]
    diverged: int
    n_diverged: int
    controls: int
    n_controls: int
    excess: float | None
    """Share of the diverged less share of the controls. None: no controls."""
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """Is it lost, or only out of reach of the question? Net of controls.

    Controls are items of which the base had no firm belief and whose modal answer the candidate does not give
    either: what three more draws bring up there is luck.
    """

    modes: tuple[Recovered, ...]
    any: Recovered
    """By at least one of them. Its `excess` is what was shown to be recoverable; what did not come back is not shown
    to be lost."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Narrow hallucination of a candidate under one view."""

    view: View
    classes: Mapping[BeliefClass, int]
    """Items by how firmly the base holds its answer."""
    known: Mapping[Known, int]
    """The same items by SliCK's classes."""
    gross: Rate | None
    """Held items on which the candidate's answer is not the base's belief. None, as below: no such items."""
    floor: Rate | None
    """Held items on which the base's own fresh answers are not."""
    net: Rate | None
    """Their difference, item by item: the headline."""
    by_class: Mapping[BeliefClass, Rate] = field(default_factory=dict)
    """The net rate among the firm and among the mostly firm items, where there are any."""
    parts: tuple[Part, ...] = ()
    candidate_silent: int = 0
    """Held items to which the candidate gave no answer (refused, truncated, unparsed): no divergence."""
    base_silent: int = 0
    diverged: tuple[Diverged, ...] = ()
    """Firmest belief first."""
    recovery: Recovery | None = None
    reading: str = ""
    """One sentence for people."""
    notes: tuple[str, ...] = ()
    cost: Mapping[str, Cost] = field(default_factory=dict)
    """By round."""
