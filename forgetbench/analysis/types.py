"""Typed results of a comparison: what analysis computes, the gate decides on, and reports show.

All differences are candidate minus base, as fractions of 1 (0.01 is one point). Reports multiply by 100.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from forgetbench.types import ItemKey, Outcome, Style, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forgetbench.behaviour.types import Behaviour

OUTCOMES: tuple[Outcome, ...] = ("ok", "unparsed", "truncated", "refused", "timeout", "infra_error")
"""Column order of `PairedScores.base_outcomes`."""

FLAGS = ("flagged", "looped", "wrong_language", "thought")
"""Column order of `PairedScores.base_flags`; `flagged` counts the samples that were looked at."""


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of samples (not of items), of one side."""

    unparsed: float
    truncated: float
    refused: float
    timeout: float
    infra_error: float
    looped: float | None = None
    """Answers that repeat themselves without end. None, as below: not looked at (preset: parity)."""
    wrong_language: float | None = None
    thought: float | None = None
    """Answers with thinking that was taken off before scoring."""


@dataclass(frozen=True, slots=True)
class Severity:
    band: str
    """none, mild, moderate, severe (points lost: < 5 and proven, 5 to 15, > 15)."""
    confirmed: bool
    """True only when the simultaneous bound kinder to the candidate clears the band's edge."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one group of items changed under one view and metric."""

    group: str
    """Task name, task_type path (`reasoning` or `reasoning/arithmetic`), or `all`."""
    kind: str
    """task, task_type_1 (top level), task_type_2, stratum."""
    view: View
    metric: str
    decode_id: str
    n: int
    """Paired items with a score on both sides."""
    n_clusters: int
    base: float
    candidate: float
    delta: float
    interval: Interval
    lower: float
    """One-sided 95 % lower bound of delta: what PASS is decided on."""
    upper: float
    p_value: float
    """Two-sided, of no change."""
    test: str
    forgotten: float | None
    """F = P(1 -> 0); None for a continuous metric."""
    gained: float | None
    rel_forgotten: float | None
    discordance: float | None
    severity: Severity
    base_rates: Rates
    candidate_rates: Rates
    dropped_infra: int = 0
    """Pairs left out because one side was an infra_error."""
    chance: float | None = None
    """Mean of 1/n_choices over the items where that is defined."""


@dataclass(frozen=True, slots=True)
class Side:
    """One checkpoint's answer to one item, as evidence."""

    score: float | None
    outcome: Outcome
    output: str
    extracted: str | None
    why: str
    style: Style | None
    prompt_text_hash: str | None
    prompt_token_hash: str | None
    finish_reason: str | None
    n_output_tokens: int | None
    mean_logprob: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """One item answered by both.

    `flip` is 'lost' or 'gained' (0/1 scores; K samples: the success rate moved by 1/2 or more), 'same',
    'changed' (any other difference), or 'dropped' (infra_error on a side: no score).
    """

    task: str
    content_hash: str
    occurrence: int
    task_type: str
    view: View
    metric: str
    decode_id: str
    gold: str
    prompt: str | None
    flip: str
    base: Side
    candidate: Side
    stratum: str | None = None
    source: str | None = None
    candidate_prompt: str | None = None
    """Set only where it differs from the base's (chat view under two templates)."""

    @property
    def anchor(self) -> str:
        """Stable id of this pair, for permanent links."""
        return f"{self.task}-{self.content_hash}-{self.occurrence}-{self.view}"


@dataclass(frozen=True, slots=True, eq=False)
class PairedScores:
    """The paired items of one task under one view, metric and decoding, as arrays: what every statistic is
    made of, so that the gate decides on the items themselves and not on rounded summaries.

    Arrays have one entry per paired item, sorted by item key. K samples are averaged per item.
    """

    task: str
    view: View
    metric: str
    decode_id: str
    primary: bool
    """Whether this is the metric that the task is decided on."""
    binary: bool
    """Every sample's score is 0 or 1."""
    single: bool
    """One sample per item and side."""
    task_types: NDArray[np.object_]
    strata: NDArray[np.object_]
    """Subject names or None."""
    clusters: NDArray[np.int64]
    """Equal codes belong together, across tasks too; an item without a cluster has a code of its own."""
    base: NDArray[np.float64]
    """nan where a side has no score (infra_error)."""
    candidate: NDArray[np.float64]
    base_outcomes: NDArray[np.int64]
    """(n, 6): samples by outcome, columns as in OUTCOMES; dropped items included."""
    candidate_outcomes: NDArray[np.int64]
    n_choices: NDArray[np.float64]
    """nan where the item has no choices."""
    keys: NDArray[np.object_]
    """The items' keys."""
    base_flags: NDArray[np.int64]
    """(n, 4): samples by flag, columns as in FLAGS."""
    candidate_flags: NDArray[np.int64]
    base_samples: NDArray[np.float64]
    """Samples that an item's score is the mean of; imported successes out of K count K."""
    candidate_samples: NDArray[np.float64]

    def pick(self, mask: NDArray[Any]) -> PairedScores:
        """The items where `mask` (n,) is true."""
        arrays = {name: getattr(self, name)[mask] for name in _ARRAYS}
        return replace(self, **arrays)


