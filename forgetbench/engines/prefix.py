"""Which rows share a beginning, and which of them to compute together. Pure functions of token ids.

A *row* is one input sequence; *targets* hang on positions of it. MMLU with five shots is 57 long prefixes
with a few hundred short tails each: computing a prefix once and its tails as batches is what makes it
bearable on a laptop. Prefixes nest (a subject's shots, then one question, then its long options), so they
form a tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass(slots=True)
class Target:
    """One continuation to score: its tokens, and the position whose logits predict the first of them."""

    owner: Any
    """Whatever the caller needs to find the way back."""
    start: int
    tokens: tuple[int, ...]


@dataclass(slots=True)
class Row:
    ids: tuple[int, ...]
    targets: list[Target] = field(default_factory=list)

    @property
    def first(self) -> int:
        """First position whose logits are wanted: a shared prefix must end before it."""
        return min(t.start for t in self.targets)

    @property
    def positions(self) -> int:
        """Upper bound of the positions wanted."""
        return sum(len(t.tokens) for t in self.targets)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows to compute in one batch, after their common first `shared` tokens."""

    rows: tuple[Row, ...]
    shared: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What a batch may hold."""

    rows: int
    tokens: int
    """Rows times the longest row (prefix included: keys and values are held for each row)."""
    positions: int
    """Positions with logits."""
    forward_cost: int
    """What one forward pass costs beyond its tokens, in tokens."""
    share: bool = True


@dataclass(slots=True)
class _Node:
    """Rows with the same first `depth` tokens: some directly, some below longer common prefixes."""

    depth: int
    rows: list[Row] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)

    def add(self, part: Row | _Node) -> None:
        if isinstance(part, Row):
            self.rows.append(part)
        else:
            self.children.append(part)


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Length of the common beginning."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    low, high = 0, limit  # a[:low] == b[:low] and a[:high] != b[:high]; slices compare at C speed
    while high - low > 1:
        middle = (low + high) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle
    return low


def merge_rows(rows: dict[tuple[int, ...], Row]) -> list[Row]:
    """Rows in lexicographic order; one that is the beginning of the next gives it its targets."""
    ordered = [rows[ids] for ids in sorted(rows)]
    kept: list[Row] = []
    for row in reversed(ordered):
        if kept and kept[-1].ids[: len(row.ids)] == row.ids:
            kept[-1].targets += row.targets
        else:
            kept.append(row)
    kept.reverse()
    return kept


def group_rows(rows: Sequence[Row], budget: Budget) -> Iterator[Group]:
    """Batches of sorted rows, so ordered that a prefix is computed once and then only cut back or
    extended."""
    if not rows:
        return
    if not budget.share:
        yield from _batches(list(rows), 0, budget)
        return
    stack = [_build_tree(rows)]
    _decide(stack[0], budget.forward_cost)
    while stack:
        node = stack.pop()
        yield from _batches(node.rows, node.depth, budget)
        stack += reversed(node.children)


def _build_tree(rows: Sequence[Row]) -> _Node:
    """The tree of common prefixes of lexicographically sorted rows, from their neighbours' overlaps."""
    open_nodes = [_Node(0)]
    pending: Row | _Node = rows[0]
    for before, row in pairwise(rows):
        depth = min(common_prefix(before.ids, row.ids), before.first, row.first)
        while open_nodes[-1].depth > depth:
            closed = open_nodes.pop()
            closed.add(pending)
            pending = closed
        if open_nodes[-1].depth < depth:
            open_nodes.append(_Node(depth))
        open_nodes[-1].add(pending)
        pending = row
    while open_nodes:
        closed = open_nodes.pop()
        closed.add(pending)
        pending = closed
    assert isinstance(pending, _Node)
    return pending


def _decide(root: _Node, forward_cost: int) -> None:
    """Dissolve, bottom up, every node whose prefix is not worth two forward passes of its own.

    Keeping a node saves (units - 1) x (its depth - its parent's depth) tokens, a unit being a row or a kept
    child.
    """
    order = [root]
    for node in order:  # grows while it runs: parents before children
        order += node.children
    for node in reversed(order):
        kept: list[_Node] = []
        for child in node.children:
            units = len(child.rows) + len(child.children)
            if (units - 1) * (child.depth - node.depth) > 2 * forward_cost:
                kept.append(child)
            else:
                node.rows += child.rows
                kept += child.children
        node.children = kept


def _batches(rows: list[Row], shared: int, budget: Budget) -> Iterator[Group]:
    """Rows of one prefix, sorted by length and cut where padding would cost more than another forward
    pass."""
    current: list[Row] = []
    padding = positions = 0
    for row in sorted(rows, key=lambda r: len(r.ids)):
        added = len(current) * (len(row.ids) - len(current[-1].ids)) if current else 0
        fits = (
            len(current) < budget.rows
            and (len(current) + 1) * len(row.ids) <= budget.tokens
            and positions + row.positions <= budget.positions
        )
        if current and not (fits and padding + added <= budget.forward_cost):
            yield Group(tuple(current), shared)
            current, padding, positions, added = [], 0, 0, 0
        current.append(row)
        padding += added
        positions += row.positions
    if current:
        yield Group(tuple(current), shared)
