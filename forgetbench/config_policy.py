"""Policies and waivers as a user writes them. Margins, thresholds and drops are in points.

`configs/policies/policy.schema.json` and `waivers.schema.json` are made from this file
(`python -m forgetbench.gate.schema`), so that an editor knows every key.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from forgetbench.config_fields import (
    Alpha,
    Count,
    Label,
    Name,
    Points,
    Sentence,
    Share,
    Strict,
    Switch,
    TaskTypePath,
    ViewName,
)

AgainstName = Literal["auto", "base", "locked", "previous"]


class Limits(Strict):
    """What a rule asks of its evidence, and what it does without it."""

    min_n: Count = Field(1, description="fewest paired items")
    max_infra: Share = Field(0.01, description="largest share of answers that the engine failed on, on either side")
    max_truncated: Share = Field(0.05, description="largest share of answers cut by the token limit, on either side")
    max_unparsed: Share | None = Field(None, description="largest share of answers that could not be read; null: any")
    on_inconclusive: Literal["inconclusive", "fail", "pass-with-notice"] = Field(
        "inconclusive",
        description="what an undecided rule does to the verdict; pass-with-notice only for advisory rules",
    )


class RuleConfig(Limits):
    """One rule, or with `each` one for each task or task_type that it matches."""

    name: Label | None = None
    task: Name | None = Field(None, description="one task of the suite")
    tasks: tuple[Name, ...] = Field((), description="several tasks, their items pooled")
    task_type: TaskTypePath | None = Field(None, description="a path such as knowledge, or a pattern: knowledge/*")
    all: Switch = Field(False, description="every item of the suite")
    formula: str | None = Field(
        None, description="a weighted score: 0.5 * gsm8k + 0.3 * ifeval:inst_strict + 0.2 * safety; weights add up to 1"
    )
    each: Literal["task", "task_type"] | None = Field(
        None, description="one rule for each task or task_type that `task_type` or `all` matches"
    )
    view: ViewName = "ability"
    metric: Label | None = Field(None, description="default: the metric that each task is decided on")
    estimand: Literal["auto", "greedy", "sampled"] = Field(
        "auto", description="greedy answers, or the mean of K samples; auto: whichever there is, greedy before samples"
    )
    temperature: Annotated[float, Field(gt=0, le=10, strict=True)] | None = Field(
        None, description="of a sampled estimand"
    )
    samples: Count | None = Field(None, description="fewest samples of an item, of a sampled estimand")
    margin: Points = Field(5.0, description="largest acceptable loss, in points")
    alpha: Alpha | None = Field(None, description="default: the policy's")
    test: Literal["auto", "tango", "bootstrap"] = Field(
        "auto", description="auto: Tango's score test for one 0/1 sample of independent items, else the bootstrap"
    )
    required: Switch = Field(True, description="false: advisory, shown and never decisive")
    against: AgainstName = Field("auto", description="auto: the base; in chat the first that has a chat template")

    @model_validator(mode="after")
    def _consistent(self) -> RuleConfig:
        _one_subject(self, ("task", "task_type", "tasks", "all", "formula"))
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("`tasks` names a task twice")
        if self.view == "as_used" and self.required:
            raise ValueError("the view as_used is advisory; set required: false")
        if self.on_inconclusive == "pass-with-notice" and self.required:
            raise ValueError("an undecided rule passes with a notice only if it is advisory; set required: false")
        if self.each is not None and self.task_type is None and not self.all:
            raise ValueError("`each` belongs to `task_type` or `all: true`")
        if self.estimand != "sampled" and (self.temperature is not None or self.samples is not None):
            raise ValueError("`temperature` and `samples` belong to estimand: sampled")
        if self.formula is not None:
            if self.metric is not None or self.test != "auto":
                raise ValueError("a formula names its metrics itself (ifeval:inst_strict) and has one test of its own")
            from forgetbench.gate.policy_formula import parse

            parse(self.formula)
        return self


class AlarmConfig(Strict):
    """Fires when the loss is as large as `points`, however it came about; never decides."""

    name: Label | None = None
    task: Name | None = None
    tasks: tuple[Name, ...] = ()
    task_type: TaskTypePath | None = None
    all: Switch = False
    view: ViewName = "ability"
    metric: Label | None = None
    points: Points
    against: AgainstName = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> AlarmConfig:
        _one_subject(self, ("task", "task_type", "tasks", "all"))
        return self


class BenchmarkConfig(Strict):
    """What the suite's rules hold for a benchmark, where the suite has it."""

    tasks: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Several: pooled into one rule."""
    margin: Points
    full: Count
    """Items of the full set. A subset gets the general margin, since it could never certify this one."""
    required: Switch = True


class SuiteRules(Limits):
    """Rules made from the suite: one for each benchmark listed, one for each ability of a user's own sets."""

    margin: Points = Field(5.0, description="of a user's own sets and of subsets of a benchmark")
    benchmarks: tuple[BenchmarkConfig, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> SuiteRules:
        if self.on_inconclusive == "pass-with-notice":
            raise ValueError("an undecided rule passes with a notice only if it is advisory; these are required")
        names = [task for one in self.benchmarks for task in one.tasks]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"the benchmark '{doubled[0]}' is listed twice")
        return self


class PolicyConfig(Strict):
    """A policy: which losses block a checkpoint."""

    name: Label
    description: str = ""
    alpha: Alpha = 0.05
    suite_rules: SuiteRules | None = None
    rules: tuple[RuleConfig, ...] = Field((), description="one with the name of a rule of suite_rules replaces it")
    alarms: tuple[AlarmConfig, ...] = ()

    @model_validator(mode="after")
    def _decides(self) -> PolicyConfig:
        if self.suite_rules is not None:
            return self
        if not self.rules:
            raise ValueError("there are no rules, so nothing could ever block; add `rules` or `suite_rules`")
        required = [r for r in self.rules if r.required]
        if not required:
            raise ValueError("no rule is required, so nothing could ever block")
        if all(r.against == "previous" for r in required):
            raise ValueError(
                "every required rule is against `previous`, which would allow a margin to be lost at every step; "
                "add one against base or locked"
            )
        return self


def _day(value: Any) -> Any:
    """A calendar day only: of a number pydantic would make a time since 1970."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError("use a day such as 2026-12-31") from None
    if isinstance(value, datetime) or not isinstance(value, date):
        raise ValueError("use a day such as 2026-12-31")
    return value


class WaiverConfig(Strict):
    """A loss that somebody answers for, until a day."""

    rule: Label | None = Field(None, description="name of a rule of the policy")
    task: Name | None = None
    task_type: TaskTypePath | None = None
    metric: Label | None = Field(None, description="with task or task_type; default: whatever metric the rule has")
    reason: Sentence
    owner: Label
    until: Annotated[date, BeforeValidator(_day)] = Field(description="the last day on which it holds")
    max_drop: Points = Field(description="largest loss that it covers; a larger one has to be excluded")

    @model_validator(mode="after")
    def _consistent(self) -> WaiverConfig:
        _one_subject(self, ("rule", "task", "task_type"))
        if self.rule is not None and self.metric is not None:
            raise ValueError("`metric` belongs to `task` or `task_type`; a rule has its own")
        return self


class WaiversConfig(Strict):
    """A file of waivers."""

    waivers: tuple[WaiverConfig, ...]


def _one_subject(model: Strict, names: tuple[str, ...]) -> None:
    if sum(bool(getattr(model, name)) for name in names) != 1:
        *most, last = names
        raise ValueError(f"say what it is about: exactly one of {', '.join(most)}, {last}")
