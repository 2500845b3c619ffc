"""Facts by how often the base met them: are rare ones lost more.

The count of a fact comes from a file (`key,count`) or from the item's own field `frequency`. Loss is the share of the
items that the base has right and the candidate wrong. The trend is Cochran and Armitage's on log(1 + count), item by
item; its p comes from permuting the counts over facts, so that several items about one fact (of one cluster, else
copies of one question) count as one draw.

Sources: Cochran (1954) and Armitage (1955) for the trend; Kandpal et al. 2023, "Large Language Models Struggle to
Learn Long-Tail Knowledge", for counts of facts in pretraining text as what knowledge depends on.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.errors import UsageError, combined
from forgetbench.probing.modal import p_text
from forgetbench.probing.shares import difference, share_of_facts
from forgetbench.probing.types import FrequencyBin, FrequencyFit, Share
from forgetbench.rounds import Side
from forgetbench.types import GREEDY, Item, ItemKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.flow import Loaded

BINS = 4
FEWEST = 20
"""Items with a count that a task needs."""
PERMUTATIONS = 10_000


def read_counts(file: Path) -> dict[str, float]:
    """Counts by key from a CSV whose first row is `key,count`. Raises UsageErrors with file, line and cure.

    A key is an item's `id`, its `cluster`, its content hash, or TASK:HASH.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(str(file), f"cannot be read ({e})", "give a UTF-8 CSV file with key,count") from None
    found: dict[str, float] = {}
    errors: list[UsageError] = []
    reader = csv.reader(text.splitlines())
    header = [cell.strip() for cell in next(reader, [])]
    if not {"key", "count"} <= set(header):
        raise UsageError(f"{file}:1", "has no columns key and count", "write `key,count` into the first row")
    for row in reader:
        if not row:
            continue
        cells = dict(zip(header, row, strict=False))
        key, value = cells.get("key", "").strip(), cells.get("count", "").strip()
        where = f"{file}:{reader.line_num}"
        try:
            count = float(value)
        except ValueError:
            count = math.nan
        if not key or not count >= 0 or math.isinf(count):
            errors.append(UsageError(where, f"'{key},{value}' is no key with a count", "write a count of 0 or more"))
        elif key in found:
            errors.append(UsageError(where, f"the key '{key}' stands twice", "keep one of the two"))
        else:
            found[key] = count
    if errors:
        raise combined(errors[:20])
    return found


def facts_by_frequency(
    base: Side, candidate: Side, loaded: Loaded, counts: Mapping[str, float], *, bins: int = BINS, seed: int = 0
) -> list[FrequencyFit]:
    """One for each task and view that both have, with at least FEWEST items of which a count is known.

    Reads the greedy records of both runs. Raises UsageError where no task has enough of them.
    """
    made = []
    most = 0
    theirs = {(r[0], r[1]): r[2] for r in _scores(base)}
    by_view: dict[tuple[str, str], dict[ItemKey, tuple[float, float]]] = {}
    for key, view, score in _scores(candidate):
        if (key, view) in theirs:
            by_view.setdefault((key.task, view), {})[key] = (theirs[key, view], score)
    for _, task in loaded:
        items = {item.key: (item, count_of(item, counts)) for item in task.load()}
        for (name, view), scores in sorted(by_view.items()):
            if name != task.name:
                continue
            mine = [(*items[key], *both) for key, both in scores.items() if key in items]
            known = [(i, c, b, s) for i, c, b, s in mine if c is not None]
            most = max(most, len(known))
            if len(known) >= FEWEST:
                # Copies of a question have one content hash: their outcomes are one draw.
                facts = [f"#{i.key.content_hash}" if i.cluster is None else i.cluster for i, _, _, _ in known]
                table = np.asarray([(c, b, s) for _, c, b, s in known], dtype=np.float64)
                unknown = len(mine) - len(known)
                made.append(by_frequency(task.name, view, facts, table, unknown=unknown, bins=bins, seed=seed))
    if not made:
        problem = f"of no task at least {FEWEST} items that both runs have in one view (most: {most})"
        raise UsageError("--frequency", problem, "key it by the items' id, cluster, content hash or TASK:HASH")
    return made


