"""A sweep carried out: each value trained, judged by the gate, and the next one chosen from what is known.

Nothing is kept beside the folders of the trainings and the runs of the grader. The same call finds what is done there:
finished trainings are not repeated, cut off ones go on, graded checkpoints are only compared again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.config_policy import PolicyConfig
from forgetbench.errors import UsageError
from forgetbench.sweeping.bisect import (
    Axis,
    Bracket,
    Contradiction,
    Loss,
    Point,
    bracket,
    contradictions,
    next_value,
)
from forgetbench.sweeping.config import Sweep
from forgetbench.training.recipe import Recipe

if TYPE_CHECKING:
    from forgetbench.flow import Judgement
    from forgetbench.gate.types import State
    from forgetbench.training.grading import Grader
    from forgetbench.training.prepare import Where

Say = Callable[[str], None]
Train = Callable[[Recipe, Path], Path]
"""Trains a recipe into a folder; returns that of the weights."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training, judged."""

    name: str
    value: float | None
    """Of the swept number; None for the bounds."""
    folder: Path
    """Of the weights; of a run that gave none, of the run."""
    state: State
    reason: str
    losses: Mapping[str, Loss]
    """By required rule, in points."""
    worst: str | None
    """The rule that is nearest to its margin, or farthest beyond it, by its one-sided bound."""
    target: float | None
    """Score of the target, fraction of 1; None where none was named."""
    target_base: float | None

    @property
    def point(self) -> Point:
        return Point(0.0 if self.value is None else self.value, self.state == "PASS", self.losses)


@dataclass(frozen=True, slots=True)
class Result:
    """What a sweep found."""

    key: str
    axis: Axis
    trials: tuple[Trial, ...]
    """In the order in which they were made."""
    kept: Trial | None
    """Almost no learning."""
    gained: Trial | None
    """The target alone, for long."""
    bracket: Bracket
    contradictions: tuple[Contradiction, ...]
    open: bool
    """The budget ended before the search did."""

    @property
    def best(self) -> Trial | None:
        """The trial farthest from the safe end that is within, as all before it are."""
        return next((t for t in self.trials if t.value == self.bracket.within), None)

    @property
    def state(self) -> State:
        """PASS where a value is within; else what the gate said at the safe end."""
        if self.bracket.within is not None:
            return "PASS"
        return self.trials[0].state


def with_margin(policy: PolicyConfig, margin: float | None) -> PolicyConfig:
    """The policy with one margin (points) for whatever it requires."""
    if margin is None:
        return policy
    changes: dict[str, Any] = {
        "rules": tuple(r.model_copy(update={"margin": margin}) if r.required else r for r in policy.rules)
    }
    if policy.suite_rules is not None:
        listed = tuple(
            b.model_copy(update={"margin": margin}) if b.required else b for b in policy.suite_rules.benchmarks
        )
        changes["suite_rules"] = policy.suite_rules.model_copy(update={"margin": margin, "benchmarks": listed})
    return policy.model_copy(update=changes)


def config_of(sweep: Sweep, config: Path | None) -> Path | None:
    """The forgetbench.yaml that holds: the one named, else that beside the sweep's file; None: that of the working
    directory."""
    from forgetbench.config import CONFIG_NAME

    beside = sweep.file.resolve().parent / CONFIG_NAME
    return beside if config is None and beside.is_file() else config


def where_of(sweep: Sweep, *, config: Path | None = None, data_dir: Path | None = None, offline: bool = False) -> Where:
    """How trainings ask the base: as `open_for` does. Raises UsageError for a config that cannot be read."""
    from forgetbench.training.base import known_as
    from forgetbench.training.prepare import Where

    file = config_of(sweep, config)
    return Where(known_as(sweep.recipe.base, file), file, data_dir, offline)


def base_of(sweep: Sweep, config: Path | None) -> str:
    """What the recipe calls its base: an alias, else a folder beside the recipe, else as it is."""
    from forgetbench.training.base import known_as

    folder = sweep.root / sweep.recipe.base
    known = known_as(sweep.recipe.base, config)
    return str(folder) if known is None and folder.is_dir() else sweep.recipe.base


def open_for(
    sweep: Sweep, *, config: Path | None = None, data_dir: Path | None = None, offline: bool = False
) -> Grader:
    """The grader with the sweep's suite, policy and margin. Raises UsageError, ManyUsageErrors."""
    from forgetbench.training.base import weights_of
    from forgetbench.training.grading import open_grader

    folder = sweep.file.resolve().parent

    def near(value: str | None) -> str | None:
        return str(folder / value) if value is not None and (folder / value).is_file() else value

    file = config_of(sweep, config)
    grader = open_grader(
        base_of(sweep, file),
        config=file,
        suite=near(sweep.config.suite),
        policy=near(sweep.config.policy),
        data_dir=data_dir,
        offline=offline,
    )
    weights_of(grader.ws, grader.base)
    _target_is_asked(sweep, grader)
    return replace(grader, ws=replace(grader.ws, policy=with_margin(grader.ws.policy, sweep.config.margin)))


