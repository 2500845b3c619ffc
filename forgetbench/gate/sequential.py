"""The gate on items that come one after another: in which order they are asked, and what each rule makes of them.

Each rule is decided by the first of its two bets that is won (analysis/betting.py), the FAIL leg at the policy's alpha
over the number of deciding rules. What a rule was decided with ends there: later items, asked for other rules' sake,
change nothing of it. Every bound and p value of such a verdict holds at any stopping time.

The order is a hash of a seed and the item's content: the same for every checkpoint, and blind to the answers. The order
in which an engine finishes would not be (short answers finish first), nor that of shared prefixes (one subject after
another).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forgetbench.analysis.betting import BettingEstimator, first_boundary
from forgetbench.analysis.compare import scored
from forgetbench.analysis.types import PairedScores
from forgetbench.errors import UsageError
from forgetbench.gate.evidence import Estimate
from forgetbench.gate.policy import GENERAL_MARGIN
from forgetbench.gate.policy_match import in_type, wanted_tasks
from forgetbench.gate.sentences import decides
from forgetbench.gate.types import Against, Policy, Rule, RuleResult
from forgetbench.types import Item, ItemKey, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEED = 0
LOOKS = 20
"""Blocks that the items are cut into: a look costs no alpha, but each block is a batch of its own for the engine."""
LEAST_BLOCK = 50


@dataclass(frozen=True, slots=True)
class Order:
    """The suite's items in the order in which they are consumed, cluster by cluster."""

    items: tuple[Item, ...]
    """In that order."""
    place: Mapping[ItemKey, int]
    """Where the item's cluster comes; equal for the items of one cluster."""


def label(item: Item) -> str:
    """What is consumed as one: a cluster, or all copies of one content."""
    return f"cluster/{item.cluster}" if item.cluster is not None else f"{item.key.task}/{item.key.content_hash}"


def sequence(items: Iterable[Item], seed: int = SEED) -> Order:
    """The seeded order of a suite's items."""
    known = list(items)
    hashes = {name: hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in {label(i) for i in known}}
    places = {name: place for place, name in enumerate(sorted(hashes, key=lambda name: (hashes[name], name)))}
    ordered = sorted(known, key=lambda i: (places[label(i)], str(i.key)))
    return Order(tuple(ordered), {i.key: places[label(i)] for i in ordered})


def items_of(rule: Rule, order: Order) -> list[Item]:
    """What a rule is about, in the order of the sequence."""
    wanted = wanted_tasks(rule)
    if wanted:
        return [i for i in order.items if i.key.task in wanted]
    return [i for i in order.items if in_type(i.task_type, rule.task_type or "")]


@dataclass(frozen=True, slots=True)
class Size:
    """What has to be known of a set before the first item of it is seen."""

    total: int
    largest: int
    """Items of its largest cluster."""


def size_of(items: Collection[Item]) -> Size:
    clusters = Counter(label(i) for i in items)
    return Size(len(items), max(clusters.values(), default=1))


def check_sequential(policy: Policy) -> None:
    """Raises UsageError for a policy that bets cannot decide."""
    for rule in policy.rules:
        if rule.parts:
            raise UsageError(
                f"policy '{policy.name}', rule '{rule.name}'",
                "is a weighted score, which cannot be decided sequentially",
                "leave out --sequential, or use a policy without it",
            )
        if rule.test != "auto":
            raise UsageError(
                f"policy '{policy.name}', rule '{rule.name}'",
                f"asks for the test '{rule.test}', which holds at a fixed number of items only",
                "leave out --sequential, or set `test: auto`",
            )


