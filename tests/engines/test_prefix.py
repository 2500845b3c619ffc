"""Grouping rows by shared prefix: nothing lost, nothing shared that is not common, limits kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.engines.prefix import Budget, Group, Row, Target, common_prefix, group_rows, merge_rows

pytestmark = pytest.mark.unit
IDS = st.lists(st.integers(0, 2), min_size=2, max_size=14).map(tuple)


def row(ids: tuple[int, ...], wanted: int = 1) -> Row:
    return Row(ids, [Target(ids, len(ids) - wanted, (0,) * wanted)])


@given(IDS, IDS)
def test_common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length in (len(a), len(b)) or a[length] != b[length]


@given(
    many=st.lists(st.tuples(IDS, st.integers(1, 2)), min_size=1, max_size=25, unique_by=lambda x: x[0]),
    cost=st.integers(0, 6),
    limit=st.integers(1, 5),
    share=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_groups(many: list[tuple[tuple[int, ...], int]], cost: int, limit: int, share: bool) -> None:
    rows = merge_rows({ids: row(ids, wanted) for ids, wanted in many})
    budget = Budget(rows=limit, tokens=60, positions=8, forward_cost=cost, share=share)
    groups = list(group_rows(rows, budget))
    grouped = [r for g in groups for r in g.rows]
    assert sorted(r.ids for r in grouped) == [r.ids for r in rows]
    # No target is lost, also where a row was the beginning of another.
    assert sorted(t.owner for r in grouped for t in r.targets) == sorted(ids for ids, _ in many)
    for group in groups:
        assert len(group.rows) == 1 or len(group.rows) <= limit
        assert len(group.rows) == 1 or len(group.rows) * max(len(r.ids) for r in group.rows) <= 60
        assert len({r.ids[: group.shared] for r in group.rows}) == 1
        assert all(group.shared <= r.first for r in group.rows)
        assert share or group.shared == 0


def test_targets_of_a_beginning_are_read_off_the_longer_row() -> None:
    short, long = (1, 2, 3), (1, 2, 3, 4, 5)
    (merged,) = merge_rows({short: row(short), long: row(long)})
    assert merged.ids == long
    assert sorted(t.start for t in merged.targets) == [2, 4]
    assert merged.first == 2


def computed(groups: list[Group]) -> int:
    """Tokens that go through the model: prefixes as they are cut back and extended, and padded tails."""
    held: tuple[int, ...] = ()
    total = 0
    for group in groups:
        prefix = group.rows[0].ids[: group.shared]
        total += len(prefix) - common_prefix(held, prefix)
        held = prefix or held
        total += len(group.rows) * (max(len(r.ids) for r in group.rows) - group.shared)
    return total


def test_nested_prefixes_are_each_computed_once() -> None:
    """Three subjects of 300 tokens, in each ten questions of 40, under each four options of 3."""
    rows = {}
    for subject in range(3):
        for question in range(10):
            for option in range(4):
                ids = (subject,) * 300 + (10 + question,) * 40 + (50 + option,) * 3
                rows[ids] = row(ids, 3)
    groups = list(group_rows(merge_rows(rows), Budget(rows=64, tokens=10**6, positions=1000, forward_cost=8)))
    assert computed(groups) <= 3 * (300 + 10 * (40 + 4 * 3)) * 1.05
    naive = sum(len(ids) for ids in rows)
    assert computed(groups) < naive / 15


def test_a_long_row_does_not_pad_the_short_ones() -> None:
    rows = {ids: row(ids) for ids in [*((i, 1) * 5 for i in range(6)), (9,) * 500]}
    groups = list(group_rows(merge_rows(rows), Budget(64, 10**6, 1000, forward_cost=50)))
    assert sorted(len(g.rows) for g in groups) == [1, 6]
