"""The order of items, blocks, and rules decided by bets on items in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from forgetbench.analysis.betting import BettingEstimator, first_boundary
from forgetbench.analysis.compare import changes_of
from forgetbench.analysis.types import Comparison
from forgetbench.errors import UsageError
from forgetbench.gate.sequential import (
    Order,
    block_size,
    check_sequential,
    estimates,
    next_block,
    open_rules,
    sequence,
    size_of,
    table_estimate,
    wanted,
)
from forgetbench.gate.types import Part, Policy, Rule, Verdict
from forgetbench.gate.verdict import decide
from forgetbench.types import Item, ItemKey, View
from tests.analysis.made import compared, frame, table

pytestmark = pytest.mark.unit

TOY = Rule("toy", task="toy", margin=0.05)


def _item(number: int, *, task: str = "toy", cluster: str | None = None, kind: str = "reasoning/toy") -> Item:
    return Item(ItemKey(task, f"{number:06x}", 0), kind, {}, "1", "gold", cluster=cluster)


def _order(n: int, task: str = "toy", **more: str) -> Order:
    return sequence(_item(i, task=task, **more) for i in range(n))


def _judged(comparison: Comparison, order: Order, *rules: Rule) -> Verdict:
    policy = Policy("test", rules or (TOY,))
    return decide({"base": comparison}, policy, estimate=estimates(policy, order))


def _sequence_of(states: Sequence[float], order: Order) -> list[float]:
    """Differences by item number, in the order of the sequence."""
    return [states[int(i.key.content_hash, 16)] for i in order.items]


def test_the_order_is_of_the_seed_and_the_content_alone() -> None:
    items = [_item(i) for i in range(50)]
    one, other = sequence(items), sequence(reversed(items))
    assert [i.key for i in one.items] == [i.key for i in other.items] != [i.key for i in items]
    assert [i.key for i in sequence(items, seed=1).items] != [i.key for i in one.items]
    fewer = sequence(items[:30])
    assert [i.key for i in one.items if i in items[:30]] == [i.key for i in fewer.items]


def test_a_cluster_is_consumed_as_one() -> None:
    items = [_item(i, cluster=f"fact{i % 5}" if i < 20 else None) for i in range(40)]
    order = sequence(items)
    places = [order.place[i.key] for i in order.items]
    assert places == sorted(places)
    assert len(set(places)) == 25
    assert size_of(items).largest == 4
    block = next_block(wanted([TOY], order), order, 7)
    inside = {order.place[key] for _, key in block}
    assert not inside & {order.place[i.key] for i in items if ("ability", i.key) not in block}
    assert len(block) >= 7


def test_copies_of_one_content_are_one_cluster() -> None:
    items = [replace(_item(1), key=ItemKey("toy", "aa", copy)) for copy in range(3)]
    assert size_of(items).largest == 3
    assert len(set(sequence(items).place.values())) == 1


def test_blocks_end_with_what_is_left() -> None:
    order = _order(10)
    everything = wanted([TOY], order)
    assert next_block(everything[8:], order, 7) == everything[8:]
    assert next_block([], order, 7) == []
    assert block_size(14_042) == 703
    assert block_size(200) == 50


def test_an_item_is_wanted_once_for_each_view() -> None:
    order = _order(3)
    rules = [TOY, Rule("again", task_type="reasoning"), Rule("chat", task="toy", view="chat")]
    views: list[View] = [view for view, _ in wanted(rules, order)]
    assert len(views) == 6
    assert views.count("chat") == 3


def test_a_rule_uses_the_items_up_to_its_boundary_in_that_order() -> None:
    base, candidate = table(100, 20, 400)
    comparison = compared(frame(base), frame(candidate))
    order = _order(400)
    d = np.asarray(_sequence_of([c - b for b, c in zip(base, candidate, strict=True)], order))
    stop = first_boundary(d, np.ones(400), margin=0.05)
    result = _judged(comparison, order).rules[0]
    assert (result.state, result.n, result.total) == ("FAIL", stop.units, 400)
    assert result.n < 400
    assert result.delta == pytest.approx(d[: stop.units].mean())
    assert result.candidate is not None
    assert result.base is not None
    assert result.candidate - result.base == pytest.approx(result.delta)
    assert f"n={stop.units} of 400, decided in sequence" in result.reason
    shuffled = _judged(comparison, sequence([_item(i) for i in range(400)], seed=9)).rules[0]
    assert shuffled.n != result.n


def test_more_items_change_nothing_of_a_decided_rule() -> None:
    base, candidate = table(6, 6, 400)
    order = _order(400)
    first = [int(i.key.content_hash, 16) for i in order.items[:200]]
    whole = compared(frame(base), frame(candidate))
    part = replace(whole, scores=tuple(s.pick(np.isin(np.arange(400), first)) for s in whole.scores))
    early, late = (_judged(c, order).rules[0] for c in (part, whole))
    assert early.state == "PASS"
    assert early.n < 200
    assert (early.n, early.lower, early.delta) == (late.n, late.lower, late.delta)


def test_fail_needs_more_the_more_rules_there_are() -> None:
    """J / alpha: with twenty deciding rules the same loss takes more items; advisory ones cost nothing."""
    base, candidate = table(100, 20, 400)
    comparison = compared(frame(base), frame(candidate))
    order = _order(400)
    others = [Rule(f"r{i}", task="toy", margin=0.05) for i in range(19)]
    advisory = [replace(r, required=False) for r in others]
    alone, many, beside = (_judged(comparison, order, TOY, *more).rules[0].n for more in ([], others, advisory))
    assert alone == beside < many


def test_an_unfit_rule_decides_nothing() -> None:
    base, candidate = table(6, 6, 400)
    cut = compared(frame(base), frame(candidate, outcome=["truncated"] * 40 + ["ok"] * 360))
    result = _judged(cut, _order(400)).rules[0]
    assert result.state == "INCONCLUSIVE"
    assert "truncated" in result.reason
    assert not result.fit


def test_infra_errors_are_no_bets() -> None:
    base, candidate = table(6, 6, 400)
    order = _order(400)
    dropped = [int(order.items[i].key.content_hash, 16) for i in (0, 5)]
    outcome = ["infra_error" if i in dropped else "ok" for i in range(400)]
    whole = _judged(compared(frame(base), frame(candidate)), order).rules[0]
    fewer = _judged(compared(frame(base), frame(candidate, outcome=outcome)), order).rules[0]
    assert (fewer.state, fewer.n) == ("PASS", whole.n)  # two items later, two fewer


def test_open_rules_are_the_deciding_ones_without_a_state() -> None:
    advisory = Rule("advisory", task="toy", required=False)
    locked = Rule("locked", task="toy", against="locked")
    policy = Policy("test", (TOY, advisory, locked))
    assert open_rules(policy, (), {"base"}) == [TOY]
    assert open_rules(policy, (), {"base", "locked"}) == [TOY, locked]
    base, candidate = table(6, 6, 400)
    verdict = _judged(compared(frame(base), frame(candidate)), _order(400))
    assert open_rules(policy, verdict.rules, {"base"}) == []


def test_tables_show_confidence_sequences() -> None:
    base, candidate = table(30, 20, 400)
    comparison = compared(frame(base), frame(candidate))
    (change, *_), notes = changes_of(comparison.scores, fit=table_estimate(_order(400)))
    assert change.interval.method == BettingEstimator.method
    assert change.test == BettingEstimator.test
    fixed = next(c for c in comparison.changes if c.group == "toy")
    assert change.interval.low < fixed.interval.low
    assert change.interval.high > fixed.interval.high
    assert not notes


def test_scores_outside_the_range_are_refused_and_not_shown() -> None:
    values = [0.5, 3.0] * 50
    comparison = compared(frame(values), frame(values))
    with pytest.raises(UsageError, match="outside 0 to 1"):
        _judged(comparison, _order(100))
    changes, notes = changes_of(comparison.scores, fit=table_estimate(_order(100)))
    assert not changes
    assert "no bound on it holds at any stopping time" in notes[0]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (Rule("score", parts=(Part(1.0, task="toy"),)), "is a weighted score"),
        (Rule("toy", task="toy", test="tango"), "at a fixed number of items only"),
    ],
)
def test_what_bets_cannot_decide_is_refused(rule: Rule, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_sequential(Policy("test", (rule,)))
