"""Which items stand together: a task, a task_type at either level, a stratum, the tasks that a rule pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forgetbench.analysis.types import _ARRAYS, PairedScores


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    kind: str
    """task, task_type_1, task_type_2 or stratum."""
    name: str
    scores: PairedScores


def pool(parts: Sequence[PairedScores]) -> PairedScores:
    """The items of several tasks as one set (each item counts the same); at least one part, one view and
    decoding.

    The metric's name is kept where all parts share it, else the names are joined by '+'.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if len({(p.view, p.decode_id) for p in parts}) != 1:
        raise ValueError("only items of one view and one decoding can be pooled")
    return replace(
        first,
        task="+".join(dict.fromkeys(p.task for p in parts)),
        metric="+".join(dict.fromkeys(p.metric for p in parts)),
        primary=all(p.primary for p in parts),
        binary=all(p.binary for p in parts),
        single=all(p.single for p in parts),
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS},
    )


def in_task_type(scores: PairedScores, path: str) -> PairedScores | None:
    """The items whose task_type is `path` or lies below it; None where there are none."""
    mask = np.asarray([t == path or str(t).startswith(f"{path}/") for t in scores.task_types], dtype=np.bool_)
    return scores.pick(mask) if mask.any() else None


def groups(scores: Sequence[PairedScores]) -> Iterator[Group]:
    """All groups of a comparison: per task each metric; the rest by the metric that each task is decided on.

    Task_types pool tasks of one view and decoding. Greedy and sampled items are never pooled.
    """
    for part in scores:
        yield Group("task", part.task, part)
    primary = [s for s in scores if s.primary]
    for view, decode_id in dict.fromkeys((s.view, s.decode_id) for s in primary):
        parts = [s for s in primary if (s.view, s.decode_id) == (view, decode_id)]
        yield from _task_types(parts)
        for part in parts:
            names = np.asarray([s if isinstance(s, str) else "" for s in part.strata], dtype=object)
            for name in sorted(set(names) - {""}):
                yield Group("stratum", f"{part.task}/{name}", part.pick(names == name))


def _task_types(parts: Sequence[PairedScores]) -> Iterator[Group]:
    everything = pool(parts)
    paths = np.asarray([str(t) for t in everything.task_types], dtype=object)
    tops = np.asarray([p.split("/")[0] for p in paths], dtype=object)
    for kind, labels in (("task_type_1", tops), ("task_type_2", paths)):
        for name in sorted(set(labels)):
            if kind == "task_type_1" or "/" in name:
                mask = labels == name
                # The parts apart, so that binary, single and the metric's name are those of the tasks inside.
                yield Group(kind, name, _pool_masked(parts, mask))


def _pool_masked(parts: Sequence[PairedScores], mask: np.typing.NDArray[np.bool_]) -> PairedScores:
    picked, start = [], 0
    for part in parts:
        own = mask[start : start + part.base.size]
        start += part.base.size
        if own.any():
            picked.append(part.pick(own))
    return pool(picked)
