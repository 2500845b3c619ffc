"""Policy, rule results and verdict. One verdict object feeds exit code, terminal, JSON and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from forgetbench.analysis.types import Interval
from forgetbench.errors import Exit
from forgetbench.types import View

State = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Against = Literal["base", "locked", "previous"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing a policy requires. Exactly one of task, task_type, tasks says what it is about."""

    name: str
    view: View = "ability"
    task: str | None = None
    task_type: str | None = None
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


@dataclass(frozen=True, slots=True)
class Policy:
    """Frozen and resolved: what a verdict was made with."""

    name: str
    rules: tuple[Rule, ...]
    alpha: float = 0.05
    not_in_force: tuple[str, ...] = ()
    """Lines about rules that have nothing to be held against for this candidate; every verdict shows them."""


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
