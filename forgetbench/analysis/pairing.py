"""Pair two runs item by item, or say every reason why that cannot be done.

Items are matched by (task, content hash, occurrence) within a view and decoding, never by position. Greedy
and sampled records are never mixed; K samples are averaged per item. The frames have the columns of `Record`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from forgetbench.analysis.frames import SideFrame, flags_of, item_text, prepare, same
from forgetbench.analysis.pairing_names import by_name
from forgetbench.analysis.types import FLAGS, OUTCOMES, PairedScores
from forgetbench.errors import IncomparableError
from forgetbench.types import ItemKey, View

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

DUPLICATES = 0.01
"""Above this share of repeated contents in a task, copies of one content count as one cluster."""
_EXAMPLES = 3
_VIEWS: tuple[View, ...] = ("ability", "chat", "as_used")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of the runs are compared. None: all."""

    tasks: frozenset[str] | None = None
    views: frozenset[str] | None = None
    items: frozenset[ItemKey] | None = None
    shared_only: bool = False
    """Leave out what only one side has, with a note, instead of refusing."""
    replicates: tuple[int, int] = (0, 0)
    """(base, candidate); (0, 1) of one checkpoint is the A/A floor."""
    by: Literal["content", "key"] = "content"
    """`key`: items of imported records that bear one name are one item, whatever their contents; what then differs
    between the two is noted as a doubt and no reason to refuse."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Rows of both sides for the same items, sorted by item key; one task, view and decoding."""

    task: str
    view: View
    decode_id: str
    items: NDArray[np.int64]
    """(n,) item codes, ascending."""
    base_rows: NDArray[np.int64]
    """Rows of the base's frame, sorted by item, then sample."""
    candidate_rows: NDArray[np.int64]
    base_of: NDArray[np.int64]
    """For each of base_rows its position in `items`."""
    candidate_of: NDArray[np.int64]
    base_first: NDArray[np.int64]
    """(n,) first row of each item."""
    candidate_first: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two runs matched item by item. `matched` and `scores` of primary metrics are in the same order."""

    base: SideFrame
    candidate: SideFrame
    matched: tuple[Matched, ...]
    scores: tuple[PairedScores, ...]
    notes: tuple[str, ...]

    def primary(self) -> Iterator[tuple[Matched, PairedScores]]:
        yield from zip(self.matched, (s for s in self.scores if s.primary), strict=True)


@dataclass(slots=True)
class _Findings:
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pair_frames(
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    *,
    selection: Selection | None = None,
    metrics: Mapping[str, str] | None = None,
    differences: Sequence[str] = (),
    aliases: tuple[str, str] = ("base", "candidate"),
) -> Pairing:
    """Match the records of two runs.

    metrics: by task the metric that it is decided on (Task.metrics[0]); without it the first in its records.
    differences: reasons already known (versions in the manifests), to be listed with those found here.

    Raises IncomparableError listing *every* difference: items on one side only (unless
    `selection.shared_only`), decodings that differ, gold answers that differ, prompts that differ in the
    `ability` view, task_types or clusters that differ, doubled or unscored records. Records of later rounds
    (drawn to triage flips) are left out.
    """
    chosen = selection or Selection()
    found = _Findings(list(differences))
    if chosen.by == "key":
        candidate = by_name(base, candidate, aliases, found.differences, found.notes)
    sides = prepare(base, candidate, chosen, aliases)
    for side in sides:
        if not len(side):
            found.differences.append(f"{side.alias} has no records of what is to be compared")
        elif side.doubled:
            found.differences.append(
                f"{side.alias} has {side.doubled} records twice (same item, view, decoding, sample)"
            )
    if any(not len(s) for s in sides):
        raise IncomparableError(found.differences)
    matched = [m for view in _common_views(sides, found) for m in _match_view(sides, view, chosen, found)]
    for m in matched:
        _check(sides, m, found, doubtful=chosen.by == "key")
    if not matched and not found.differences:
        found.differences.append("no item is in both runs")
    clusters = _clusters(sides, matched, found)
    scores: list[PairedScores] = []
    for m in matched:
        scores += _scores(sides, m, clusters, (metrics or {}).get(m.task), found)
    if found.differences:
        raise IncomparableError(found.differences)
    return Pairing(*sides, tuple(matched), tuple(scores), tuple(found.notes))


def _common_views(sides: tuple[SideFrame, SideFrame], found: _Findings) -> list[View]:
    base, candidate = (set(side.view) for side in sides)
    for here, there, side in ((base, candidate, sides[1]), (candidate, base, sides[0])):
        for view in sorted(here - there):
            cause = " (a checkpoint without a chat template has none)" if view == "chat" else ""
            found.notes.append(f"{view} view not compared: {side.alias} has no records of it{cause}")
    common = base & candidate
    if not common:
        found.differences.append(
            f"no view in common: {sides[0].alias} has {', '.join(sorted(base))}; "
            f"{sides[1].alias} has {', '.join(sorted(candidate))}"
        )
    return [v for v in _VIEWS if v in common]


def _match_view(
    sides: tuple[SideFrame, SideFrame], view: View, selection: Selection, found: _Findings
) -> Iterator[Matched]:
    groups = [_groups(side, view) for side in sides]
    tasks = sorted({task for group in groups for task, _ in group})
    sink = found.notes if selection.shared_only else found.differences
    for task in tasks:
        decodings = [{d for t, d in group if t == task} for group in groups]
        if all(decodings) and decodings[0] != decodings[1]:
            have = "; ".join(f"{s.alias} {', '.join(sorted(d))}" for s, d in zip(sides, decodings, strict=True))
            sink.append(f"{task} ({view}): decoding differs: {have}")
        for decode_id in sorted(decodings[0] | decodings[1]):
            if all(decodings) and not all(decode_id in d for d in decodings):
                continue
            rows = [group.get((task, decode_id), np.empty(0, np.int64)) for group in groups]
            items = [np.unique(side.item[r]) for side, r in zip(sides, rows, strict=True)]
            common = np.intersect1d(items[0], items[1])
            for side, own in zip(sides, items, strict=True):
                _report_extra(side, f"{task} ({view})", np.setdiff1d(own, common), own.size, sink)
            if common.size:
                yield _matched(sides, (task, view, decode_id), common, rows)


def _groups(side: SideFrame, view: View) -> dict[tuple[str, str], NDArray[np.int64]]:
    rows = np.flatnonzero(side.view == view)
    labels: dict[tuple[str, str], list[int]] = {}
    for row in rows.tolist():
        labels.setdefault((side.task[row], side.decode_id[row]), []).append(row)
    return {key: np.asarray(value, dtype=np.int64) for key, value in labels.items()}


def _report_extra(side: SideFrame, where: str, extra: NDArray[np.int64], total: int, sink: list[str]) -> None:
    if extra.size:
        examples = ", ".join(item_text(side.keys[i]) for i in extra[:_EXAMPLES])
        sink.append(f"{where}: {extra.size} of {total} items only in {side.alias} ({examples}{_more(extra.size)})")


def _more(count: int) -> str:
    return ", ..." if count > _EXAMPLES else ""


def _matched(
    sides: tuple[SideFrame, SideFrame],
    name: tuple[str, View, str],
    items: NDArray[np.int64],
    rows: Sequence[NDArray[np.int64]],
) -> Matched:
    kept, of, first = [], [], []
    for side, own in zip(sides, rows, strict=True):
        shared = own[np.isin(side.item[own], items)]
        ordered = shared[np.lexsort((side.sample[shared], side.item[shared]))]
        position = np.searchsorted(items, side.item[ordered])
        kept.append(ordered)
        of.append(position)
        first.append(ordered[np.searchsorted(position, np.arange(items.size))])
    return Matched(*name, items, kept[0], kept[1], of[0], of[1], first[0], first[1])


def _check(sides: tuple[SideFrame, SideFrame], m: Matched, found: _Findings, *, doubtful: bool = False) -> None:
    """Whether the two sides were asked the same, item by item. doubtful: what differs is noted, not refused."""
    base, candidate = sides
    severe = found.notes if doubtful else found.differences
    where = f"{m.task} ({m.view})"

    def differing(column: str) -> tuple[NDArray[np.int64], int]:
        equal, unknown = same(base.column(column)[m.base_first], candidate.column(column)[m.candidate_first])
        return m.items[~equal & ~unknown], int(unknown.sum())

    def report(sink: list[str], what: str, items: NDArray[np.int64]) -> None:
        if items.size:
            examples = ", ".join(item_text(base.keys[i]) for i in items[:_EXAMPLES])
            sink.append(f"{where}: {what} on {items.size} of {m.items.size} items ({examples}{_more(items.size)})")

    for column, what in (
        ("gold_hash", "the reference answer differs"),
        ("task_type", "the task_type differs"),
        ("cluster", "the cluster differs"),
    ):
        report(severe, what, differing(column)[0])
    prompts, unknown = differing("prompt_text_hash")
    if m.view == "ability":
        report(severe, "the rendered prompt differs", prompts)
        if unknown:
            found.notes.append(f"{where}: {unknown} items without a prompt hash: equal prompts are taken on trust")
        tokens, _ = differing("prompt_token_hash")
        report(found.notes, "the same prompt has other tokens", tokens)
    else:
        report(found.notes, "the rendered prompt differs (each has its own template)", prompts)


def _clusters(sides: tuple[SideFrame, SideFrame], matched: Sequence[Matched], found: _Findings) -> dict[int, int]:
    """Item code -> cluster code. The one source of truth for what counts as independent.

    Labels are shared between tasks, so that items of two tasks about one fact stand together. Repeated
    contents are one cluster where a task has many of them: a set with every line copied ten times is not ten
    times larger.
    """
    base, candidate = sides
    labels: dict[int, tuple[str, ...]] = {}
    noted: set[str] = set()
    for m in matched:
        keys = [base.keys[i] for i in m.items]
        repeated = sum(k.occurrence > 0 for k in keys) > DUPLICATES * len(keys)
        if repeated and m.task not in noted:
            noted.add(m.task)
            found.notes.append(f"{m.task}: many items repeat another's content; copies count as one cluster")
        theirs = candidate.column("cluster")[m.candidate_first]
        for key, code, b, c in zip(keys, m.items.tolist(), base.column("cluster")[m.base_first], theirs, strict=True):
            label = b if isinstance(b, str) else c if isinstance(c, str) else None
            if label is not None:
                labels[code] = ("cluster", label)
            else:
                labels[code] = (key.task, key.content_hash, "" if repeated else str(key.occurrence))
    codes = {label: code for code, label in enumerate(sorted(set(labels.values())))}
    return {item: codes[label] for item, label in labels.items()}


def _scores(
    sides: tuple[SideFrame, SideFrame],
    m: Matched,
    clusters: Mapping[int, int],
    primary: str | None,
    found: _Findings,
) -> Iterator[PairedScores]:
    rows, of = (m.base_rows, m.candidate_rows), (m.base_of, m.candidate_of)
    n = m.items.size
    names = list(dict.fromkeys(k for s, r in zip(sides, rows, strict=True) for i in r.tolist() for k in s.scores[i]))
    if primary is None:
        primary = names[0] if names else "success"
    elif names and primary not in names:
        found.differences.append(
            f"{m.task} ({m.view}): no record has the metric '{primary}'; it has {', '.join(names)}"
        )
        return
    outcomes = [
        np.bincount(o * len(OUTCOMES) + s.outcome[r], minlength=n * len(OUTCOMES)).reshape(n, len(OUTCOMES))
        for s, r, o in zip(sides, rows, of, strict=True)
    ]
    flags = [_flags(s, r, o, n) for s, r, o in zip(sides, rows, of, strict=True)]
    keys = np.empty(n, dtype=object)
    keys[:] = [sides[0].keys[i] for i in m.items.tolist()]
    firsts = ("task_type", "stratum", "n_choices")
    meta: dict[str, NDArray[Any]] = {c: sides[0].column(c)[m.base_first] for c in firsts}
    codes = np.asarray([clusters[i] for i in m.items.tolist()], dtype=np.int64)
    for metric in [primary, *(x for x in names if x != primary)]:
        means, samples, binary = [], [], True
        for side, own, position in zip(sides, rows, of, strict=True):
            values, weights, missing = side.values(own, metric, primary=metric == primary)
            if missing:
                text = f"{m.task} ({m.view}): {missing} records of {side.alias} have no score '{metric}'"
                if metric == primary:
                    found.differences.append(f"{text} and no infra_error")
                else:
                    found.notes.append(f"{text}; it is not shown")
                break
            total = np.bincount(position, weights=values * weights, minlength=n)
            count = np.bincount(position, weights=weights, minlength=n)
            with np.errstate(invalid="ignore"):
                means.append(np.where(count > 0, total / count, np.nan))
            samples.append(count)
            binary = binary and bool(np.isin(values[weights == 1.0], (0.0, 1.0)).all())
        if len(means) < 2:
            continue
        yield PairedScores(
            task=m.task,
            view=m.view,
            metric=metric,
            decode_id=m.decode_id,
            primary=metric == primary,
            binary=binary,
            single=binary and all(bool((c <= 1).all()) for c in samples),
            task_types=meta["task_type"],
            strata=meta["stratum"],
            clusters=codes,
            base=means[0],
            candidate=means[1],
            base_outcomes=cast("NDArray[np.int64]", outcomes[0]),
            candidate_outcomes=cast("NDArray[np.int64]", outcomes[1]),
            n_choices=np.asarray([np.nan if x is None else float(x) for x in meta["n_choices"]]),
            keys=keys,
            base_flags=flags[0],
            candidate_flags=flags[1],
            base_samples=samples[0].astype(np.float64),
            candidate_samples=samples[1].astype(np.float64),
        )


def _flags(side: SideFrame, rows: NDArray[np.int64], of: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(n, 4): samples by flag, columns as in FLAGS."""
    counts = np.zeros((n, len(FLAGS)), dtype=np.int64)
    extra = side.column("extra")
    for row, position in zip(rows.tolist(), of.tolist(), strict=True):
        found = flags_of(extra[row])
        if found is not None:
            counts[position] += (1, *(bool(found.get(name)) for name in FLAGS[1:]))
    return counts
