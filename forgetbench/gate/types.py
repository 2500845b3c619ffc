"""Policy, rule results and verdict. One verdict object feeds exit code, terminal, JSON and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forgetbench.analysis.types import Interval
from forgetbench.errors import Exit
from forgetbench.types import View

State = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Against = Literal["base", "locked", "previous"]

Estimand = Literal["auto", "greedy", "sampled"]
"""What is compared: greedy answers, or the mean over K samples at a temperature. `auto`: whichever there is, greedy
where there are both."""

Test = Literal["auto", "tango", "bootstrap"]
"""`auto`: Tango's score test for one 0/1 sample of independent items, else the cluster bootstrap."""

OnInconclusive = Literal["inconclusive", "fail", "pass-with-notice"]


@dataclass(frozen=True, slots=True)
class Part:
    """One term of a weighted score; a task or a task_type."""

    weight: float
    task: str | None = None
    task_type: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing a policy requires. Exactly one of task, task_type, tasks, parts says what it is about."""

    name: str
    view: View = "ability"
    task: str | None = None
    task_type: str | None = None
    """A path, or a pattern such as `knowledge/*`; what lies below it counts too. `*`: every item."""
    tasks: tuple[str, ...] = ()
    """Several tasks pooled (HumanEval + MBPP)."""
    metric: str | None = None
    margin: float = 0.05
    """Largest loss that is acceptable, as a fraction (5 points: 0.05)."""
    alpha: float = 0.05
    min_n: int = 1
    required: bool = True
    """False: advisory, shown and never decisive."""
    against: Against = "base"
    max_truncated: float = 0.05
    max_infra: float = 0.01
    max_unparsed: float | None = None
    """Share of answers that could not be read, on either side, above which the rule cannot decide. None: any."""
    estimand: Estimand = "auto"
    temperature: float | None = None
    """Of a sampled estimand. None: any, as long as there is one alone."""
    samples: int | None = None
    """Fewest samples of an item for a sampled estimand."""
    test: Test = "auto"
    on_inconclusive: OnInconclusive = "inconclusive"
    """What becomes of the verdict where this rule is undecided. `pass-with-notice` is for advisory rules only."""
    parts: tuple[Part, ...] = ()
    """Terms of a weighted score; the weights add up to 1."""
    formula: str = ""
    """The weighted score as the policy has it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Frozen and resolved: what a verdict was made with."""

    name: str
    rules: tuple[Rule, ...]
    alpha: float = 0.05
    not_in_force: tuple[str, ...] = ()
    """Lines about rules that have nothing to be held against for this candidate; every verdict shows them."""
    alarms: tuple[Rule, ...] = ()
    """Thresholds in points (`margin`) without any test: shown with how often they fire by chance, never decisive."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """A loss that somebody answers for, until a day. Exactly one of rule, task, task_type."""

    reason: str
    owner: str
    until: str
    """The last day on which it holds, YYYY-MM-DD (UTC)."""
    max_drop: float
    """Largest loss that it covers, as a fraction: at the rule's alpha a larger one has to be excluded."""
    rule: str | None = None
    task: str | None = None
    task_type: str | None = None
    metric: str | None = None
    """None: whatever metric the rule has."""
    source: str = ""
    """`file:line`."""

    @property
    def subject(self) -> str:
        return self.rule or self.task or self.task_type or ""


WaiverState = Literal["active", "expired", "exceeded", "unfit", "unused"]
"""What became of a waiver. active: it holds and lets its rules through; expired: its last day is over, so they count as
unwaived; exceeded: a loss beyond max_drop is not excluded; unfit: a rule lacks the evidence, which no waiver can
replace; unused: its rules pass without it."""


@dataclass(frozen=True, slots=True)
class WaiverUse:
    waiver: Waiver
    state: WaiverState
    rules: tuple[str, ...]
    """Names of the rules that it is about."""
    line: str
    """One sentence; every verdict shows it."""


@dataclass(frozen=True, slots=True)
class AlarmResult:
    alarm: Rule
    n: int
    delta: float | None
    """None, as below: nothing to look at."""
    fired: bool | None
    by_chance: float | None
    """P(it fires | nothing changed), at this n and the share of items that changed sides here."""
    line: str


@dataclass(frozen=True, slots=True)
class RuleResult:
    rule: Rule
    state: State
    n: int
    base: float | None
    candidate: float | None
    delta: float | None
    interval: Interval | None
    lower: float | None
    p_fail: float | None
    """One-sided p of H0: mean delta >= -margin/2 (before Holm)."""
    p_fail_holm: float | None
    minimum_detectable_drop: float | None
    reason: str
    """One sentence with the figures."""
    notice: str = ""
    """A proven drop inside the margin passes with a notice."""
    waived: Waiver | None = None
    """The waiver that lets this rule through; `state` stays what the figures say."""
    fit: bool = True
    """False: the evidence cannot decide, whatever its figures (nothing paired, too many truncated answers)."""
    total: int | None = None
    """Of a sequential decision the items that there were: `n` of them settled it, and every bound and p value holds
    at that stopping time. None: decided with all items at once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    exit_code: Exit
    reason: str
    """One sentence: the verdict and what it rests on."""
    base: str
    candidate: str
    policy: Policy
    rules: tuple[RuleResult, ...]
    notes: tuple[str, ...] = ()
    schema_version: int = 1
    waivers: tuple[WaiverUse, ...] = ()
    """Every waiver that was given, with what became of it."""
    alarms: tuple[AlarmResult, ...] = ()
