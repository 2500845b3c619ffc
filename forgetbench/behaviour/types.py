"""What is studied, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forgetbench.types import View

if TYPE_CHECKING:
    from forgetbench.analysis.crossover import PassCurves
    from forgetbench.analysis.joint import Expected
    from forgetbench.analysis.measured import Measured
    from forgetbench.analysis.noise import Noise
    from forgetbench.belief.types import Divergence
    from forgetbench.causes.types import Causes
    from forgetbench.drift.types import Drift
    from forgetbench.probing.types import TrainingFit

PARTS = ("distribution", "causes", "belief", "drift")


@dataclass(frozen=True, slots=True)
class Study:
    """Which further questions may be asked. What the runs hold already is always looked at."""

    distribution: bool = True
    """Both checkpoints read some of the base's own answers and score some reference answers: at most 15 % more
    tokens."""
    causes: bool = False
    belief: bool = False
    drift: bool = False
    """Both checkpoints' weights are read (5 minutes for 8 billion of them); no model runs."""
    most: int = 300
    """Flips of a task and view, and items of a task, that are asked again."""
    further: tuple[int, ...] = (40,)
    """Samples of each side that flips of undetermined cause get beyond the first 20, one number a look."""


@dataclass(frozen=True, slots=True)
class Group:
    """Measures of one kind about one set of answers."""

    title: str
    view: View
    about: str
    """What they were taken from, with its size."""
    measures: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class SampledTask:
    """What K samples of each item say beyond the mean score."""

    task: str
    view: View
    decode_id: str
    n: int
    curves: PassCurves
    expected: Expected | None
    """None: the samples are not the same number of every item and side, or items share clusters."""
    noise: Noise | None
    flicker: tuple[float, float] | None
    """Range of the share of single-sample flips that is sampling noise: by likelihood, and by the moment bound."""
    measures: tuple[Measured, ...]
    reading: str


@dataclass(frozen=True, slots=True)
class Spending:
    """What later rounds asked, tokens of prompts and answers together."""

    requests: int
    tokens: int
    share: float
    """Of the tokens of the comparison itself."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Of one comparison."""

    groups: tuple[Group, ...] = ()
    sampled: tuple[SampledTask, ...] = ()
    causes: Causes | None = None
    divergences: tuple[Divergence, ...] = ()
    drift: Drift | None = None
    fit: TrainingFit | None = None
    """To the candidate's own training set, where that was given."""
    spent: Spending | None = None
    """None: nothing was asked."""
    notes: tuple[str, ...] = ()
