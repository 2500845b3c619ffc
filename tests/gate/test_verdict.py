from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forgetbench.analysis.types import Comparison
from forgetbench.errors import Exit
from forgetbench.gate.power import plan_power
from forgetbench.gate.serialise import verdict_to_dict
from forgetbench.gate.types import Policy, Rule, Verdict
from forgetbench.gate.verdict import decide
from tests.analysis.made import compared, flipped, frame, sampled, table, toy

pytestmark = pytest.mark.unit


def policy(*rules: Rule, alpha: float = 0.05) -> Policy:
    return Policy("test", rules, alpha)


TOY = Rule("toy", task="toy")


def judged(comparison: Comparison, *rules: Rule) -> Verdict:
    return decide({"base": comparison}, policy(*(rules or (TOY,))), draws=1_000)


def several(**tables: tuple[int, int, int]) -> Comparison:
    """Tasks by name with (forgotten, gained, n)."""
    sides: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for name, counts in tables.items():
        for side, values in zip(sides, table(*counts), strict=True):
            side.append(frame(values, task=name, task_type=f"{name}/all"))
    return compared(pd.concat(sides[0]), pd.concat(sides[1]))


def rules_for(*names: str, **options: Any) -> list[Rule]:
    return [Rule(name, task=name, **options) for name in names]


@pytest.mark.parametrize(
    ("forgotten", "gained", "n", "state", "code"),
    [
        (10, 10, 400, "PASS", 0),
        (24, 14, 1200, "PASS", 0),
        (120, 10, 400, "FAIL", 10),
        (50, 10, 400, "FAIL", 10),
        (24, 10, 400, "INCONCLUSIVE", 11),
        (0, 0, 20, "INCONCLUSIVE", 11),
    ],
)
def test_three_states(forgotten: int, gained: int, n: int, state: str, code: int) -> None:
    verdict = judged(toy(forgotten, gained, n))
    assert (verdict.state, int(verdict.exit_code), verdict.rules[0].state) == (state, code, state)
    assert (verdict.base, verdict.candidate) == ("base", "sft")


def test_reason_with_figures() -> None:
    base, candidate = table(420, 10, 1200, right=733)
    verdict = judged(compared(frame(base, task_type="knowledge/x"), frame(candidate, task_type="knowledge/x")),
                     Rule("knowledge", task_type="knowledge"))  # fmt: skip
    assert verdict.reason == "blocked: knowledge lost 34.2 points (96.1 to 61.9, n=1200, margin 5)"
    passed = judged(toy(10, 10, 400)).reason
    assert passed.startswith("passed: the required rule excludes a loss beyond the margin; closest: toy (lower bound")
    unsure = judged(toy(24, 10, 400)).reason
    assert unsure.startswith("inconclusive: toy changed by -3.5 points")
    assert "n=400" in unsure


def test_pass_comes_before_fail() -> None:
    """A loss proven beyond half the margin, but with certainty inside it: passes, with a notice."""
    verdict = judged(toy(1_200, 500, 20_000))
    rule = verdict.rules[0]
    assert rule.p_fail is not None
    assert rule.p_fail < 1e-4
    assert (verdict.state, rule.state) == ("PASS", "PASS")
    assert "a drop is proven, inside the margin: toy lost 3.5 points" in rule.notice
    assert any(rule.notice in note for note in verdict.notes)


def test_fail_looks_at_every_required_rule() -> None:
    """Not all pass, so that rule 2 of the notes applies: any rejection blocks, here of the set that lost 3.5."""
    verdict = judged(several(big=(1_200, 500, 20_000), small=(2, 2, 50)), *rules_for("big", "small"))
    assert [r.state for r in verdict.rules] == ["PASS", "INCONCLUSIVE"]
    assert verdict.state == "FAIL"
    assert verdict.reason == "blocked: big lost 3.5 points (51.7 to 48.2, n=20000, margin 5)"


