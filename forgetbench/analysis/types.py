"""Typed results of a comparison: what analysis computes, the gate decides on, and reports show.

All differences are candidate minus base, as fractions of 1 (0.01 is one point). Reports multiply by 100.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forgetbench.types import Outcome, Style, View


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
    """One item answered by both. `flip` is 'lost', 'gained', 'same', or 'changed' (continuous, no flip)."""

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


@dataclass(frozen=True, slots=True)
class SideInfo:
    """Which run stands on a side."""

    alias: str
    run_path: str
    fingerprint: str
    manifest: dict[str, object] = field(default_factory=dict)


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
