"""What the page shows, in which order; nothing invented, nothing lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forgetbench.gate.types import Rule
from forgetbench.report.context import (
    build_context,
    comparison_ids,
    ordered_types,
    rule_for,
    rules_about,
)
from tests.report.sample import WORLD, comparison, demo

pytestmark = pytest.mark.unit


def test_candidates_in_order_and_the_last_decides() -> None:
    context = build_context(*demo())
    assert [c["alias"] for c in context["candidates"]] == ["sft_v1", "sft_v2"]
    assert [c["decides"] for c in context["candidates"]] == [False, True]
    assert context["aliases"] == ["base", "sft_v1", "sft_v2"]
    last = context["candidates"][-1]
    assert [c["base"] for c in last["comparisons"]] == ["base", "sft_v1"]
    assert [v["view"] for v in last["comparisons"][1]["views"]] == ["ability", "chat"]


def test_gains_come_first_and_groups_are_named_once() -> None:
    last = build_context(*demo())["candidates"][-1]["comparisons"][1]
    assert last["gained"][0]["group"] == "support/tickets"
    assert [c["view"] for c in last["gained"][0]["changes"]] == ["ability", "chat"]
    names = [one["group"] for one in last["lost"]]
    assert "knowledge/capitals" in names
    assert len(names) == len(set(names))
    for view in last["views"]:
        parents = [r["change"]["delta"] for r in view["sections"][0]["rows"] if r["level"] == 1]
        assert parents == sorted(parents, reverse=True)


def test_every_ability_is_listed_and_a_lone_child_only_once() -> None:
    comparisons, _ = demo()
    listed = [c.group for c in ordered_types(c for c in comparisons[1].changes if c.view == "ability")]
    assert len(listed) == len(set(listed))
    assert "knowledge" in listed
    assert "knowledge/capitals" in listed
    assert "code" in listed
    assert "code/small_functions" not in listed
    rows = build_context(*demo())["candidates"][-1]["comparisons"][0]["views"][0]["sections"][0]["rows"]
    assert "code/small_functions" in [r["name"] for r in rows]
    covered = {r["change"]["group"] for r in rows}
    assert {t for t in WORLD if t in covered or t.split("/")[0] in covered} == set(WORLD)


def test_a_child_without_a_parent_row_is_not_lost() -> None:
    comparisons, _ = demo()
    orphans = [c for c in comparisons[0].changes if c.kind == "task_type_2"]
    assert sorted(c.group for c in ordered_types(orphans)) == sorted(c.group for c in orphans)


def test_margin_comes_from_the_required_rule_of_that_view() -> None:
    change = next(c for c in demo()[0][0].changes if c.group == "knowledge")
    advisory = Rule("a", task_type="knowledge", margin=0.2, required=False)
    required = Rule("b", task_type="knowledge", margin=0.03)
    assert rule_for(change, [advisory, required]) is required
    assert rule_for(change, [replace(required, view="chat"), replace(required, task_type="code")]) is None
    assert rule_for(change, [replace(required, task_type=None, task="knowledge")]) is None


def test_rules_belong_to_the_comparison_they_are_against() -> None:
    comparisons, verdicts = demo()
    rules = [Rule(a, task="t", against=a) for a in ("base", "previous", "locked")]  # type: ignore[arg-type]
    verdict = replace(verdicts[-1], policy=replace(verdicts[-1].policy, rules=tuple(rules)))

    def names(found: int, root: str, before: str | None) -> list[str]:
        return [r.name for r in rules_about(verdict, comparisons[found], root, before)]

    assert names(1, "base", "sft_v1") == ["base"]
    assert names(2, "base", "sft_v1") == ["previous"]
    assert names(0, "base", None) == ["base", "previous"]
    assert names(2, "base", "other") == ["locked"]


def test_a_comparison_that_tells_what_it_is_against_is_believed() -> None:
    comparisons, verdicts = demo()
    rules = [Rule(a, task="t", against=a) for a in ("base", "previous", "locked")]  # type: ignore[arg-type]
    verdict = replace(verdicts[-1], policy=replace(verdicts[-1].policy, rules=tuple(rules)))
    for told in (("locked",), ("base", "locked"), ("locked", "previous")):  # a release that stands twice
        found = replace(comparisons[2], against=told)
        assert sorted(r.name for r in rules_about(verdict, found, "base", "sft_v1")) == list(told)


def test_chain_takes_scores_from_the_comparison_with_the_root() -> None:
    comparisons, verdicts = demo()
    context = build_context(comparisons, verdicts)
    ability, chat = context["chain"]
    row = next(r for r in ability["rows"] if r["name"] == "capitals")
    changes = [next(c for c in found.changes if c.group == "knowledge/capitals") for found in comparisons]
    assert row["scores"] == [changes[0].base, changes[0].candidate, changes[1].candidate]
    assert all(r["scores"][0] is None for r in chat["rows"])  # the base has no chat template


def test_comparisons_of_equal_names_get_different_ids() -> None:
    same = comparison("base", "base", {"a/b": (20, 0.5, 0.5)}, ["ability"])
    ids = comparison_ids([same, same, same])
    assert len(set(ids)) == 3
    assert comparison_ids([same])[0] == "base-vs-base"


def test_without_verdict_or_comparison() -> None:
    comparisons, verdicts = demo()
    assert build_context(comparisons, [])["candidates"][0]["verdict"] is None
    assert build_context([], verdicts)["candidates"][0]["comparisons"] == []
    assert build_context([], [])["candidates"] == []


def test_a_parent_that_pools_metrics_keeps_its_children() -> None:
    changes = [
        replace(c, metric="acc+f1") if c.kind == "task_type_1" else c
        for c in demo()[0][0].changes
        if c.group.split("/")[0] in ("knowledge", "code")
    ]
    groups = [c.group for c in ordered_types(changes)]
    assert groups.index("knowledge") < groups.index("knowledge/capitals") < len(groups)
    assert "code/small_functions" not in groups


def test_a_second_metric_is_named_and_has_no_margin() -> None:
    found = demo()[0][0]
    task = next(c for c in found.changes if c.kind == "task")
    strict = replace(task, metric="strict", delta=task.delta - 0.01, base=0.5)
    rules = (Rule("t", task=task.group),)
    verdict = replace(demo()[1][0], policy=replace(demo()[1][0].policy, rules=rules))
    context = build_context([replace(found, changes=(*found.changes, strict))], [verdict])
    sections = context["candidates"][0]["comparisons"][0]["views"][0]["sections"]
    rows = {r["metric"]: r for s in sections for r in s["rows"] if r["change"]["group"] == task.group}
    assert set(rows) == {"acc", "strict"}
    assert rows["acc"]["rule"]["name"] == "t"
    assert rows["strict"]["rule"] is None
    assert all(r["metric"] == "" for r in sections[0]["rows"])


def test_the_state_is_not_said_twice_and_notes_stand_once() -> None:
    comparisons, verdicts = demo()
    note = comparisons[1].notes[0]
    verdict = replace(verdicts[-1], reason="blocked: knowledge lost 35 points", notes=(note, f"x: {note}", "own"))
    shown = build_context(comparisons, [verdict])["candidates"][0]["verdict"]
    assert shown["reason"] == "Knowledge lost 35 points"
    assert shown["notes"] == ["own"]