def test_one_undecided_rule_stops_a_pass() -> None:
    verdict = judged(several(good=(5, 5, 1_000), vague=(4, 2, 60)), *rules_for("good", "vague"))
    assert verdict.state == "INCONCLUSIVE"
    assert verdict.reason.startswith("inconclusive: vague changed by")
    assert verdict.exit_code is Exit.INCONCLUSIVE


def test_holm_over_the_required_rules() -> None:
    """p about .02 blocks alone and not among five; advisory rules do not enlarge the family."""
    names = ["a", "b", "c", "d", "e"]
    tables = dict.fromkeys(names, (5, 5, 100))
    tables["a"] = (33, 9, 400)
    comparison = several(**tables)
    alone = judged(comparison, *rules_for("a"))
    p = alone.rules[0].p_fail
    assert p is not None
    assert 0.01 < p < 0.05
    assert alone.state == "FAIL"
    among = judged(comparison, *rules_for(*names))
    assert among.rules[0].p_fail_holm == pytest.approx(5 * p)
    assert among.state == "INCONCLUSIVE"
    advisory = judged(comparison, *rules_for("a"), *rules_for(*names[1:], required=False))
    assert advisory.state == "FAIL"
    assert advisory.rules[1].p_fail_holm is None


def test_advisory_rules_are_shown_and_never_decide() -> None:
    verdict = judged(several(good=(5, 5, 1_000), bad=(300, 0, 600)), *rules_for("good"),
                     *rules_for("bad", required=False))  # fmt: skip
    assert verdict.state == "PASS"
    assert verdict.rules[1].state == "FAIL"
    assert any(note.startswith("advisory, not decisive: bad lost 50.0") for note in verdict.notes)


def test_nothing_required_or_nothing_there_never_passes() -> None:
    comparison = toy(0, 0, 1_000)
    assert judged(comparison, Rule("toy", task="toy", required=False)).state == "INCONCLUSIVE"
    assert decide({"base": comparison}, policy()).state == "INCONCLUSIVE"
    for rule in (
        Rule("gone", task="gone"),
        Rule("gone", task_type="gone"),
        Rule("gone", tasks=("toy", "gone")),
        Rule("gone", task="toy", view="chat"),
        Rule("gone", task="toy", metric="gone"),
    ):
        verdict = judged(comparison, TOY, rule)
        assert verdict.state == "INCONCLUSIVE"
        assert "no paired items" in verdict.reason
        assert verdict.rules[1].n == 0
        assert verdict.rules[1].delta is None


def test_a_missing_comparison_is_undecided() -> None:
    rule = replace(TOY, name="chat", against="locked")
    verdict = judged(toy(0, 0, 1_000), TOY, rule)
    assert verdict.state == "INCONCLUSIVE"
    assert verdict.reason == "inconclusive: chat: there is no comparison against the locked release"
    assert decide({}, policy(TOY)).state == "INCONCLUSIVE"


def test_an_unfit_rule_does_not_hide_a_block() -> None:
    rules = [*rules_for("bad"), Rule("gone", task="gone")]
    verdict = judged(several(bad=(300, 0, 600)), *rules)
    assert verdict.state == "FAIL"
    assert verdict.rules[0].p_fail_holm == pytest.approx(2 * (verdict.rules[0].p_fail or 0))


def test_against_previous_alone_never_passes() -> None:
    comparison = toy(0, 0, 1_000)
    rule = replace(TOY, against="previous")
    verdict = decide({"previous": comparison}, policy(rule))
    assert (verdict.state, verdict.rules[0].state) == ("INCONCLUSIVE", "PASS")
    assert "previous checkpoint" in verdict.reason
    beside = decide({"previous": comparison, "base": comparison}, policy(rule, replace(TOY, name="base")))
    assert beside.state == "PASS"
    worse = decide({"previous": toy(300, 0, 600)}, policy(rule))
    assert worse.state == "FAIL"
    assert "against the previous checkpoint" in worse.reason