def estimates(policy: Policy, order: Order) -> Estimate:
    """The estimator of each rule: bets up to the first that is won.

    Raises UsageError for scores outside 0 to 1, which a bet cannot be made on.
    """
    sizes = {rule.name: size_of(items_of(rule, order)) for rule in policy.rules}
    family = max(1, sum(decides(rule) for rule in policy.rules))

    def estimate(rule: Rule, scores: PairedScores) -> tuple[PairedScores, BettingEstimator]:
        size = sizes[rule.name]
        units = _units(scores, order, f"rule '{rule.name}'")
        sums, counts = units.sums, units.sizes
        stop = first_boundary(
            sums,
            counts,
            margin=rule.margin,
            pass_alpha=rule.alpha,
            fail_alpha=policy.alpha / (family if decides(rule) else 1),
            largest=size.largest,
            least=rule.min_n,
        )
        used = slice(0, stop.units)
        fit = BettingEstimator(sums[used], counts[used], margin=rule.margin, largest=size.largest, total=size.total)
        return scores.pick(scored(scores) & (units.of < stop.units)), fit

    return estimate


def table_estimate(order: Order) -> Callable[[PairedScores], BettingEstimator | None]:
    """What a comparison's tables show: confidence sequences over all that was asked; None where there is none."""
    items = {i.key: i for i in order.items}

    def estimate(scores: PairedScores) -> BettingEstimator | None:
        if not scored(scores).any() or not _in_range(scores):
            return None
        units = _units(scores, order, f"task {scores.task}")
        # Of the asked items alone: a table has no suite to ask. A cluster's size is known from its own items.
        largest = size_of([items[key] for key in scores.keys]).largest
        return BettingEstimator(units.sums, units.sizes, margin=GENERAL_MARGIN, largest=largest)

    return estimate


class _Units(NamedTuple):
    sums: Floats
    sizes: Floats
    of: NDArray[np.int64]
    """(n,) the unit of each pair; that of a pair without a score means nothing."""


def _units(scores: PairedScores, order: Order, where: str) -> _Units:
    """The clusters that have a scored pair, in the order of the sequence."""
    mask = scored(scores)
    d = (scores.candidate - scores.base)[mask]
    if not _in_range(scores):
        problem = f"has scores of the metric '{scores.metric}' outside 0 to 1, on which no bet can be made"
        raise UsageError(where, problem, "leave out --sequential")
    places = np.asarray([order.place[key] for key in scores.keys], dtype=np.int64)
    seen = np.unique(places[mask])
    of = np.searchsorted(seen, places).astype(np.int64)
    sums = np.bincount(of[mask], weights=d, minlength=seen.size).astype(np.float64)
    return _Units(sums, np.bincount(of[mask], minlength=seen.size).astype(np.float64), of)


def _in_range(scores: PairedScores) -> bool:
    both = np.stack([scores.base, scores.candidate])[:, scored(scores)]
    return bool(both.min() >= 0.0 and both.max() <= 1.0)


def open_rules(policy: Policy, results: Sequence[RuleResult], present: Collection[Against]) -> list[Rule]:
    """The deciding rules that more items may still decide. results: none at the start."""
    states = {r.rule.name: r.state for r in results}
    return [
        rule
        for rule in policy.rules
        if decides(rule) and rule.against in present and states.get(rule.name, "INCONCLUSIVE") == "INCONCLUSIVE"
    ]


Asking = tuple[View, ItemKey]


def wanted(rules: Sequence[Rule], order: Order) -> list[Asking]:
    """What the rules are about, view by view, in the order of the sequence: an item under two views stands twice."""
    of: dict[View, set[ItemKey]] = {}
    for rule in rules:
        of.setdefault(rule.view, set()).update(i.key for i in items_of(rule, order))
    return [(view, item.key) for item in order.items for view in of if item.key in of[view]]


def next_block(left: Sequence[Asking], order: Order, size: int) -> list[Asking]:
    """The first `size` of what is left, and the rest of the last one's cluster."""
    end = min(size, len(left))
    while 0 < end < len(left) and order.place[left[end][1]] == order.place[left[end - 1][1]]:
        end += 1
    return list(left[:end])


def block_size(total: int) -> int:
    return max(LEAST_BLOCK, math.ceil(total / LOOKS))
