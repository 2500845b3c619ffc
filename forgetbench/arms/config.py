"""experiment.yaml: arms x seeds from one base, as a user writes it, validated before anything heavy loads.

Unknown keys are errors; all mistakes of the file and of every arm's recipe are shown at once, with file, line and key.
Paths are relative to the experiment's file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from forgetbench.arms.score import Selection
from forgetbench.config_fields import Count, Name, Strict, Switch, TaskTypePath, ViewName
from forgetbench.errors import ManyUsageErrors, UsageError, combined
from forgetbench.merging.recipe import recipes as merge_recipes
from forgetbench.merging.types import Recipe as MergeRecipe
from forgetbench.training.recipe import NotNegative, Number, Positive, Recipe, Text
from forgetbench.yamlio import _Lines, load_yaml, validate

OURS = {
    "base": "`base:` of the experiment is the base of every arm",
    "seed": "`seeds:` of the experiment lists them",
    "save_every": "`checkpoints:` of the experiment says how many are kept",
    "keep": "`checkpoints:` of the experiment says how many are kept",
    "epochs": "write `steps`: checkpoints are graded at even shares of them",
    "retention": "every kept checkpoint is graded anyway; leave it out",
    "stop.held_out": "every kept checkpoint is graded anyway, and all arms train to the end; leave it out",
}
"""Keys of a recipe that an experiment decides -> the cure."""


def _several(value: Any) -> Any:
    return [value] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value


def _some(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value or len(set(value)) != len(value):
        raise ValueError("name at least one, each once")
    return value


Views = Annotated[tuple[ViewName, ...], BeforeValidator(_several), AfterValidator(_some)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_several), AfterValidator(_some)]
Types = Annotated[tuple[TaskTypePath, ...], BeforeValidator(_several), AfterValidator(_some)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**32, strict=True)], ...], BeforeValidator(_several), AfterValidator(_some)
]
PerCent = Annotated[Number, Field(gt=0, le=100)]


class TargetConfig(Strict):
    """What the arms are trained for."""

    task_types: Types
    view: Views = ("ability",)


class GeneralConfig(Strict):
    """What they must not lose. By default every task_type that is not the target's."""

    task_types: Types | None = None
    view: Views = ("ability",)


class MergeConfig(Strict):
    """A merge of the base with trained arms of the same seed; the base comes first."""

    method: Text
    of: Names
    weights: tuple[NotNegative, ...] | None = None
    alphas: Annotated[tuple[Number, ...], BeforeValidator(_several)] | None = None
    density: Positive | None = None
    lam: NotNegative | None = Field(default=None, alias="lambda")

    def recipes(self, seed: int) -> tuple[MergeRecipe, ...]:
        """One for each alpha, ascending. What is drawn at random is drawn with the arm's seed. Raises UsageError."""
        found = merge_recipes(
            self.method,
            1 + len(self.of),
            weights=self.weights,
            alphas=None if self.alphas is None else sorted(self.alphas),
            density=self.density,
            lam=self.lam,
            seed=seed if self.method in ("dare", "dare-ties") else None,
        )
        return tuple(sorted(found, key=lambda r: r.alpha or 0.0))


class ArmConfig(Strict):
    """One way to train: exactly one of the three."""

    train: dict[str, Any] | None = None
    """Keys of a recipe, over `defaults`; a key replaces the whole value of the defaults."""
    merge: MergeConfig | None = None
    noop: Switch = False
    """The base itself, asked once more: what the comparison shows where nothing was changed."""

    @model_validator(mode="after")
    def _one(self) -> ArmConfig:
        if (self.train is not None) + (self.merge is not None) + self.noop != 1:
            raise ValueError("give one of `train`, `merge`, `noop: true`")
        return self


