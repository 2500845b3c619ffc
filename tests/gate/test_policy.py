from __future__ import annotations

from typing import Any

import pytest

from forgetbench.errors import UsageError
from forgetbench.gate.policy import TaskFacts, chat_reference, resolve_policy
from forgetbench.gate.types import Rule
from forgetbench.gate.verdict import decide

pytestmark = pytest.mark.unit

BOTH = frozenset({"ability", "chat"})


def facts(n: int, *types: str, views: frozenset[str] = frozenset({"ability"})) -> TaskFacts:
    return TaskFacts(n, frozenset(types), views)


FULL = {
    "mmlu": facts(14_042, "knowledge/stem", "knowledge/other"),
    "gsm8k": facts(1_319, "reasoning/arithmetic"),
    "ifeval": facts(541, "instructions/format"),
    "truthfulqa": facts(817, "truth/imitation"),
    "humaneval": facts(164, "code/python"),
    "mbpp": facts(378, "code/python"),
}


def written(**rule: Any) -> dict[str, Any]:
    return {"name": "mine", "alpha": 0.05, "rules": [rule]}


def test_default_margins_of_the_notes() -> None:
    policy = resolve_policy(None, FULL)
    assert {r.name: round(100 * r.margin, 3) for r in policy.rules} == {
        "mmlu": 1,
        "gsm8k": 3,
        "ifeval": 5,
        "truthfulqa": 4,
        "humaneval+mbpp": 5,
    }
    assert all(r.required and r.against == "base" and r.view == "ability" for r in policy.rules)
    assert policy.rules[-1].tasks == ("humaneval", "mbpp")
    assert policy.rules[0].task == "mmlu"
    assert policy.alpha == 0.05


def test_only_what_the_suite_has() -> None:
    assert [r.name for r in resolve_policy(None, {"gsm8k": FULL["gsm8k"]}).rules] == ["gsm8k"]
    assert resolve_policy(None, {}).rules == ()
    assert resolve_policy(None, {"gsm8k": facts(0, "reasoning/x")}).rules == ()


def test_a_subset_gets_the_general_margin() -> None:
    policy = resolve_policy(None, {"mmlu": facts(570, "knowledge/stem"), "gsm8k": facts(50, "reasoning/a")})
    assert [r.margin for r in policy.rules] == [0.05, 0.05]


def test_humaneval_alone_is_advisory() -> None:
    (rule,) = resolve_policy(None, {"humaneval": FULL["humaneval"]}).rules
    assert (rule.required, rule.task) == (False, "humaneval")


def test_own_sets_by_top_level_type() -> None:
    suite = {"world": facts(900, "knowledge/capitals", "knowledge/people", "copy/verbatim"), "b": facts(9, "copy/x")}
    policy = resolve_policy(None, suite)
    assert [(r.name, r.task_type, r.margin) for r in policy.rules] == [
        ("copy", "copy", 0.05),
        ("knowledge", "knowledge", 0.05),
    ]


def test_own_set_that_shares_a_type_with_a_benchmark_keeps_its_own_rule() -> None:
    """Pooled by type, 14,042 MMLU items would drown it."""
    policy = resolve_policy(None, {**FULL, "ours": facts(300, "knowledge/products")})
    assert [r.task for r in policy.rules if r.name == "ours"] == ["ours"]


def test_chat_is_decided_against_what_has_a_template() -> None:
    suite = {"gsm8k": facts(1_319, "reasoning/arithmetic", views=BOTH)}
    for against in ("base", "locked", "previous"):
        ability, chat = resolve_policy(None, suite, chat_against=against).rules  # type: ignore[arg-type]
        assert (ability.view, ability.against) == ("ability", "base")
        assert (chat.name, chat.view, chat.against) == ("gsm8k (chat)", "chat", against)
    assert [r.view for r in resolve_policy(None, suite, chat_against=None).rules] == ["ability"]
    assert chat_reference(base=True, locked=True, previous=True) == "base"
    assert chat_reference(base=False, locked=True, previous=True) == "locked"
    assert chat_reference(base=False, locked=False, previous=True) == "previous"
    assert chat_reference(base=False, locked=False, previous=False) is None


