"""Ranked options of both runs as arrays, for calibration and the probability of the right answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.measured import cluster_of, labels_of
from forgetbench.analysis.option_scores import OptionScores
from forgetbench.rounds import Side
from forgetbench.tasks.base import right_options
from forgetbench.types import View

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob

Logprobs = dict[str, list[float]]
"""Of each option, by the item's key."""

_LEAST = 20
"""Items that a calibration error means something from on."""


def option_scores(base: Side, candidate: Side, notes: list[str]) -> Iterator[tuple[str, View, OptionScores]]:
    """(task, view, scores) of every ranking task whose items name their right option among those ranked."""
    for job in base.jobs:
        if job.decode.temperature or candidate.job(job.task.name, job.view) is None:
            continue
        sides = [_logprobs(s, job.task.name, job.view) for s in (base, candidate)]
        right, several = _right(job, sides)
        if several > len(right):
            notes.append(f"{job.task.name}: how sure among options is not told: most items have several right ones")
            continue
        if several:
            notes.append(f"{job.task.name}: {several:,} items with several right options are not in how sure it is")
        common = [k for k, (place, _) in right.items() if all(np.isfinite(s[k][place]) for s in sides)]
        if len(common) < _LEAST:
            continue
        width = max(len(sides[0][k]) for k in common)
        arrays = [np.full((len(common), width), -np.inf) for _ in sides]
        for array, side in zip(arrays, sides, strict=True):
            for row, key in zip(array, common, strict=True):
                row[: len(side[key])] = side[key]
        labels = labels_of([right[k][1] for k in common], len(common))
        places = np.asarray([right[k][0] for k in common], dtype=np.int64)
        yield job.task.name, job.view, OptionScores(arrays[0], arrays[1], places, labels)


def _right(job: TaskJob, sides: Sequence[Logprobs]) -> tuple[dict[str, tuple[int, str | None]], int]:
    """(place of the right option, cluster) of each item that both ranked, and how many have several right ones."""
    found: dict[str, tuple[int, str | None]] = {}
    several = 0
    for item in job.items:
        key = str(item.key)
        if not all(key in s for s in sides):
            continue
        spec = job.task.prompt(item, 0)  # item by item: a group of lm-eval's tasks may rank some and write others
        n = len(spec.choices)
        if spec.form != "rank" or spec.also or any(len(s[key]) != n for s in sides):
            continue
        places = right_options(job.task, item)
        if len(places) > 1:
            several += 1
        elif places and 0 <= places[0] < n:
            found[key] = places[0], cluster_of(item.key, item.cluster)
    return found, several


def _logprobs(side: Side, task: str, view: View) -> Logprobs:
    found: Logprobs = {}
    if not any((e.identity.task, e.identity.view) == (task, view) for e in side.run.entries):
        return found  # an endpoint that cannot rank was not asked
    for r in side.run.read_records(task, view):
        values = r.extra.get("choice_logprobs")
        if values and r.replicate == 0:
            found[str(r.key)] = [-np.inf if v is None else float(v) for v in values]
    return found
