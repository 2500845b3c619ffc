"""Take a part of a task's items. Keys and few-shot draws were fixed before, over the whole split."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from forgetbench.types import Item


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