@pytest.mark.parametrize("side", [0, 1])
def test_truncation_refuses_even_a_clear_loss(side: int) -> None:
    def run(cut: int) -> Verdict:
        base, candidate = table(300, 0, 600)
        frames = [frame(base), frame(candidate)]
        frames[side]["outcome"] = ["truncated"] * cut + ["ok"] * (600 - cut)
        return judged(compared(*frames))

    assert run(30).state == "FAIL"  # 5 % is allowed
    refused = run(31)
    assert refused.state == "INCONCLUSIVE"
    who = "the base" if side == 0 else "candidate"
    assert f"5.2 % of the answers of {who} are truncated (limit 5.0 %)" in refused.reason
    assert refused.rules[0].delta == pytest.approx(-0.5)


def test_infra_errors_refuse_above_the_limit() -> None:
    def run(broken: int) -> Verdict:
        values = [1.0, 0.0] * 500
        outcome = ["infra_error"] * broken + ["ok"] * (1_000 - broken)
        return judged(compared(frame(values), frame(values, outcome=outcome)))

    passed, refused = run(10), run(11)
    assert (passed.state, passed.rules[0].n) == ("PASS", 990)
    assert refused.state == "INCONCLUSIVE"
    assert "1.1 % infra errors in candidate (limit 1.0 %)" in refused.reason
    every = compared(frame([1.0] * 9), frame([1.0] * 9, outcome="infra_error"))
    assert "every pair has an infra_error" in judged(every).reason


def test_min_n() -> None:
    verdict = judged(toy(0, 0, 1_000), replace(TOY, min_n=1_001))
    assert verdict.state == "INCONCLUSIVE"
    assert "1000 paired items where the policy wants 1001" in verdict.reason


@pytest.mark.parametrize(("n", "margin", "state"), [(51, 0.05, "INCONCLUSIVE"), (52, 0.05, "PASS"),
                                                    (250, 0.01, "INCONCLUSIVE"), (300, 0.01, "PASS")])  # fmt: skip
def test_a_checkpoint_against_itself(n: int, margin: float, state: str) -> None:
    assert judged(toy(0, 0, n), replace(TOY, margin=margin)).state == state