class Experiment(Strict):
    """experiment.yaml."""

    base: Text
    """A folder, a hub id, or the alias of a model in forgetbench.yaml."""
    suite: Text | None = None
    """As `compare` takes it. None, as of `policy`: that of forgetbench.yaml."""
    policy: Text | None = None
    limit: Count | None = None
    """At most so many items of each task: for trying an experiment out."""
    target: TargetConfig
    general: GeneralConfig = GeneralConfig()
    seeds: Seeds = (0, 1, 2)
    checkpoints: Count = 5
    """How many along each run are graded, the last one included."""
    at: PerCent | Literal["best", "common"] = "best"
    """The target score at which arms are compared: in per cent; `best`: nine tenths of what the best arm gains in each
    of its seeds; `common`: the highest that every arm reaches in each of its seeds."""
    interpolate: Switch = False
    """Read the general score at exactly that target off the line between two checkpoints."""
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Keys of a recipe that arms share."""
    arms: dict[Name, ArmConfig]

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        if not any(arm.train is not None for arm in self.arms.values()):
            raise ValueError("name at least one arm with `train`")
        return self

    @property
    def target_items(self) -> Selection:
        return Selection("target", self.target.task_types, self.target.view)

    @property
    def general_items(self) -> Selection:
        if self.general.task_types is None:
            return Selection("general", (), self.general.view, without=self.target.task_types)
        return Selection("general", self.general.task_types, self.general.view)


@dataclass(frozen=True)
class Plan:
    """An experiment with every arm resolved."""

    file: Path
    experiment: Experiment
    recipes: Mapping[str, Recipe]
    """By trained arm, of the first seed."""
    merges: Mapping[str, MergeConfig]
    noops: tuple[str, ...]

    @property
    def root(self) -> Path:
        """Where relative paths start."""
        return self.file.parent

    def recipe(self, arm: str, seed: int) -> Recipe:
        return self.recipes[arm].model_copy(update={"seed": seed})

    def steps(self, arm: str) -> list[int]:
        """Steps of a trained arm whose checkpoints are graded, ascending; the last one is the end of the run."""
        recipe = self.recipes[arm]
        assert recipe.steps is not None
        inner = range(recipe.save_every, recipe.steps, recipe.save_every)
        return [*list(inner)[: self.experiment.checkpoints - 1], recipe.steps]


def load_experiment(file: Path) -> Plan:
    """Read experiment.yaml. Raises UsageError, or ManyUsageErrors with all mistakes."""
    data, lines = load_yaml(file, "experiment")
    experiment = validate(Experiment, data, file, lines)
    errors: dict[str, UsageError] = {}

    def note(found: UsageError | ManyUsageErrors) -> None:
        for one in found.errors if isinstance(found, ManyUsageErrors) else [found]:
            errors.setdefault(str(one), one)

    recipes: dict[str, Recipe] = {}
    merges: dict[str, MergeConfig] = {}
    for name, arm in experiment.arms.items():
        try:
            if arm.train is not None:
                recipes[name] = _recipe(experiment, name, arm.train, file, lines)
            elif arm.merge is not None:
                merges[name] = _merge(experiment, name, arm.merge, f"{file}:{lines.nearest(('arms', name, 'merge'))}")
        except (UsageError, ManyUsageErrors) as error:
            note(error)
    if errors:
        raise combined(list(errors.values()))
    noops = tuple(name for name, arm in experiment.arms.items() if arm.noop)
    return Plan(file, experiment, recipes, merges, noops)


def _recipe(experiment: Experiment, name: str, own: Mapping[str, Any], file: Path, lines: _Lines) -> Recipe:
    """The arm's recipe: its own keys over the defaults, the experiment's in place of those that it decides."""
    sections: tuple[tuple[tuple[str, ...], Mapping[str, Any]], ...] = (
        (("defaults",), experiment.defaults),
        (("arms", name, "train"), own),
    )
    errors = [
        UsageError(
            f"{file}:{lines.nearest((*where, *key.split('.')))}",
            f"`{'.'.join(where)}.{key}` is not the arm's to say",
            cure,
        )
        for where, section in sections
        for key, cure in OURS.items()
        if _has(section, key)
    ]
    wanted = {k: v for k, v in {**experiment.defaults, **own}.items() if k not in OURS}
    if wanted.get("steps") is None and not any("epochs" in section for _, section in sections):
        where = f"{file}:{lines.nearest(('arms', name))}"
        errors.append(UsageError(where, f"arm '{name}' has no `steps`", "write them there or in `defaults`"))
    if errors:
        raise combined(errors)
    steps = wanted["steps"]
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    # To the nearest: rounded down, 5 checkpoints of 9 steps would leave more than half of the run to the last stretch.
    every = max(1, round(steps / experiment.checkpoints)) if whole else 1
    keep = steps // every + 1 if isinstance(steps, int) and steps > 0 else 1
    told = {"base": experiment.base, "seed": experiment.seeds[0], "save_every": every, "keep": keep}
    found = validate(Recipe, {**wanted, **told}, file, _lines_of(name, own, lines))
    _files_there(name, found, file, lines)
    return found


def _has(section: Any, key: str) -> bool:
    """Whether a key (dots between levels) is set; None sets nothing below the first level."""
    first, _, rest = key.partition(".")
    if not isinstance(section, Mapping) or first not in section:
        return False
    return not rest or (_has(section[first], rest) and section[first][rest] is not None)


def _lines_of(name: str, own: Mapping[str, Any], lines: _Lines) -> _Lines:
    """Lines of a recipe's keys: the arm's own, else those of the defaults."""
    found = type(lines)()
    found[()] = lines.nearest(("arms", name))
    for path, line in lines.items():
        if len(path) > 1 and path[0] == "defaults" and path[1] not in own:
            found[path[1:]] = line
        elif len(path) > 3 and path[:3] == ("arms", name, "train"):
            found[path[3:]] = line
    return found


def _files_there(name: str, recipe: Recipe, file: Path, lines: _Lines) -> None:
    """Every data file of an arm is there, before any arm is trained."""
    replayed: Sequence[Any] = recipe.replay.files if recipe.replay else ()
    missing = [d.path for d in (*recipe.data, *recipe.held_out, *replayed) if not (file.parent / d.path).is_file()]
    if missing:
        where = f"{file}:{lines.nearest(('arms', name))}"
        raise combined([UsageError(where, f"arm '{name}': there is no file {p}", "check the path") for p in missing])


def _merge(experiment: Experiment, name: str, merge: MergeConfig, where: str) -> MergeConfig:
    trained = [n for n, arm in experiment.arms.items() if arm.train is not None]
    strange = [n for n in merge.of if n not in trained]
    if strange:
        raise UsageError(
            where, f"arm '{name}' merges '{strange[0]}', which is no trained arm", f"use some of {', '.join(trained)}"
        )
    try:
        merge.recipes(experiment.seeds[0])
    except UsageError as error:
        problem = f"arm '{name}': {error.where.removeprefix('--')} {error.problem}"
        raise UsageError(where, problem, error.cure) from None
    return merge
