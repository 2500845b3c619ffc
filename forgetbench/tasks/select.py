"""Take a part of a task's items. Keys and few-shot draws were fixed before, over the whole split."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forgetbench.types import Item

_SMALL = "(small strata)"
_LEAST = 2
"""Items of a stratum that a variance needs."""


def select(
    items: Sequence[Item], limit: int | None = None, per_stratum: bool = False, seed: int | None = None
) -> Sequence[Item]:
    """At most `limit` items, in file order; `per_stratum`: at most `limit` of each stratum.

    Without a seed the first ones, which is what lm-eval's --limit takes (of each subject, for MMLU). With a
    seed a uniform sample without replacement, the same for the same items, limit and seed. A limit that is
    larger than the set takes all of it. Raises ValueError for a negative limit.
    """
    if limit is None:
        return items
    if limit < 0:
        raise ValueError(f"limit {limit} is negative")
    groups: dict[str | None, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        groups[item.stratum if per_stratum else None].append(position)
    kept: list[int] = []
    for stratum, positions in groups.items():
        if seed is None:
            kept += positions[:limit]
        else:
            # A generator of its own for each stratum: adding a subject must not change another one's sample.
            kept += random.Random(f"{seed}/{stratum}").sample(positions, min(limit, len(positions)))
    return [items[position] for position in sorted(kept)]


@dataclass(frozen=True, slots=True)
class Sample:
    """A stratified sample and its design, which an estimate of the whole needs (analysis/subset.py)."""

    items: Sequence[Item]
    """In file order."""
    stratum_of: Mapping[str, str]
    """Label (`label`) -> stratum that it was drawn in."""
    sizes: Mapping[str, int]
    """Stratum -> its items in the whole set."""


def label(item: Item) -> str:
    """What an item is stratified by: its stratum, else its task_type."""
    return item.stratum or item.task_type


def sample(items: Sequence[Item], n: int, seed: int) -> Sample:
    """`n` items without replacement, from every stratum in proportion to its size (all if n >= len(items)).

    Proportional allocation, the rest by largest remainders (Cochran 1977, "Sampling Techniques", section
    5.3). Strata whose share is below two items are pooled before, since one item has no variance (collapsed
    strata, section 5A.12). Within a stratum items are ordered by a hash of seed and item key and the first
    ones taken: the choice does not depend on the order of the file, a larger n keeps nearly all of a smaller
    one, and a new subject leaves the draws of others as they are, so that answers on disk serve again.
    """
    if n < 1:
        raise ValueError(f"a sample of {n}")
    counts = Counter(label(item) for item in items)
    n = min(n, len(items))
    stratum_of = _pooled(counts, n)
    sizes: Counter[str] = Counter()
    for name, count in counts.items():
        sizes[stratum_of[name]] += count
    wanted = allocate(sizes, n)
    members: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        members[stratum_of[label(item)]].append(position)
    kept: list[int] = []
    for stratum, positions in members.items():
        positions.sort(key=lambda p: hashlib.sha256(f"{seed}/{items[p].key}".encode()).digest())
        kept += positions[: wanted[stratum]]
    return Sample([items[p] for p in sorted(kept)], stratum_of, dict(sizes))


def allocate(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """`n` in proportion to `sizes`, whole numbers by largest remainders (ties: the larger, then by name)."""
    total = sum(sizes.values())
    wanted = {name: n * size // total for name, size in sizes.items()}
    order = sorted(sizes, key=lambda name: (-(n * sizes[name] % total), -sizes[name], name))
    for name in order[: n - sum(wanted.values())]:
        wanted[name] += 1
    return wanted


def _pooled(counts: Mapping[str, int], n: int) -> dict[str, str]:
    """Label -> stratum: its own where its share is two items or more, else one for all small ones."""
    total = sum(counts.values())
    small = {name for name, count in counts.items() if n * count < _LEAST * total}
    others = sorted((count, name) for name, count in counts.items() if name not in small)
    # The pool itself may be too small: it then takes in the smallest of the others.
    while small and others and n * sum(counts[name] for name in small) < _LEAST * total:
        small.add(others.pop(0)[1])
    return {name: _SMALL if name in small else name for name in counts}