def count_of(item: Item, counts: Mapping[str, float]) -> float | None:
    """The count of an item's fact: the file's by any of its names, else the item's own `frequency`."""
    names = (item.doc.get("id"), str(item.key), f"{item.key.task}:{item.key.content_hash}", item.key.content_hash)
    for name in (*names, item.cluster):
        if name is not None and str(name) in counts:
            return counts[str(name)]
    own = item.doc.get("frequency")
    return float(own) if isinstance(own, int | float) and math.isfinite(own) and own >= 0 else None


def _scores(side: Side) -> list[tuple[ItemKey, str, float]]:
    """0 or 1 by item and view: whether the greedy answer is wholly right."""
    return [
        (r.key, r.view, float(next(iter(r.scores.values())) >= 1.0))
        for r in side.run.read_records()
        if (r.decode_id, r.replicate, r.round) == (GREEDY, 0, 0) and r.scores
    ]


def by_frequency(
    task: str,
    view: str,
    facts: Sequence[str],
    table: NDArray[np.float64],
    *,
    unknown: int = 0,
    bins: int = BINS,
    seed: int = 0,
) -> FrequencyFit:
    """table: (n, 3), for each item its count, and whether base and candidate are right (0/1). facts: (n,), equal for
    items about one fact."""
    count, base, candidate = table.T
    edges = np.unique(np.quantile(count, np.linspace(0, 1, bins + 1)[1:-1], method="higher"))
    place = np.searchsorted(edges, count, side="right")
    made = []
    for b in np.unique(place):
        mine = place == b
        held = mine & (base == 1)
        made.append(
            FrequencyBin(
                low=float(count[mine].min()),
                high=float(count[mine].max()),
                n=int(mine.sum()),
                base=_share(base == 1, mine, facts),
                candidate=_share(candidate == 1, mine, facts),
                lost=_share(candidate == 0, held, facts),
            )
        )
    held = base == 1
    x, y = np.log1p(count[held]), 1.0 - candidate[held]
    z = trend(x, y)
    p = permuted(x, y, [f for f, h in zip(facts, held, strict=True) if h], seed=seed)
    had = [b for b in made if b.lost.n]
    apart = difference(had[-1].lost, had[0].lost) if len(had) > 1 else None
    return FrequencyFit(task, view, tuple(made), apart, z, p, unknown, _reading(made, z, p))


def _share(outcomes: NDArray[np.bool_], among: NDArray[np.bool_], facts: Sequence[str]) -> Share:
    chosen = np.flatnonzero(among)
    return share_of_facts(outcomes[chosen].tolist(), [facts[i] for i in chosen])


def trend(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Cochran-Armitage z of 0/1 outcomes y (n,) on scores x (n,); 0 where either does not vary."""
    if y.size == 0 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return 0.0
    p = y.mean()
    return float((x * (y - p)).sum() / math.sqrt(p * (1 - p) * ((x - x.mean()) ** 2).sum()))


def permuted(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    facts: Sequence[str],
    *,
    draws: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Two-sided p of no trend: x is drawn anew over facts, whose items keep their outcomes together."""
    if y.size == 0 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return 1.0
    _, first, codes = np.unique(np.asarray(facts), return_index=True, return_inverse=True)
    totals = np.bincount(codes, weights=y - y.mean())
    scores = x[first]
    seen = abs(float(scores @ totals))
    rng = np.random.default_rng(seed)
    # In blocks: ten thousand orders of ten thousand facts are 800 MB.
    hits, left = 0, draws
    while left:
        rows = min(left, max(1, 1_000_000 // scores.size))
        orders = rng.permuted(np.tile(scores, (rows, 1)), axis=1)
        hits += int((np.abs(orders @ totals) >= seen - 1e-9).sum())
        left -= rows
    return (1 + hits) / (1 + draws)


def _reading(bins: Sequence[FrequencyBin], z: float, p: float) -> str:
    had = [b for b in bins if b.lost.n]
    if not had:
        return "the base has none of the facts with a count right: none can be lost"
    if p > 0.05 or z == 0.0:
        word = "no trend of loss with how often the base met a fact"
    else:
        word = f"{'rare' if z < 0 else 'frequent'} facts are lost more"
    ends = had[:1] if len(had) == 1 else [had[0], had[-1]]
    shares = ", ".join(
        f"{100 * b.lost.value:.1f} %{'' if i else ' lost'} at {b.low:g} to {b.high:g}" for i, b in enumerate(ends)
    )
    return f"{word}: {shares} (trend z = {z:+.2f}, {p_text(p)})"
