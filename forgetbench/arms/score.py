"""A judged checkpoint as two numbers: what it was trained for, and everything else. Pure functions of arrays.

A score is the *macro average*: items are averaged within each task_type of each view, then the task_types are averaged,
each counting the same. An average over items would let the largest set decide. Scores are fractions of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.errors import UsageError
from forgetbench.gate.policy_match import in_type
from forgetbench.types import GREEDY, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.analysis.types import Comparison, PairedScores
    from forgetbench.flow import Judgement
    from forgetbench.gate.types import State

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items a score is made of."""

    name: str
    """`target` or `general`, for messages."""
    task_types: tuple[str, ...] = ()
    """Paths or patterns such as `knowledge/*`; what lies below them counts too. Empty: all."""
    views: tuple[View, ...] = ("ability",)
    without: tuple[str, ...] = ()
    """Task_types left out."""

    def takes(self, view: str, task_type: str) -> bool:
        if view not in self.views or any(in_type(task_type, p) for p in self.without):
            return False
        return not self.task_types or any(in_type(task_type, p) for p in self.task_types)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """The paired items of one task_type in one view, sorted by key. Arrays (n,)."""

    view: View
    task_type: str
    keys: tuple[str, ...]
    clusters: tuple[str, ...]
    """Items that share a cluster bear the same text, over task_types and views."""
    base: Floats
    """Score of the base, as the candidate's nan where there is none (infra_error)."""
    candidate: Floats

    @property
    def scored(self) -> NDArray[np.bool_]:
        """(n,) items with a score on both sides."""
        found: NDArray[np.bool_] = ~(np.isnan(self.base) | np.isnan(self.candidate))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Grade:
    """What the gate said of one checkpoint, and the items behind it."""

    cells: tuple[Cell, ...]
    state: State
    reason: str
    """The verdict's sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A macro average of base and candidate over the same items."""

    base: float
    candidate: float
    cells: tuple[Cell, ...]
    """The task_types that it is the mean of, by view and name."""

    @property
    def delta(self) -> float:
        return self.candidate - self.base

    @property
    def n(self) -> int:
        """Items with a score on both sides; one asked in two views counts twice."""
        return sum(int(cell.scored.sum()) for cell in self.cells)


def graded(judgement: Judgement) -> Grade:
    """The verdict on a candidate, and its items paired with the base's."""
    verdict = judgement.verdict
    return Grade(cells_of(judgement.against["base"]), verdict.state, verdict.reason)


def cells_of(comparison: Comparison) -> tuple[Cell, ...]:
    """All items of a comparison by view and task_type, by the metric that each task is decided on.

    Greedy answers where a task has any, else the samples of its first decoding.
    """
    chosen = _deciding(comparison.scores)
    label = _cluster_labels(chosen)
    found: dict[tuple[View, str], list[tuple[str, str, float, float]]] = {}
    for scores in chosen:
        rows = zip(scores.task_types, scores.keys, scores.clusters, scores.base, scores.candidate, strict=True)
        for task_type, key, cluster, base, candidate in rows:
            row = (str(key), label[int(cluster)], float(base), float(candidate))
            found.setdefault((scores.view, str(task_type)), []).append(row)
    cells = []
    for (view, task_type), rows_of in sorted(found.items()):
        keys, clusters, bases, candidates = zip(*sorted(rows_of, key=lambda r: r[0]), strict=True)
        cells.append(Cell(view, task_type, keys, clusters, np.asarray(bases), np.asarray(candidates)))
    return tuple(cells)


def _deciding(scores: Sequence[PairedScores]) -> list[PairedScores]:
    by_task: dict[tuple[str, str], list[PairedScores]] = {}
    for s in scores:
        if s.primary:
            by_task.setdefault((s.task, s.view), []).append(s)
    return [min(found, key=lambda s: (s.decode_id != GREEDY, s.decode_id)) for found in by_task.values()]


def _cluster_labels(scores: Sequence[PairedScores]) -> dict[int, str]:
    """A name for each cluster code: its first key, since codes are those of one comparison alone."""
    first: dict[int, str] = {}
    for s in scores:
        for code, key in zip(s.clusters.tolist(), s.keys, strict=True):
            first[code] = min(first.get(code, str(key)), str(key))
    return first


def score(cells: Sequence[Cell], selection: Selection) -> Score:
    """The macro average over what `selection` takes.

    Raises UsageError where it takes nothing, or nothing that has a score.
    """
    taken = tuple(c for c in cells if selection.takes(c.view, c.task_type) and c.scored.any())
    if not taken:
        known = ", ".join(sorted({f"{c.task_type} ({c.view})" for c in cells})[:20]) or "nothing"
        wanted = ", ".join(selection.task_types) or "the rest"
        raise UsageError(
            selection.name,
            f"no scored items of {wanted} in the view {' or '.join(selection.views)}",
            f"the comparison with the base has {known}",
        )
    base = float(np.mean([c.base[c.scored].mean() for c in taken]))
    candidate = float(np.mean([c.candidate[c.scored].mean() for c in taken]))
    return Score(base, candidate, taken)
