"""Verdicts made by hand, one field at a time: what the outputs for CI are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from forgetbench.analysis.types import Interval
from forgetbench.errors import Exit
from forgetbench.gate.types import (
    AlarmResult,
    Policy,
    Rule,
    RuleResult,
    State,
    Verdict,
    Waiver,
    WaiverUse,
)

CODES: dict[State, Exit] = {"PASS": Exit.PASS, "FAIL": Exit.REGRESSION, "INCONCLUSIVE": Exit.INCONCLUSIVE}
WAIVER = Waiver(reason="known", owner="ann", until="2999-01-01", max_drop=0.1, rule="knowledge")


def result(name: str, state: State, *, required: bool = True, **more: Any) -> RuleResult:
    made = RuleResult(
        rule=Rule(name, task_type="knowledge", required=required),
        state=state,
        n=400,
        base=0.8,
        candidate=0.74,
        delta=-0.06,
        interval=Interval(-0.1, -0.02),
        lower=-0.095,
        p_fail=0.01,
        p_fail_holm=0.02,
        minimum_detectable_drop=0.034,
        reason=f"{name}: the reason",
    )
    return replace(made, **more)


def nothing(name: str) -> RuleResult:
    """A rule without any evidence."""
    blank = dict.fromkeys(
        ("base", "candidate", "delta", "interval", "lower", "p_fail", "p_fail_holm", "minimum_detectable_drop")
    )
    return result(name, "INCONCLUSIVE", n=0, fit=False, reason=f"{name}: no paired items", **blank)


def verdict(state: State, *rules: RuleResult, candidate: str = "sft", **more: Any) -> Verdict:
    made = Verdict(
        state=state,
        exit_code=CODES[state],
        reason=f"{ {'PASS': 'passed', 'FAIL': 'blocked', 'INCONCLUSIVE': 'inconclusive'}[state] }: so it is",
        base="base",
        candidate=candidate,
        policy=Policy("test", tuple(r.rule for r in rules)),
        rules=rules,
    )
    return replace(made, **more)


def all_kinds() -> list[Sequence[Verdict]]:
    """Every way in which a verdict and its rules can differ."""
    one = result("one", "PASS")
    failing, unsure = result("two", "FAIL"), result("two", "INCONCLUSIVE")
    passing = verdict("PASS", one)
    blocked = verdict("FAIL", one, failing)
    undecided = verdict("INCONCLUSIVE", one, unsure)
    alarm = AlarmResult(Rule("drop", task="mmlu", margin=0.01), 400, -0.02, True, 0.1, "alarm drop: fired")
    return [
        [passing],
        [blocked],
        [undecided],
        [verdict("FAIL", one, result("three", "PASS"))],  # a loss inside the margin, proven, beside an open rule
        [verdict("INCONCLUSIVE", one)],  # every required rule is against the previous checkpoint
        [verdict("INCONCLUSIVE", nothing("empty"))],
        [verdict("INCONCLUSIVE")],
        [verdict("PASS", one, result("two", "FAIL", required=False))],
        [verdict("FAIL", failing, result("aside", "INCONCLUSIVE", required=False))],
        [verdict("PASS", replace(one, notice="a drop is proven, inside the margin"))],
        [verdict("PASS", one, replace(failing, waived=WAIVER),
                 waivers=(WaiverUse(WAIVER, "active", ("two",), "waived: two, by ann"),))],
        [verdict("FAIL", one, failing, waivers=(WaiverUse(WAIVER, "expired", ("two",), "expired: two"),))],
        [verdict("PASS", one, alarms=(alarm,))],
        [blocked, replace(passing, candidate="later")],
        [undecided, replace(passing, candidate="later")],
        [passing, replace(blocked, candidate="later")],
        [blocked, replace(undecided, candidate="later")],
    ]  # fmt: skip
