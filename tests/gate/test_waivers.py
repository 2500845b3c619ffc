"""Waivers: who answers for which loss, until when, how large."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from forgetbench.analysis.types import Comparison
from forgetbench.errors import Exit, ManyUsageErrors, UsageError
from forgetbench.gate.policy import resolve_policy
from forgetbench.gate.policy_match import TaskFacts
from forgetbench.gate.serialise import verdict_to_dict
from forgetbench.gate.types import Part, Policy, Rule, Verdict, Waiver
from forgetbench.gate.verdict import decide
from forgetbench.gate.waivers import check_waivers, covers, load_waivers
from tests.analysis.made import compared, frame, table, toy

pytestmark = pytest.mark.unit

DAY = "2026-06-30"
TOY = Rule("toy", task="toy")
WAIVER = Waiver("a new tone was asked for", "ops", "2026-12-31", 0.30, rule="toy", source="waivers.yaml:2")


def judged(comparison: Comparison, *waivers: Waiver, rules: tuple[Rule, ...] = (TOY,), today: str = DAY) -> Verdict:
    return decide({"base": comparison}, Policy("test", rules), draws=500, waivers=waivers, today=today)


LOST = toy(80, 0, 400)  # 20 points; the one-sided lower bound is -23.5


def test_an_active_waiver_lets_a_proven_loss_through_and_shows_everywhere() -> None:
    assert judged(LOST).state == "FAIL"
    verdict = judged(LOST, WAIVER)
    assert (verdict.state, verdict.exit_code) == ("PASS", Exit.PASS)
    (rule,) = verdict.rules
    assert (rule.state, rule.waived) == ("FAIL", WAIVER)  # what the figures say is not rewritten
    (use,) = verdict.waivers
    assert (use.state, use.rules) == ("active", ("toy",))
    assert use.line in verdict.notes
    for text in ("toy", "ops", "2026-12-31", "a new tone was asked for", "30 points", "-23.5"):
        assert text in use.line
    assert verdict.reason == "passed: every required rule is waived (toy)"
    plain = verdict_to_dict(verdict)
    assert plain["waivers"][0]["waiver"]["owner"] == "ops"
    assert plain["rules"][0]["waived"]["until"] == "2026-12-31"


def test_an_undecided_rule_may_be_waived_too() -> None:
    unsure = toy(24, 10, 400)
    assert judged(unsure).state == "INCONCLUSIVE"
    assert judged(unsure, WAIVER).state == "PASS"


@pytest.mark.parametrize(("today", "state"), [("2026-12-31", "PASS"), ("2027-01-01", "FAIL")])
def test_the_last_day_still_holds_and_the_next_does_not(today: str, state: str) -> None:
    verdict = judged(LOST, WAIVER, today=today)
    assert verdict.state == state
    assert verdict.waivers[0].state == ("active" if state == "PASS" else "expired")


def test_an_expired_waiver_is_loud_and_counts_for_nothing() -> None:
    verdict = judged(LOST, replace(WAIVER, until="2026-06-29"))
    assert (verdict.state, verdict.rules[0].waived) == ("FAIL", None)
    assert "EXPIRED" in verdict.reason
    assert any("EXPIRED" in note for note in verdict.notes)
    # Also where nothing needs it.
    assert "EXPIRED" in judged(toy(0, 0, 400), replace(WAIVER, until="2026-06-29")).waivers[0].line


@pytest.mark.parametrize(("bound", "state"), [(0.24, "active"), (0.23, "exceeded")])
def test_max_drop_is_held_against_the_lower_bound(bound: float, state: str) -> None:
    """The estimate, -20, lies within both; only the first excludes a larger loss, as a pass does with its margin."""
    verdict = judged(LOST, replace(WAIVER, max_drop=bound))
    assert verdict.waivers[0].state == state
    assert verdict.state == ("PASS" if state == "active" else "FAIL")


def test_unfit_evidence_is_never_waived() -> None:
    base, candidate = table(80, 0, 400)
    cut = compared(frame(base), frame(candidate, outcome=["truncated"] * 40 + ["ok"] * 360))
    verdict = judged(cut, WAIVER)
    assert (verdict.state, verdict.waivers[0].state) == ("INCONCLUSIVE", "unfit")
    missing = judged(LOST, replace(WAIVER, rule="gone"), rules=(TOY, Rule("gone", task="gone")))
    assert (missing.waivers[0].state, missing.rules[1].waived) == ("unfit", None)
    assert missing.state == "FAIL"


def test_a_waived_rule_does_not_cover_another_and_stays_in_holms_family() -> None:
    sides = (pd.concat([frame(side, task="toy"), frame(side, task="other")]) for side in table(80, 0, 400))
    both = compared(*sides)
    verdict = judged(both, WAIVER, rules=(TOY, Rule("other", task="other")))
    assert verdict.state == "FAIL"
    assert verdict.reason.startswith("blocked: other lost")
    assert "toy lost" not in verdict.reason
    p = verdict.rules[1].p_fail
    assert p is not None
    assert verdict.rules[1].p_fail_holm == pytest.approx(2 * p)


def test_the_sentence_tells_what_passes_and_what_is_waived() -> None:
    good = toy(0, 0, 400)
    sides = (pd.concat([frame(side, task="other"), frame([1.0] * 400)]) for side in table(80, 0, 400))
    both = compared(*sides)
    verdict = judged(both, replace(WAIVER, rule="other"), rules=(TOY, Rule("other", task="other")))
    assert verdict.state == "PASS"
    assert "the other required rule excludes" in verdict.reason
    assert verdict.reason.endswith("waived: other")
    assert judged(good, WAIVER).waivers[0].state == "unused"


def test_a_waiver_never_makes_previous_enough() -> None:
    rule = replace(TOY, against="previous")
    verdict = decide({"previous": LOST}, Policy("test", (rule,)), waivers=[WAIVER], today=DAY)
    assert verdict.state == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("waiver", "rule", "is_about"),
    [
        ({"rule": "toy"}, Rule("toy", task="x"), True),
        ({"rule": "toy"}, Rule("toys", task="toy"), False),
        ({"task": "toy"}, Rule("a", task="toy"), True),
        ({"task": "toy", "metric": "acc"}, Rule("a", task="toy"), False),
        ({"task": "toy", "metric": "acc"}, Rule("a", task="toy", metric="acc"), True),
        ({"task": "toy"}, Rule("a", tasks=("toy", "other")), False),
        ({"task_type": "know"}, Rule("a", task_type="knowledge"), False),
        ({"task_type": "knowledge"}, Rule("a", task_type="knowledge/stem"), True),
        ({"task_type": "knowledge/stem"}, Rule("a", task_type="knowledge"), False),
        ({"task": "toy"}, Rule("a", parts=(Part(0.5, task="toy"), Part(0.5, task="other"))), False),
    ],
)
def test_what_a_waiver_is_about(waiver: dict[str, Any], rule: Rule, is_about: bool) -> None:
    """Never about more than it names: a waiver of one task does not open a rule that pools it with others."""
    assert covers(replace(WAIVER, **{"rule": None, **waiver}), rule) is is_about


def test_waivers_that_can_do_nothing_are_mistakes() -> None:
    policy = resolve_policy({"name": "p", "rules": [{"task": "toy"}]}, {"toy": TaskFacts(400, frozenset({"a/b"}))})
    check_waivers([WAIVER], [policy])
    for wrong, message in (
        (
            replace(WAIVER, rule="tuy"),
            "waivers.yaml:2: waives 'tuy', which no rule of the policy is about; its rules are",
        ),
        (replace(WAIVER, max_drop=0.05), "max_drop 5 lies within the margin of 'toy'"),
    ):
        with pytest.raises(UsageError) as caught:
            check_waivers([wrong], [policy])
        assert message in str(caught.value)
    with pytest.raises(UsageError, match=r"other.yaml:9: waives rule 'toy', as waivers.yaml:2 does"):
        check_waivers([WAIVER, replace(WAIVER, rule=None, task="toy", source="other.yaml:9")], [policy])


GOOD = "waivers:\n  - rule: toy\n    reason: because\n    owner: ops\n    until: 2026-12-31\n    max_drop: 7.5\n"


def test_the_file(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(GOOD, encoding="utf-8")
    (waiver,) = load_waivers(file)
    assert (waiver.until, waiver.max_drop, waiver.source) == ("2026-12-31", 0.075, f"{file}:2")
    file.write_text("waivers: []\n", encoding="utf-8")
    assert load_waivers(file) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    reason: because\n", ""), "`waivers.0.reason` is missing"),
        (("because", '" "'), "one line of up to 500"),
        (("    owner: ops\n", ""), "`waivers.0.owner` is missing"),
        (("    until: 2026-12-31\n", ""), "`waivers.0.until` is missing"),
        (("2026-12-31", "2026-13-31"), "month must be in 1..12"),
        (("2026-12-31", "'2026-13-31'"), "use a day such as 2026-12-31"),
        (("2026-12-31", "20261231"), "use a day such as 2026-12-31"),
        (("2026-12-31", "2026-12-31 10:00:00"), "use a day such as 2026-12-31"),
        (("2026-12-31", "never"), "use a day such as 2026-12-31"),
        (("    max_drop: 7.5\n", ""), "`waivers.0.max_drop` is missing"),
        (("7.5", "-1"), "greater than 0"),
        (("7.5", "yes"), "valid number"),
        (("rule: toy", "rule: toy\n    task: toy"), "exactly one of rule, task, task_type"),
        (("rule: toy", "rule: toy\n    metric: acc"), "`metric` belongs to"),
        (("max_drop", "max_dropp"), "did you mean 'max_drop'"),
        (("waivers:", "waiver:"), "`waivers` is missing"),
    ],
)
def test_broken_files(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(GOOD.replace(*change), encoding="utf-8")
    with pytest.raises((UsageError, ManyUsageErrors)) as caught:
        load_waivers(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