def _target_is_asked(sweep: Sweep, grader: Grader) -> None:
    """Known before anything is trained: the target has items, in a view that the base can be asked in."""
    from forgetbench import flow
    from forgetbench.arms.score import Selection

    if not sweep.config.target:
        return
    wanted = Selection("target", sweep.config.target, sweep.config.views)
    chat = flow.checkpoint(grader.ws, grader.base).has_chat_template
    facts = flow.facts(grader.ws, grader.loaded).values()
    asked = {(v, kind) for f in facts for v in f.views if v != "chat" or chat for kind in f.task_types}
    if not any(wanted.takes(view, kind) for view, kind in asked):
        known = ", ".join(sorted({f"{kind} ({view})" for view, kind in asked})[:20]) or "nothing"
        problem = f"the suite asks nothing of {', '.join(wanted.task_types)} in the view {' or '.join(wanted.views)}"
        raise UsageError(f"{sweep.file}: target", problem, f"it asks {known}; name one of these, or set `views`")


def run_sweep(sweep: Sweep, grader: Grader, out: Path, train: Train, say: Say) -> Result:
    """Train and judge until the search ends or its budget does.

    A run that explodes, or of which the recipe's own retention set accepts no checkpoint, counts as not within. Raises
    what else training and grading raise; the same call goes on.
    """
    from forgetbench.training import manifest
    from forgetbench.training.stopping import Exploded, NoAcceptable

    grader.prepare(say)
    taken = set(grader.ws.config.models)

    def trial(name: str, recipe: Recipe, value: float | None) -> Trial:
        alias = re.sub(r"[^\w.-]", "_", f"{out.name}-{name}").lstrip(".-")
        if alias in taken:
            raise UsageError(f"model '{alias}'", "is a model of the config already", "give another --out")
        say(f"{name}: training")
        try:
            folder = train(recipe, out / name)
        except (Exploded, NoAcceptable) as error:  # an answer as good as any other: it is too much
            reason = " ".join(str(error).split())
            found = Trial(name, value, out / name, "FAIL", reason, {}, None, None, None)
        else:
            for checkpoint in manifest.checkpoints(out / name):
                manifest.drop_state(checkpoint)  # the run is over
            say(f"{name}: grading")
            found = judged(grader.grade(alias, folder, say), sweep, name, value, folder)
        say(f"{name}: {found.reason}")
        return found

    bounds = sweep.config.bounds
    # Of a swept learning rate the safe end is that bound.
    kept = trial("kept", sweep.kept(), None) if bounds.kept and sweep.config.sweep.key != "lr" else None
    gained = trial("gained", sweep.gained(), None) if bounds.gained else None
    trials: list[Trial] = []
    while True:
        points = [t.point for t in trials]
        value = next_value(sweep.axis, points, sweep.config.sweep.resolution)
        if value is None or len(trials) == sweep.config.points:
            break
        trials.append(trial(f"{sweep.config.sweep.key}-{value:g}", sweep.at(value), value))
    return Result(
        key=sweep.config.sweep.key,
        axis=sweep.axis,
        trials=tuple(trials),
        kept=kept,
        gained=gained,
        bracket=bracket(sweep.axis, points),
        contradictions=contradictions(sweep.axis, points),
        open=value is not None,
    )


def judged(judgement: Judgement, sweep: Sweep, name: str, value: float | None, folder: Path) -> Trial:
    """A judgement as a trial: what each required rule lost, and the target's score."""
    verdict = judgement.verdict
    losses: dict[str, Loss] = {}
    slack: dict[str, float] = {}
    for result in verdict.rules:
        if not result.rule.required or result.delta is None or result.interval is None or result.lower is None:
            continue
        low, high = -100 * result.interval.high, -100 * result.interval.low
        losses[result.rule.name] = Loss(-100 * result.delta, low, high)
        slack[result.rule.name] = result.lower + result.rule.margin
    before = after = None
    if sweep.config.target:
        from forgetbench.arms.score import Selection, cells_of, score

        found = score(
            cells_of(judgement.against["base"]),
            Selection("target", task_types=sweep.config.target, views=sweep.config.views),
        )
        before, after = found.base, found.candidate
    worst = min(slack, key=lambda rule: slack[rule]) if slack else None
    return Trial(name, value, folder, verdict.state, verdict.reason, losses, worst, after, before)
