"""Ranked options of both runs as arrays, for calibration and the probability of the right answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from forgetbench.analysis.measured import cluster_of, labels_of
from forgetbench.analysis.option_scores import OptionScores
from forgetbench.rounds import Side
from forgetbench.types import View

_LEAST = 20
"""Items that a calibration error means something from on."""


def option_scores(base: Side, candidate: Side) -> Iterator[tuple[str, View, OptionScores]]:
    """(task, view, scores) of every ranking task whose right option is one of those ranked."""
    for job in base.jobs:
        if job.decode.temperature or candidate.job(job.task.name, job.view) is None or not job.items:
            continue
        specs = {str(item.key): (item, job.task.prompt(item, 0)) for item in job.items[:1]}
        if any(spec.form != "rank" or spec.also for _, spec in specs.values()):
            continue
        gold: dict[str, tuple[int, str]] = {}
        for item in job.items:
            choices = job.task.prompt(item, 0).choices
            if item.gold in choices:
                gold[str(item.key)] = (choices.index(item.gold), cluster_of(item.key, item.cluster))
        sides = [_logprobs(s, job.task.name, job.view) for s in (base, candidate)]
        common = [k for k in gold if all(k in s for s in sides)]
        common = [k for k in common if len(sides[0][k]) == len(sides[1][k]) > gold[k][0]]
        common = [k for k in common if all(np.isfinite(s[k][gold[k][0]]) for s in sides)]
        if len(common) < _LEAST:
            continue
        width = max(len(sides[0][k]) for k in common)
        arrays = [np.full((len(common), width), -np.inf) for _ in sides]
        for array, side in zip(arrays, sides, strict=True):
            for row, key in zip(array, common, strict=True):
                row[: len(side[key])] = side[key]
        labels = labels_of([gold[k][1] for k in common], len(common))
        right = np.asarray([gold[k][0] for k in common], dtype=np.int64)
        yield job.task.name, job.view, OptionScores(arrays[0], arrays[1], right, labels)


def _logprobs(side: Side, task: str, view: View) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    if not any((e.identity.task, e.identity.view) == (task, view) for e in side.run.entries):
        return found  # an endpoint that cannot rank was not asked
    for r in side.run.read_records(task, view):
        values = r.extra.get("choice_logprobs")
        if values and r.replicate == 0:
            found[str(r.key)] = [-np.inf if v is None else float(v) for v in values]
    return found
