"""All preflight checks, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.training.preflight import ends, layout, mask, method, mixture, specials
from forgetbench.training.preflight.inputs import gather
from forgetbench.training.preflight.types import Finding, Inputs, Preflight
from forgetbench.training.recipe import load_recipe

CHECKS: tuple[Callable[[Inputs], Finding], ...] = (
    mixture.amounts,
    layout.padding,
    layout.packing_isolation,
    ends.begin,
    ends.end,
    mask.loss_mask,
    specials.embedding,
    specials.special_tokens,
    specials.token_texts,
    method.trained_modules,
    method.learning_rate,
    mixture.replay,
    mixture.repetitions,
    mixture.held_out,
    mixture.retention,
)


def preflight(
    file: Path, base: str, config: Path | None = None, *, data_dir: Path | None = None, offline: bool = False
) -> Preflight:
    """Look at the recipe in `file` for the weights in the folder `base`; nothing is trained and nothing written.

    Mistakes that keep the data or the base from being read are findings too (state fail, each with its place), and
    then nothing else can be looked at. Raises UsageError, ManyUsageErrors for a recipe that is none.
    """
    recipe = load_recipe(file)
    try:
        inputs = gather(recipe, file.resolve().parent, base, config, data_dir=data_dir, offline=offline)
    except ManyUsageErrors as errors:
        return Preflight(str(file), tuple(_unread(e) for e in errors.errors))
    except UsageError as error:
        return Preflight(str(file), (_unread(error),))
    return Preflight(str(file), tuple(check(inputs) for check in CHECKS), mask.shown(inputs))


def _unread(error: UsageError) -> Finding:
    return Finding("reading", "fail", f"{error.where}: {error.problem}", error.cure)
