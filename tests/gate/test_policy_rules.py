"""Rules of a policy beyond one task: patterns, `each`, `all`, formulas, estimands, alarms, profiles, the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from forgetbench import resources
from forgetbench.config import load_policy
from forgetbench.config_policy import PolicyConfig, RuleConfig, WaiversConfig
from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.gate import schema
from forgetbench.gate.policy import resolve_policy
from forgetbench.gate.policy_formula import parse
from forgetbench.gate.policy_match import TaskFacts, in_type, is_estimand, matching_tasks
from forgetbench.gate.types import Part, Policy, Rule

pytestmark = pytest.mark.unit

SUITE = {
    "mmlu": TaskFacts(
        14_042, frozenset({"knowledge/stem", "knowledge/other"}), metrics=frozenset({"acc"}), decodings=frozenset({"greedy"})
    ),
    "ours": TaskFacts(300, frozenset({"knowledge/products", "safety/harm"}), metrics=frozenset({"score"})),
    "ifeval": TaskFacts(541, frozenset({"instructions/format"}), metrics=frozenset({"prompt_strict", "inst_strict"})),
    "code": TaskFacts(
        164, frozenset({"code/python"}), metrics=frozenset({"pass"}), decodings=frozenset({"greedy", "T0.8/p0.95/K10"})
    ),
    "empty": TaskFacts(0, frozenset({"law/civil"})),
}  # fmt: skip


def resolved(*rules: dict[str, Any], **policy: Any) -> Policy:
    return resolve_policy({"name": "mine", "rules": rules, **policy}, SUITE)


def from_file(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    return resolve_policy(load_policy(str(file), tmp_path).model_dump(), SUITE)


@pytest.mark.parametrize(
    ("path", "pattern", "matches"),
    [
        ("knowledge/stem", "knowledge", True),
        ("knowledge/stem", "knowledge/*", True),
        ("knowledge/stem", "knowledge/st?m", True),
        ("knowledge/stem", "*", True),
        ("knowledge/stem", "*/stem", True),
        ("knowledge", "knowledge/*", False),
        ("knowledge/stem", "know", False),
        ("knowledge/stem", "knowledge*stem", False),
        ("code/python", "knowledge/*", False),
    ],
)
def test_patterns_go_level_by_level(path: str, pattern: str, matches: bool) -> None:
    assert in_type(path, pattern) is matches


def test_a_pattern_pools_and_each_makes_a_rule_of_every_match() -> None:
    (pooled,) = resolved({"task_type": "knowledge/*", "margin": 2.0}).rules
    assert (pooled.name, pooled.task_type) == ("knowledge/*", "knowledge/*")
    assert matching_tasks(pooled, SUITE) == ["mmlu", "ours"]
    each = resolved({"task_type": "knowledge/*", "each": "task_type", "margin": 2.0, "alpha": 0.01}).rules
    assert [r.name for r in each] == ["knowledge/other", "knowledge/products", "knowledge/stem"]
    assert {(r.task_type == r.name, r.margin, r.alpha) for r in each} == {(True, 0.02, 0.01)}
    tasks = resolved({"task_type": "knowledge/*", "each": "task", "name": "known"}).rules
    assert [(r.name, r.task) for r in tasks] == [("known: mmlu", "mmlu"), ("known: ours", "ours")]


def test_all() -> None:
    (rule,) = resolved({"all": True}).rules
    assert (rule.name, matching_tasks(rule, SUITE)) == ("all", ["mmlu", "ours", "ifeval", "code"])
    each = resolved({"all": True, "each": "task_type"}).rules
    assert [r.task_type for r in each] == ["code", "instructions", "knowledge", "safety"]
    assert [r.task for r in resolved({"all": True, "each": "task"}).rules] == ["code", "ifeval", "mmlu", "ours"]


def test_formula() -> None:
    (rule,) = resolved({"name": "usability", "formula": "0.5*mmlu + .3 * ifeval:inst_strict + 0.2 * safety/harm"}).rules
    assert rule.parts == (
        Part(0.5, task="mmlu"),
        Part(0.3, task="ifeval", metric="inst_strict"),
        Part(0.2, task_type="safety/harm"),
    )
    assert matching_tasks(rule, SUITE) == ["mmlu", "ours", "ifeval"]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("0.5 * mmlu", "add up to 1, these to 0.5"),
        ("1.5 * mmlu + 0.5 * ours", "add up to 1, these to 2"),
        ("0.5 * mmlu - 0.5 * ours", "no term"),
        ("mmlu + 0.5 * ours", "'mmlu' is no term"),
        ("0.5 * mmlu + 0.5 * mmlu", "stands twice"),
        ("0 * mmlu + 1 * ours", "the weight of 'mmlu' is 0"),
        ("nan * mmlu", "no term"),
        ("", "no term"),
        ("1 * a:b:c", "no term"),
    ],
)
def test_broken_formulas(formula: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"term|twice|add up|weight") as caught:
        parse(formula)
    assert message in str(caught.value)


def test_one_task_under_two_metrics_may_stand_in_a_formula() -> None:
    assert len(parse("0.5 * ifeval:a + 0.5 * ifeval:b")) == 2


@pytest.mark.parametrize(
    ("rule", "decode_id", "fits"),
    [
        ({"estimand": "greedy"}, "greedy", True),
        ({"estimand": "greedy"}, "T0.8/p0.95/K10", False),
        ({"estimand": "sampled"}, "greedy", False),
        ({"estimand": "sampled"}, "T0.8/p0.95/K10", True),
        ({"estimand": "sampled"}, "T?/K10", True),
        ({"estimand": "sampled", "samples": 11}, "T0.8/p0.95/K10", False),
        ({"estimand": "sampled", "samples": 10, "temperature": 0.8}, "T0.8/p0.95/K10", True),
        ({"estimand": "sampled", "temperature": 0.7}, "T0.8/p0.95/K10", False),
        ({"estimand": "sampled", "temperature": 0.8}, "T?/K10", False),
        ({}, "anything", True),
    ],
)
def test_estimands(rule: dict[str, Any], decode_id: str, fits: bool) -> None:
    assert is_estimand(Rule("r", **rule), decode_id) is fits


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"task_type": "law/*"}, "no item of the suite has the task_type 'law/*'"),
        ({"task_type": "law/*", "each": "task_type"}, "has a task_type like 'law/*'"),
        ({"all": True, "view": "chat"}, "the task_type '*' in the chat view"),
        ({"formula": "0.5 * mmlu + 0.5 * law"}, "the task_type 'law'"),
        ({"formula": "0.5 * mmlu + 0.5 * ours:gone"}, "no task has the metric 'gone'; use one of score"),
        ({"task": "mmlu", "metric": "accc"}, "no task has the metric 'accc'; use one of acc"),
        ({"task": "mmlu", "metric": "accc", "required": False}, "no task has the metric 'accc'"),
        ({"task": "mmlu", "estimand": "sampled"}, "there are no 2 or more samples; there are: greedy"),
        ({"task": "code", "estimand": "sampled", "samples": 20}, "there are no 20 or more samples"),
        ({"task": "empty"}, "no task 'empty'"),
    ],
)
def test_a_rule_without_evidence_is_an_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolved({"task": "ifeval"}, rule)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_alarm_that_can_never_ring_is_an_error() -> None:
    policy = resolved({"task": "mmlu"}, alarms=[{"task": "mmlu", "points": 1.0}])
    assert [(a.name, a.margin, a.required) for a in policy.alarms] == [("mmlu", 0.01, False)]
    with pytest.raises(UsageError, match="alarm 'gsm8k': no task 'gsm8k'"):
        resolved({"task": "mmlu"}, alarms=[{"task": "gsm8k", "points": 1.0}])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\n", "could ever block"),
        ("name: a\nrules: []\n", "could ever block"),
        ("name: a\nalarms: [{task: mmlu, points: 1}]\n", "could ever block"),
        ("name: a\nrules: [{task: mmlu, margn: 1}]\n", "did you mean 'margin'"),
        ("name: a\nrules: [{task: mmlu, margin: yes}]\n", "valid number"),
        ("name: a\nrules: [{task: mmlu, margin: .nan}]\n", "finite"),
        ("name: a\nrules: [{task: mmlu, margin: '5'}]\n", "valid number"),
        ("name: a\nrules: [{task: mmlu, required: 'no'}]\n", "valid boolean"),
        ("name: a\nrules: [{task: mmlu, required: 0}]\n", "valid boolean"),
        ("name: a\nrules: [{task: mmlu, against: previous}]\n", "a margin to be lost at every step"),
        ("name: a\nrules: [{task: mmlu, all: true}]\n", "exactly one of"),
        ("name: a\nrules: [{margin: 1}]\n", "exactly one of"),
        ("name: a\nrules: [{task: mmlu, each: task}]\n", "`each` belongs to"),
        ("name: a\nrules: [{task: mmlu, samples: 4}]\n", "belong to estimand: sampled"),
        ("name: a\nrules: [{task: mmlu, on_inconclusive: pass-with-notice}]\n", "only if it is advisory"),
        ("name: a\nrules: [{task: mmlu, on_inconclusive: pass}]\n", "'inconclusive', 'fail' or 'pass-with-notice'"),
        ("name: a\nrules: [{formula: 0.5 * mmlu}]\n", "add up to 1"),
        ("name: a\nrules: [{formula: 1 * mmlu, metric: acc}]\n", "names its metrics itself"),
        ("name: a\nrules: [{tasks: [mmlu, mmlu]}]\n", "names a task twice"),
        ("name: a\nsuite_rules: {on_inconclusive: pass-with-notice}\n", "only if it is advisory"),
    ],
)
def test_policies_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((UsageError, ManyUsageErrors)) as caught:
        from_file(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / "policy.yaml") in str(caught.value)


def test_a_written_rule_replaces_the_suites() -> None:
    raw = load_policy("default", Path()).model_dump()
    policy = resolve_policy({**raw, "rules": [{"task": "mmlu", "margin": 0.5}]}, SUITE)
    assert [r.margin for r in policy.rules if r.name == "mmlu"] == [0.005]
    assert len(policy.rules) == len(resolve_policy(None, SUITE).rules)


def test_profiles() -> None:
    def rules(name: str) -> dict[str, Rule]:
        raw = load_policy(name, Path()).model_dump()
        return {r.name: r for r in resolve_policy(raw, SUITE).rules}

    default, strict, smoke = rules("default"), rules("strict"), rules("smoke")
    assert default == {r.name: r for r in resolve_policy(None, SUITE).rules}
    assert default.keys() == strict.keys() == smoke.keys()
    for name, rule in default.items():
        assert strict[name].margin == rule.margin < smoke[name].margin
        assert (rule.on_inconclusive, smoke[name].on_inconclusive) == ("inconclusive", "inconclusive")
        assert strict[name].on_inconclusive == ("fail" if rule.required else "inconclusive")
        assert strict[name].max_truncated < rule.max_truncated
        assert (rule.max_unparsed, strict[name].max_unparsed) == (None, 0.1)
    assert smoke["mmlu"].min_n == 30
    with pytest.raises(UsageError, match="there is no policy 'lax'; known: default, smoke, strict"):
        load_policy("lax", Path())


@pytest.mark.parametrize("name", sorted(schema.FILES))
def test_the_published_schema_is_the_one_that_validates(name: str) -> None:
    published = resources.path("configs", "policies", name).read_text(encoding="utf-8")
    assert published == schema.text(schema.FILES[name]), "run python -m forgetbench.gate.schema"
    assert json.loads(published)["additionalProperties"] is False


def test_the_schema_accepts_what_ships_and_refuses_unknown_keys() -> None:
    checker = jsonschema.Draft202012Validator(schema.schema(schema.FILES["policy.schema.json"]))
    folder = resources.path("configs", "policies")
    shipped = [*sorted(folder.glob("*.yaml")), resources.path("configs", "demo", "policy.yaml")]
    assert len(shipped) == 4
    for file in shipped:
        assert list(checker.iter_errors(yaml.safe_load(file.read_text(encoding="utf-8")))) == []
    assert list(checker.iter_errors({"name": "a", "rules": [{"task": "mmlu", "margn": 1}]}))
    assert list(checker.iter_errors({"name": "a", "rules": [{"task": "mmlu", "margin": 0}]}))


def test_the_examples_of_the_documentation_are_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block.split("```")[0]) for block in text.split("```yaml\n")[1:]]
    assert [sorted(block)[0] for block in blocks] == ["alarms", "waivers"]
    policy = PolicyConfig.model_validate(blocks[0])
    assert WaiversConfig.model_validate(blocks[1]).waivers[0].max_drop == 6
    # Every key of a rule stands in the table.
    table = text.split("| key |")[1].split("\n\n")[0]
    assert {f"`{key}`" for key in RuleConfig.model_fields if key not in ("name", "temperature", "samples")} <= set(
        re.findall(r"`\w+`", table)
    )
    suite = {
        name: TaskFacts(100, frozenset({kind}), frozenset({"ability", "chat"}))
        for name, kind in (
            ("gsm8k", "reasoning/arithmetic"),
            ("humaneval", "code/python"),
            ("mbpp", "code/python"),
            ("mmlu", "knowledge/stem"),
            ("code", "code/shell"),
            ("ifeval", "instructions/format"),
            ("s", "safety/harm"),
        )
    }
    names = [r.name for r in resolve_policy(policy.model_dump(), suite).rules]
    assert {"gsm8k", "humaneval+mbpp", "knowledge/stem", "everything", "samples", "usability"} <= set(names)
