"""What became of an experiment: every arm and seed with its graded checkpoints, in memory and as results.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetbench.arms.config import Plan
from forgetbench.arms.frontier import Arm, Frontier, Point, frontier
from forgetbench.arms.score import Grade, Selection, score
from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write

RESULTS = "results.json"


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """One checkpoint with its grade."""

    label: str
    """`step 40`, `alpha 0.5`, `merged`, `base`."""
    folder: str
    grade: Grade


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of one arm with one seed."""

    arm: str
    seed: int
    points: tuple[Graded, ...]
    error: str | None = None
    """One line; the points are those graded before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """Every arm and seed of an experiment."""

    plan: Plan
    out: Path
    outcomes: tuple[Outcome, ...]
    """In the experiment's order: arms, then seeds."""
    banner: str = ""
    """The suite's."""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.error is not None)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Those of which every seed was finished: what is compared."""
        found = []
        for name in self.plan.experiment.arms:
            own = [o for o in self.outcomes if o.arm == name]
            if all(o.error is None for o in own):
                paths = tuple(tuple(Point(p.label, p.grade.cells, p.grade.state) for p in o.points) for o in own)
                found.append(Arm(name, paths, noop=name in self.plan.noops))
        return tuple(found)

    def frontier(self) -> Frontier:
        """The arms side by side, as the experiment wants it. Raises UsageError where there is nothing to compare."""
        experiment = self.plan.experiment
        try:
            return frontier(
                self.arms,
                experiment.target_items,
                experiment.general_items,
                at=experiment.at if isinstance(experiment.at, str) else experiment.at / 100.0,
                interpolate=experiment.interpolate,
            )
        except UsageError as error:
            raise UsageError(f"{self.plan.file}: {error.where}", error.problem, error.cure) from None


def write(results: Results) -> None:
    """Write results.json into the folder of the results. Raises DiskFullError."""
    atomic_write(results.out / RESULTS, json.dumps(document(results), indent=1, ensure_ascii=False).encode())


def document(results: Results) -> dict[str, Any]:
    """What became of each arm and seed, as plain JSON values. Scores are fractions of 1."""
    experiment = results.plan.experiment
    selections = (experiment.target_items, experiment.general_items)
    return {
        "experiment": str(results.plan.file),
        "outcomes": [
            {
                "arm": o.arm,
                "seed": o.seed,
                "error": o.error,
                "points": [
                    {
                        "label": p.label,
                        "folder": p.folder,
                        "state": p.grade.state,
                        "reason": p.grade.reason,
                        **{s.name: _scores(p.grade, s) for s in selections},
                    }
                    for p in o.points
                ],
            }
            for o in results.outcomes
        ],
    }


def _scores(grade: Grade, selection: Selection) -> dict[str, float] | None:
    try:
        found = score(grade.cells, selection)
    except UsageError:
        return None  # said where the arms are compared
    return {"base": found.base, "candidate": found.candidate, "n": found.n}
