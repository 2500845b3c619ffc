"""sweep.yaml: which number of a recipe is moved, between which bounds, and what it may cost.

recipe: recipe.yaml                # a file relative to this one, or the recipe itself, written out
sweep: {key: lr, low: 1e-6, high: 1e-3}
suite: suite.yaml                  # default: as forgetbench.yaml says
policy: policy.yaml
margin: 5                          # points, in place of the margins of the policy's required rules
target: [support/route]            # shown beside each point
points: 8
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from forgetbench.config_fields import Count, Points, Strict, Switch, TaskTypePath, ViewName
from forgetbench.errors import UsageError
from forgetbench.sweeping.bisect import Axis, End, Scale
from forgetbench.training.recipe import Number, Part, Positive, Recipe, Text, load_recipe
from forgetbench.yamlio import load_yaml, validate

LEAST_LOST_AT_HIGH = ("replay.share", "kl.weight", "ewc.weight")
"""Keys of which more protects; of every other number more is taken to lose more."""
LOG = ("lr", "kl.weight", "ewc.weight", "weight_decay")
"""Keys whose scale is logarithmic where nothing else is said."""
_TO_ZERO = 1e-3
"""How much of its learning rate the run at "almost no learning" has."""
_MANY = 4.0
"""How much longer the run on the target alone is."""


class Swept(Strict):
    """The number that is moved."""

    key: Text
    """Of the recipe, dots between levels: lr, replay.share, lora.r."""
    low: Number
    high: Number
    scale: Scale | None = None
    """Default: log for learning rates and penalties, else linear."""
    safe: End | None = None
    """The end where least is lost. Default: high for shares of replay and penalties, else low."""
    resolution: Part = 0.05
    """The search ends where its bracket is not wider than this share of the axis."""

    @model_validator(mode="after")
    def _ordered(self) -> Swept:
        if not self.low < self.high:
            raise ValueError("`low` must be below `high`")
        if self.at_scale == "log" and self.low <= 0:
            raise ValueError("a log scale starts above 0; raise `low`, or write `scale: linear`")
        return self

    @property
    def at_scale(self) -> Scale:
        return self.scale or ("log" if self.key in LOG else "linear")

    def axis(self, *, whole: bool) -> Axis:
        safe: End = "high" if self.key in LEAST_LOST_AT_HIGH else "low"
        return Axis(self.low, self.high, self.at_scale, self.safe or safe, whole)


class Bounds(Strict):
    """Two more runs that say what could be had at best."""

    kept: Switch = True
    """The recipe at a thousandth of its learning rate: the most that can be kept, and what noise alone costs."""
    gained: Switch = True
    """The target's data alone, without replay or penalties, for `times` as long: the most that can be gained."""
    times: Positive = _MANY


class SweepConfig(Strict):
    """sweep.yaml."""

    recipe: Text | dict[str, Any]
    sweep: Swept
    suite: Text | None = None
    policy: Text | None = None
    margin: Points | None = None
    target: tuple[TaskTypePath, ...] = ()
    views: Annotated[tuple[ViewName, ...], Field(min_length=1)] = ("chat",)
    """Where the target's score is read; the policy's rules name their own views."""
    points: Annotated[Count, Field(ge=2)] = 8
    """Trainings of the search; the bounds come on top."""
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True)
class Sweep:
    """A checked sweep: its config, its recipe, and where the recipe's paths start."""

    config: SweepConfig
    recipe: Recipe
    root: Path
    axis: Axis
    file: Path

    def at(self, value: float) -> Recipe:
        """The recipe with the swept number set. Raises UsageError where it allows no such value."""
        return changed(self.recipe, self.config.sweep.key, value, str(self.file))

    def kept(self) -> Recipe:
        """Almost no learning."""
        return self.recipe.model_copy(update={"lr": self.recipe.lr * _TO_ZERO})

    def gained(self) -> Recipe:
        """Much of the target and nothing else: everything that holds the model back is left out."""
        raw = self.recipe.model_dump(exclude_unset=True, exclude=set(RESTRAINTS))
        times = self.config.bounds.times
        if self.recipe.steps is not None:
            raw["steps"] = max(1, round(self.recipe.steps * times))
        else:
            raw["epochs"] = (self.recipe.epochs or 1.0) * times
        return Recipe.model_validate(raw)


RESTRAINTS = ("replay", "kl", "ewc", "stm_threshold", "self_distillation", "retention", "stop")
"""Keys of a recipe that protect what the base knows, or end a run early."""


def load_sweep(file: Path) -> Sweep:
    """Read sweep.yaml and its recipe. Raises UsageError or ManyUsageErrors with file, line, key, value and cure."""
    data, lines = load_yaml(file, "sweep")
    config = validate(SweepConfig, data, file, lines)
    if isinstance(config.recipe, str):
        source = file.parent / config.recipe
        recipe, root = load_recipe(source), source.parent
    else:
        inline = _below(lines, "recipe")
        recipe, root = validate(Recipe, config.recipe, file, inline), file.parent
    where = f"{file}:{lines.nearest(('sweep', 'key'))}"
    key = config.sweep.key
    now = _value(recipe, key, where)
    whole = isinstance(now, int)
    for name, value in (("low", config.sweep.low), ("high", config.sweep.high)):
        if whole and value != round(value):
            at = f"{file}:{lines.nearest(('sweep', name))}"
            raise UsageError(at, f"`{name}` is {value:g}, and {key} is a whole number", "write a whole number")
    found = Sweep(config, recipe, root, config.sweep.axis(whole=whole), file)
    for name, value in (("low", config.sweep.low), ("high", config.sweep.high)):
        changed(recipe, key, value, f"{file}:{lines.nearest(('sweep', name))}")
    return found


def _below(lines: Any, key: str) -> Any:
    """The lines of the keys under `key`, as if it were a document of its own."""
    return type(lines)({path[1:]: line for path, line in lines.items() if path[:1] == (key,)})


def changed(recipe: Recipe, key: str, value: float, where: str) -> Recipe:
    """The recipe with one number changed, checked as a whole. Raises UsageError."""
    raw: dict[str, Any] = recipe.model_dump(exclude_unset=True)
    *path, last = key.split(".")
    inner = raw
    for step in path:
        inner[step] = dict(inner.get(step) or {})
        inner = inner[step]
    inner[last] = round(value) if isinstance(_value(recipe, key, where), int) else value
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(where, f"{key} = {value:g}: {problem}", "choose other bounds") from None


def _value(recipe: Recipe, key: str, where: str) -> int | float:
    """The number that the recipe has under a key. Raises UsageError for what is no number."""
    inner: Any = recipe
    for step in key.split("."):
        fields: Mapping[str, Any] = type(inner).model_fields if isinstance(inner, Strict) else {}
        if step not in fields:
            known = ", ".join(fields) or "nothing, since it is not set"
            raise UsageError(where, f"`{key}` is no key of the recipe: there is no '{step}'", f"known here: {known}")
        inner = getattr(inner, step)
    if isinstance(inner, bool) or not isinstance(inner, int | float):
        cure = "write it into the recipe" if inner is None else "name a number, such as lr or replay.share"
        raise UsageError(where, f"`{key}` is {inner!r} in the recipe, no number", cure)
    return inner