def test_written_rule() -> None:
    raw = written(task="gsm8k", margin=2.5, alpha=0.01, min_n=100, metric="strict", max_truncated=0.1, max_infra=0.0)
    (rule,) = resolve_policy(raw, FULL).rules
    assert rule == Rule(
        name="gsm8k",
        task="gsm8k",
        metric="strict",
        margin=0.025,
        alpha=0.01,
        min_n=100,
        max_truncated=0.1,
        max_infra=0.0,
    )


def test_written_rule_takes_the_policys_alpha_and_defaults() -> None:
    raw = {"name": "mine", "alpha": 0.1, "rules": [{"tasks": ["humaneval", "mbpp"], "alpha": None, "name": None}]}
    policy = resolve_policy(raw, FULL)
    (rule,) = policy.rules
    assert (policy.alpha, rule.alpha, rule.name, rule.margin) == (0.1, 0.1, "humaneval+mbpp", 0.05)
    assert (rule.max_truncated, rule.max_infra, rule.required) == (0.05, 0.01, True)


def test_auto_of_a_written_chat_rule() -> None:
    suite = {"gsm8k": facts(10, "reasoning/a", views=BOTH)}
    raw = {"name": "mine", "rules": [{"task": "gsm8k", "view": "chat", "against": "auto"}]}
    assert resolve_policy(raw, suite, chat_against="locked").rules[0].against == "locked"
    idle = resolve_policy(raw, suite, chat_against=None)
    assert idle.rules == ()
    assert idle.not_in_force == (
        "1 chat rule is not in force: neither the base nor a locked or previous checkpoint has a chat template",
    )
    raw["rules"][0]["against"] = "base"  # type: ignore[index]
    assert resolve_policy(raw, suite, chat_against="locked").rules[0].against == "base"


def test_a_policy_with_nothing_in_force_never_passes() -> None:
    suite = {"gsm8k": facts(10, "reasoning/a", views=BOTH)}
    raw = {"name": "mine", "rules": [{"task": "gsm8k", "view": "chat"}]}
    assert decide({}, resolve_policy(raw, suite, chat_against=None)).state == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"task": "gsm9k"}, "policy 'mine', rule 'gsm9k': no task 'gsm9k' in the suite; it has gsm8k, humaneval"),
        ({"task": "gsm8k", "view": "chat"}, "the suite does not run gsm8k in the chat view; it runs it in: ability"),
        ({"task_type": "law"}, "no item of the suite has the task_type 'law' in the ability view; it has code/python"),
        ({"task_type": "know"}, "task_type 'know'"),
        ({"tasks": ["humaneval", "mbbp"]}, "no task 'mbbp' in the suite"),
        ({"task": "gsm8k", "required": False}, "no rule is required"),
    ],
)
def test_a_required_rule_that_matches_nothing_is_an_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_policy(written(**rule), FULL)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_advisory_rule_may_match_nothing() -> None:
    raw = {"name": "mine", "rules": [{"task": "gsm8k"}, {"task": "gsm9k", "required": False}]}
    assert [r.required for r in resolve_policy(raw, FULL).rules] == [True, False]


def test_two_rules_of_one_name() -> None:
    raw = {"name": "mine", "rules": [{"task": "gsm8k"}, {"task": "gsm8k", "margin": 1.0}]}
    with pytest.raises(UsageError, match="two rules are called 'gsm8k'"):
        resolve_policy(raw, FULL)


def test_as_used_never_decides() -> None:
    suite = {"gsm8k": facts(9, "reasoning/a", views=frozenset({"ability", "as_used"}))}
    raw = {"name": "mine", "rules": [{"task": "gsm8k"}, {"task": "gsm8k", "view": "as_used"}]}
    assert [r.required for r in resolve_policy(raw, suite).rules] == [True, False]


def test_what_is_shown_beside_a_benchmark_never_decides() -> None:
    suite = {
        name: facts(n, kind)
        for name, n, kind in (
            ("truthfulqa", 817, "truthfulness/law"),
            ("truthfulqa_gen", 817, "truthful_writing/law"),
            ("humaneval_plus", 164, "code/python"),
            ("mbpp_plus", 378, "code/python"),
        )
    }
    required = {r.name: r.required for r in resolve_policy(None, suite).rules}
    assert required == {"truthfulqa": True, "truthfulqa_gen": False, "humaneval_plus": False, "mbpp_plus": False}
