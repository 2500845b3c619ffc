"""What the search for causes is told, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from forgetbench.analysis.types import Interval
from forgetbench.ledger import Cost
from forgetbench.types import ItemKey, View

Direction = Literal["lost", "gained"]

Label = Literal["consistent", "weakened", "flicker", "undetermined"]
"""What fresh samples say about a flip. Of a gained one with the sides exchanged: `weakened` is then an item that the
base gets right less often, and not next to never."""

Delivery = Literal["refused", "loop", "truncated", "wrong_language", "format"]
Cause = Literal[
    "format",
    "truncated",
    "refused",
    "loop",
    "wrong_language",
    "style",
    "access",
    "consistent",
    "weakened",
    "flicker",
    "undetermined",
    "not_recovered",
]
"""`consistent` is the end of a gained flip alone, of which nothing more is asked."""

CAUSES: tuple[Cause, ...] = (
    "format",
    "truncated",
    "refused",
    "loop",
    "wrong_language",
    "style",
    "access",
    "consistent",
    "weakened",
    "flicker",
    "undetermined",
    "not_recovered",
)
"""In the order in which they are told."""

WORDS: Mapping[Cause, str] = {
    "wrong_language": "wrong language",
    "not_recovered": "not recovered",
}
"""Names for people where they differ."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is asked, and from where on something counts. All shares and rates of 1."""

    samples: int = 20
    """Fresh samples of each side for each flip and control."""
    further: tuple[int, ...] = (40,)
    """Further ones for flips that are undetermined after those, one number a look: a posterior may be looked at again.
    (40, 100) leaves half as many undetermined (docs/causes.md)."""
    temperature: float = 0.7
    """High enough that an item at .5 shows both its answers, low enough that a long answer is not lost to one
    unlikely token: at 1 the tail of every step is drawn, and items look weak that no user sees fail. It is also where
    published pass@N curves are mostly taken. Rates of success hold for the temperature that they were drawn at."""
    controls: int = 100
    """Random items of a task and view that did not flip, half of them right on both sides and half wrong."""
    stable_controls: int = 40
    """Controls that are stably wrong on both sides, which recovery measures luck on: further ones are sampled where
    those controls hold fewer. With 8 the mean luck of a view came out at .42 where 42 said .29 (docs/causes.md)."""
    most_flips: int = 300
    """Flips of a task and view that are looked at; of more a random subset, and counts are scaled up."""
    replicate: int = 100
    """Of the seeds of fresh samples: 100 or more, so that they are never those of --samples."""
    seed: int = 0
    """Of random subsets."""
    small: float = 0.25
    """A change of the rate of success up to this is flicker."""
    high: float = 0.6
    """Consistent: the base's rate is at least this,"""
    low: float = 0.25
    """and the candidate's at most this."""
    sure: float = 0.9
    """Posterior probability that a label needs."""
    budget_factor: int = 4
    """Times the token budget for answers that were cut off."""
    budget_samples: int = 5
    tries: int = 10
    """Samples of each way to recover an answer."""
    alpha: float = 0.05
    """Chance that luck alone is called a recovery, or an accident a format, for an item."""
    least: float = 0.3
    """Share of right answers that a recovery needs beside that."""
    shots: int = 3
    """Worked examples more than the view shows."""
    firm: float = 0.8
    """Share of the candidate's samples that give one answer: a firm one."""
    training: tuple[str, ...] = ()
    """Texts of the training file, to tell answers that it teaches."""

    def __post_init__(self) -> None:
        if min(self.samples, self.tries, self.budget_samples) < 1 or self.budget_factor < 2:
            raise ValueError("samples, tries and budget_samples are 1 or more, budget_factor 2 or more")
        if min(self.further, default=1) < 1:
            raise ValueError("each further look takes 1 sample or more")
        if self.temperature <= 0.0 or self.replicate < 100:
            raise ValueError("fresh samples need a temperature above 0 and a replicate of 100 or more")


class Count(NamedTuple):
    """Successes out of trials."""

    right: int
    n: int

    @property
    def rate(self) -> float:
        return self.right / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Stability:
    """What the fresh samples of both sides say about one item."""

    label: Label
    base: Count
    candidate: Count
    base_rate: float
    """Posterior mean of p_b; the next one of p_s."""
    candidate_rate: float
    loss: Interval
    """Posterior interval of p_b - p_s, equal tails."""
    p_consistent: float
    """Posterior probability that p_b >= high and p_s <= low."""
    p_lower: float
    """That p_b - p_s > small; of a gained flip p_s - p_b."""
    p_small: float
    """That |p_b - p_s| <= small."""
    pass_k: int
    """k of the next two: half of the samples that both sides have, since pass@k wants twice as many."""
    pass_base: float
    """pass@k, unbiased: the articles' rule. Its blind spot: an item that fell from .9 to .3 still has pass@10 = .97,
    and this alone would call it flicker."""
    pass_candidate: float


@dataclass(frozen=True, slots=True)
class Try:
    """One way in which a lost answer was asked for again."""

    name: str
    """other_view, few_shot, continuation, budget."""
    count: Count
    luck: float
    """Rate that is had without having the answer: of the controls, or the item's own in the view if that is higher."""
    controls: int
    """Real control items behind it."""
    p_value: float
    recovered: bool
    example: str
    """A right answer if there was one, else the first."""


@dataclass(frozen=True, slots=True)
class Found:
    """One flip and its cause. `evidence` counts the candidate's wrong answers by what became of them."""

    key: ItemKey
    view: View
    direction: Direction
    cause: Cause
    stability: Stability
    evidence: Mapping[str, int]
    tries: tuple[Try, ...]
    examples: tuple[str, ...]
    """At most three of the candidate's wrong answers, the most frequent ones first."""
    overwritten: bool = False
    """Not recovered, and another answer is given firmly that the base does not give, or one that was trained."""
    answer: str | None = None
    """That answer."""
    why: str = ""
    task_type: str = ""
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class CauseCounts:
    """The flips of one task under one view."""

    task: str
    view: View
    lost: int
    gained: int
    looked_at: int
    """Of the lost ones; fewer where there were more than `most_flips` or an answer could not be had."""
    counts: Mapping[Cause, int]
    """Of the lost ones that were looked at."""
    gained_counts: Mapping[Cause, int]
    overwritten: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Controls:
    """What the same rules make of items that did not flip: the floor under the counts."""

    task: str
    view: View
    right: Count
    """Labelled consistent or weakened, in either direction, of those right on both sides."""
    wrong: Count
    format: Count
    """Taken for `format`, of those wrong on both sides."""


@dataclass(frozen=True, slots=True)
class Causes:
    found: tuple[Found, ...]
    tasks: tuple[CauseCounts, ...]
    controls: tuple[Controls, ...]
    cost: Cost
    notes: tuple[str, ...]