@pytest.mark.parametrize(("n", "state"), [(40, "INCONCLUSIVE"), (120, "PASS")])
@pytest.mark.parametrize("kind", ["continuous", "sampled", "clustered"])
def test_a_checkpoint_against_itself_without_a_score_interval(kind: str, n: int, state: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "continuous":
        same = frame(rng.random(n).tolist(), metric="mc2")
    elif kind == "sampled":
        same = sampled((rng.random((n, 4)) < 0.5).astype(float).tolist())
    else:
        same = frame([1.0] * 3 * n, cluster=[f"fact {i // 3}" for i in range(3 * n)])
    assert judged(compared(same, same)).state == state


def test_alpha_of_a_rule() -> None:
    comparison = toy(26, 20, 600)
    lower = {a: judged(comparison, replace(TOY, alpha=a, margin=0.03)).rules[0] for a in (0.05, 0.001)}
    assert (lower[0.05].state, lower[0.001].state) == ("PASS", "INCONCLUSIVE")
    assert (lower[0.001].lower or 0) < (lower[0.05].lower or 0)


def test_pooled_tasks_count_items() -> None:
    comparison = several(humaneval=(20, 10, 164), mbpp=(20, 20, 378))
    (rule,) = judged(comparison, Rule("code", tasks=("humaneval", "mbpp"))).rules
    assert rule.n == 542
    assert rule.delta == pytest.approx(-10 / 542)


def test_rule_and_change_show_the_same_bound() -> None:
    base, candidate = table(30, 10, 300)
    clusters = [f"c{i // 2}" for i in range(300)]
    comparison = compared(frame(base, cluster=clusters), frame(candidate, cluster=clusters))
    rule = judged(comparison).rules[0]
    change = comparison.changes[0]
    assert (rule.lower, rule.interval) == (change.lower, change.interval)
    types = judged(comparison, Rule("r", task_type="reasoning")).rules[0]
    assert types.lower == change.lower


def test_greedy_decides_where_both_were_drawn() -> None:
    greedy = frame([1.0, 0.0] * 100)
    lost = sampled([[1.0, 1.0], [0.0, 0.0]] * 100), sampled([[0.0, 0.0], [0.0, 0.0]] * 100)
    comparison = compared(pd.concat([greedy, lost[0]]), pd.concat([greedy, lost[1]]))
    assert judged(comparison).state == "PASS"
    other = sampled([[1.0, 1.0, 1.0]] * 200)
    unclear = compared(pd.concat([lost[0], other]), pd.concat([lost[1], other]))
    assert "several decodings" in judged(unclear).reason


def test_false_blocks_of_a_whole_policy() -> None:
    """Five sets that lost 2 points each (margin 5, psi 20 %): at most alpha of the verdicts block."""
    rng = np.random.default_rng(1)
    names = ["a", "b", "c", "d", "e"]
    blocked = 0
    for _ in range(40):
        sides: tuple[list[Any], list[Any]] = ([], [])
        for name in names:
            for side, values in zip(sides, flipped(rng, 200, 0.2, -0.02), strict=True):
                side.append(frame(values.tolist(), task=name))
        verdict = judged(compared(pd.concat(sides[0]), pd.concat(sides[1]), bootstrap=10), *rules_for(*names))
        blocked += verdict.state == "FAIL"
    assert blocked <= 4  # of 40; at most 2 are to be expected


def test_verdict_as_json() -> None:
    verdict = judged(toy(120, 10, 400), TOY, Rule("gone", task="gone", required=False))
    plain = verdict_to_dict(verdict)
    back = json.loads(json.dumps(plain, allow_nan=False))
    assert back == plain
    assert (plain["schema_version"], plain["unit"], plain["state"], plain["exit_code"]) == (1, "fraction", "FAIL", 10)
    assert plain["rules"][0]["delta"] == pytest.approx(-0.275)
    assert plain["rules"][0]["rule"]["margin"] == 0.05
    assert set(plain["rules"][0]["interval"]) == {"low", "high", "level", "method"}
    assert plain["rules"][1]["delta"] is None
    assert plain["policy"]["name"] == "test"
    broken = replace(verdict, rules=(replace(verdict.rules[0], delta=float("nan")),))
    assert verdict_to_dict(broken)["rules"][0]["delta"] is None


def test_power_of_a_policy() -> None:
    default = {"mmlu": (0.01, 14_042), "gsm8k": (0.03, 1_319), "ifeval": (0.05, 541), "truthfulqa": (0.04, 817),
               "code": (0.05, 542)}  # fmt: skip
    rules = [Rule(name, task=name, margin=m) for name, (m, _) in default.items()]
    power = plan_power(policy(*rules, Rule("x", task="x", required=False)), {k: n for k, (_, n) in default.items()})
    assert [row.rule.name for row in power.rules] == list(default)
    assert power.p_pass == pytest.approx(np.prod([row.p_pass for row in power.rules]))
    assert power.p_pass == pytest.approx(0.33, abs=0.04)
    assert power.p_pass + power.p_fail + power.p_inconclusive == pytest.approx(1.0)
    assert power.p_fail <= 0.05
    for row in power.rules:
        assert row.p_pass + row.p_fail + row.p_inconclusive == pytest.approx(1.0)
    assert power.margin_factor == pytest.approx(1.35, abs=0.04)
    assert "margins of mmlu 1.3, gsm8k 4.0" in power.suggestion
    assert "independent" in power.assumption


def test_power_without_items_or_rules() -> None:
    rule = Rule("toy", task="toy")
    assert plan_power(policy(), {}).p_pass == 0.0
    empty = plan_power(policy(rule), {})
    assert (empty.p_pass, empty.p_inconclusive, empty.margin_factor) == (0.0, 1.0, None)
    assert empty.rules[0].minimum_detectable_drop == 1.0
    assert "too few items for toy" in empty.suggestion
    plenty = plan_power(policy(rule), {"toy": 5_000}, psi={"toy": 0.1})
    assert (plenty.margin_factor, plenty.rules[0].psi) == (1.0, 0.1)
    assert plenty.suggestion.startswith("enough items")
