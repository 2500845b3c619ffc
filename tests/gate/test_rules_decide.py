"""What the options of a rule do to the verdict: tests, estimands, limits, undecided rules, formulas, alarms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from forgetbench.analysis.types import Comparison
from forgetbench.errors import Exit
from forgetbench.gate.alarms import by_chance, chances
from forgetbench.gate.power import plan_power
from forgetbench.gate.types import Part, Policy, Rule, Verdict
from forgetbench.gate.verdict import LENIENT, decide
from tests.analysis.made import compared, frame, sampled, table, toy

pytestmark = pytest.mark.unit

TOY = Rule("toy", task="toy")


def judged(comparison: Comparison, *rules: Rule, alarms: tuple[Rule, ...] = ()) -> Verdict:
    return decide({"base": comparison}, Policy("test", rules or (TOY,), alarms=alarms), draws=1_000)


def several(**tables: tuple[int, int, int]) -> Comparison:
    sides: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for name, counts in tables.items():
        for side, values in zip(sides, table(*counts), strict=True):
            side.append(frame(values, task=name, task_type=f"skill/{name}"))
    return compared(pd.concat(sides[0]), pd.concat(sides[1]))


def test_undecided_blocks_where_the_policy_says_so() -> None:
    unsure = toy(24, 10, 400)
    assert judged(unsure).exit_code is Exit.INCONCLUSIVE
    verdict = judged(unsure, replace(TOY, on_inconclusive="fail"))
    assert (verdict.state, verdict.rules[0].state, verdict.exit_code) == ("FAIL", "INCONCLUSIVE", Exit.REGRESSION)
    assert verdict.reason.startswith("blocked: undecided, which the policy counts as a failure: toy changed by -3.5")
    gone = judged(toy(0, 0, 400), TOY, Rule("gone", task="gone", on_inconclusive="fail"))
    assert (gone.state, gone.rules[1].state) == ("FAIL", "INCONCLUSIVE")


def test_pass_with_notice_is_for_advisory_rules_only() -> None:
    unsure = several(toy=(0, 0, 400), vague=(24, 10, 400))
    vague = Rule("vague", task="vague", on_inconclusive="pass-with-notice", required=False)
    verdict = judged(unsure, TOY, vague)
    assert (verdict.state, verdict.rules[1].state, verdict.rules[1].notice) == ("PASS", "PASS", LENIENT)
    assert any(LENIENT in note for note in verdict.notes)
    assert judged(unsure, TOY, replace(vague, required=True)).state == "INCONCLUSIVE"
    assert judged(several(toy=(0, 0, 400), vague=(200, 0, 400)), TOY, vague).rules[1].state == "FAIL"


@pytest.mark.parametrize("side", [0, 1])
def test_unreadable_answers_refuse_above_the_limit(side: int) -> None:
    frames = [frame(values) for values in table(300, 0, 600)]
    frames[side]["outcome"] = ["unparsed"] * 61 + ["ok"] * 539
    comparison = compared(*frames)
    assert judged(comparison).state == "FAIL"
    refused = judged(comparison, replace(TOY, max_unparsed=0.1))
    assert refused.state == "INCONCLUSIVE"
    assert "could not be read (limit 10.0 %)" in refused.reason
    assert judged(comparison, replace(TOY, max_unparsed=0.102)).state == "FAIL"


def test_the_test_of_a_rule() -> None:
    comparison = toy(24, 14, 1200)
    auto, tango, bootstrap = (judged(comparison, replace(TOY, test=t)).rules[0] for t in ("auto", "tango", "bootstrap"))
    assert auto.interval == tango.interval
    assert auto.interval is not None
    assert bootstrap.interval is not None
    assert auto.interval.method != bootstrap.interval.method
    continuous = compared(frame([0.2, 0.4] * 50), frame([0.2, 0.4] * 50))
    refused = judged(continuous, replace(TOY, test="tango"))
    assert refused.state == "INCONCLUSIVE"
    assert "the test tango is for one 0/1 sample" in refused.reason


def test_the_estimand_of_a_rule() -> None:
    greedy = frame([1.0, 0.0] * 100)
    lost = sampled([[1.0, 1.0], [0.0, 0.0]] * 100), sampled([[0.0, 0.0], [0.0, 0.0]] * 100)
    comparison = compared(pd.concat([greedy, lost[0]]), pd.concat([greedy, lost[1]]))
    assert judged(comparison).state == "PASS"
    assert judged(comparison, replace(TOY, estimand="greedy")).state == "PASS"
    assert judged(comparison, replace(TOY, estimand="sampled")).state == "FAIL"
    assert judged(comparison, replace(TOY, estimand="sampled", temperature=0.7, samples=2)).state == "FAIL"
    missing = judged(comparison, replace(TOY, estimand="sampled", samples=8))
    assert "no paired items of toy in the ability view and 8 or more samples" in missing.reason


def test_a_pattern_pools_what_it_matches() -> None:
    comparison = several(a=(40, 0, 200), b=(0, 0, 100))
    rule = judged(comparison, Rule("skills", task_type="skill/*")).rules[0]
    assert rule.n == 300
    assert rule.delta == pytest.approx(-40 / 300)
    assert judged(comparison, Rule("all", task_type="*")).rules[0].n == 300
    assert judged(comparison, Rule("a", task_type="*/a")).rules[0].n == 200


def score(*parts: Part, margin: float = 0.05) -> Rule:
    return Rule("usability", parts=parts, formula="the formula", margin=margin)


def test_a_weighted_score() -> None:
    comparison = several(a=(40, 20, 1_000), b=(10, 30, 500))
    (rule,) = judged(comparison, score(Part(0.75, task="a"), Part(0.25, task_type="skill/b"))).rules
    a, b = (judged(comparison, Rule(name, task=name)).rules[0] for name in "ab")
    for field in ("base", "candidate", "delta"):
        mine = 0.75 * getattr(a, field) + 0.25 * getattr(b, field)
        assert getattr(rule, field) == pytest.approx(mine)
    assert rule.delta == pytest.approx(-0.02 * 0.75 + 0.04 * 0.25)
    assert rule.n == 1_500
    assert rule.interval is not None
    assert rule.interval.low < -0.005 < rule.interval.high
    assert rule.state == "PASS"
    assert "= the formula" in rule.reason
    lost = judged(several(a=(400, 20, 1_000), b=(0, 0, 500)), score(Part(0.75, task="a"), Part(0.25, task="b")))
    assert (lost.state, lost.exit_code) == ("FAIL", Exit.REGRESSION)


def test_a_weighted_score_without_one_of_its_terms_decides_nothing() -> None:
    comparison = several(a=(0, 0, 1_000))
    verdict = judged(comparison, score(Part(0.9, task="a"), Part(0.1, task="gone")))
    assert verdict.state == "INCONCLUSIVE"
    assert "no paired items of gone" in verdict.reason
    few = judged(
        several(a=(0, 0, 1_000), b=(0, 0, 20)), replace(score(Part(0.9, task="a"), Part(0.1, task="b")), min_n=50)
    )
    assert "20 paired items where the policy wants 50" in few.reason


@pytest.mark.parametrize(
    ("n", "psi", "expected"), [(164, 0.1, 0.34), (541, 0.1, 0.23), (1_319, 0.1, 0.125), (14_042, 0.1, 0.0)]
)
def test_how_often_an_alarm_of_one_point_fires_by_chance(n: int, psi: float, expected: float) -> None:
    """The figures of the notes on metrics, section 2."""
    assert by_chance(n, 0.01, psi) == pytest.approx(expected, abs=0.005)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, [psi / 2, psi / 2, 1 - psi], 20_000)
    fired = np.mean((counts[:, 0] - counts[:, 1]) / n <= -0.01)
    # The normal approximation lies below the lattice's own share: half a step of it at n=164.
    assert fired == pytest.approx(expected, abs=0.03)


def test_alarms_are_told_and_decide_nothing() -> None:
    alarm = Rule("toy", task="toy", margin=0.01, required=False)
    verdict = judged(toy(14, 10, 400), replace(TOY, margin=0.05), alarms=(alarm,))
    (rung,) = verdict.alarms
    assert (rung.fired, rung.n, verdict.state) == (True, 400, "PASS")
    assert rung.by_chance == pytest.approx(by_chance(400, 0.01, 24 / 400))
    assert "FIRES at -1.0" in rung.line
    assert "6.0 % discordant it would fire on an unchanged checkpoint in 20.7 % of the runs" in rung.line
    assert rung.line in verdict.notes
    quiet = judged(toy(13, 10, 400), alarms=(alarm,)).alarms[0]
    assert (quiet.fired, "quiet" in quiet.line) == (False, True)
    gone = judged(toy(0, 0, 400), alarms=(replace(alarm, task="gone"),)).alarms[0]
    assert (gone.fired, gone.delta, gone.by_chance) == (None, None, None)
    assert "could not look" in gone.line


def test_alarms_before_anything_runs() -> None:
    alarm = Rule("mmlu", task="mmlu", margin=0.01, required=False)
    (found,) = chances(Policy("p", (), alarms=(alarm,)), {"mmlu": 164})
    assert found.line == (
        "alarm mmlu (minus 1 points, n=164) fires on an unchanged checkpoint in 34.3 % with 10 % discordant, "
        "38.7 % with 20 % discordant"
    )


def test_power_of_a_policy_where_undecided_fails() -> None:
    lenient, strict = Rule("a", task="a", margin=0.03), Rule("a", task="a", margin=0.03, on_inconclusive="fail")
    before, after = (plan_power(Policy("p", (rule,)), {"a": 1_319}) for rule in (lenient, strict))
    assert before.p_pass == after.p_pass == pytest.approx(0.78, abs=0.02)
    assert before.p_fail < 0.05
    assert before.p_inconclusive > 0.15
    for found in (after, after.rules[0]):
        assert found.p_fail == pytest.approx(1.0 - after.p_pass)
        assert found.p_inconclusive == 0.0
    mixed = plan_power(Policy("p", (strict, replace(lenient, name="b"))), {"a": 1_319, "b": 1_319})
    assert mixed.p_pass == pytest.approx(before.p_pass**2)
    assert 1.0 - before.p_pass < mixed.p_fail < 1.0 - mixed.p_pass