_ARRAYS = (
    "task_types",
    "strata",
    "clusters",
    "base",
    "candidate",
    "base_outcomes",
    "candidate_outcomes",
    "n_choices",
    "keys",
    "base_flags",
    "candidate_flags",
    "base_samples",
    "candidate_samples",
)


@dataclass(frozen=True, slots=True)
class SideInfo:
    """Which run stands on a side."""

    alias: str
    run_path: str
    fingerprint: str
    manifest: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FullSetChange:
    """What a stratified sample says about the change over the whole set (analysis/subset.py)."""

    task: str
    view: View
    metric: str
    decode_id: str
    n: int
    """Items of the sample with a score on both sides."""
    total: int
    """Items of the whole set."""
    n_strata: int
    base: float
    candidate: float
    delta: float
    se: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Leak:
    """An item that overlaps with the candidate's training data (analysis/leaks.py)."""

    key: ItemKey
    how: str
    """exact, ngram or near: the strongest evidence there is, in this order."""
    overlap: float
    """exact: 1. ngram: share of the question's words inside shared n-grams. near: Jaccard of shingles."""
    where: str
    """`file:line` of the training text."""
    excerpt: str
    """What is shared, as the training text has it; normalised."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the generated answers of one side are, in its own tokens."""

    median: float
    mean: float
    p90: float
    at_limit: float | None
    """Share of answers that the token limit ended. None: not known (imported runs)."""


@dataclass(frozen=True, slots=True)
class LengthChange:
    """Answer lengths of the items that both answered with a text."""

    group: str
    """Task name, or `all` for all tasks of a view."""
    kind: str
    """task, all."""
    view: View
    decode_id: str
    n: int
    """Paired items; K samples are averaged per item."""
    base: Lengths
    candidate: Lengths
    delta: float
    """Mean over the items of candidate minus base, in tokens."""
    interval: Interval | None
    """None: one cluster alone."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The line seconds = first_token + per_token * (tokens - 1) through one side's answers (latency.py)."""

    n: int
    """Answers that the line was drawn through."""
    total: int
    """Answers with a time; of many a seeded sample is fitted."""
    first_token: float
    """Seconds to the first new token, waiting included; never below 0."""
    first_token_interval: Interval
    per_token: float
    """Seconds of each further token; never below 0."""
    per_token_interval: Interval
    r2: float
    """Share of the variance of the seconds that the line explains."""
    spread: float
    """Median distance of an answer from the line, in seconds."""
    measured_first_token: float | None
    """Median of the first-token times that the engine measured itself, where it does."""
    points: tuple[tuple[int, float], ...]
    """(tokens, seconds) of at most 120 of the answers, for a drawing."""


@dataclass(frozen=True, slots=True)
class SpeedChange:
    """Both sides' lines, and their difference where the same engine computed both."""

    base: Speed | None
    candidate: Speed | None
    base_reason: str
    """Why there is no line; empty where there is one."""
    candidate_reason: str
    not_comparable: str
    """Why the two lines must not be held against each other; empty where they may."""
    first_token: float | None = None
    """Candidate minus base, in seconds; None as below where they are not comparable."""
    first_token_interval: Interval | None = None
    per_token: float | None = None
    per_token_interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """What the generated answers cost: their lengths, and the time they took."""

    lengths: tuple[LengthChange, ...]
    speed: SpeedChange
    other_tokenizer: bool
    """The tokenizers differ, so that a token is not the same piece of text on both sides."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs paired item by item."""

    base: SideInfo
    candidate: SideInfo
    suite: str
    changes: tuple[Change, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()
    """Lines a reader must see: views that could not be compared, unpaired items, doubts."""
    manifest_differences: tuple[tuple[str, str, str], ...] = ()
    """(key, base value, candidate value)."""
    banner: str = ""
    """Shown on top of the report (the demo says that it is a toy)."""
    scores: tuple[PairedScores, ...] = ()
    """What the changes were computed from, and the gate decides on."""
    full_set: tuple[FullSetChange, ...] = ()
    """Of tasks that were sampled: what the sample says about the whole set."""
    leaks: tuple[Leak, ...] = ()
    """Items found in the training data; looked for only with --train-data."""
    without_leaks: tuple[Change, ...] = ()
    """The changes again without those items, where there are any."""
    against: tuple[str, ...] = ()
    """What the base is to the candidate: base, locked, previous; several where one checkpoint is. Rules against
    these are decided on it. Empty: not told, and a report guesses from the names."""
    answers: AnswerChange | None = None
    """None: not one answer is a generated text."""
    behaviour: Behaviour | None = None
    """What was found beyond right and wrong (behaviour/study.py). None: not looked at."""
