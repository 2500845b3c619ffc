"""`forgetbench merge`: several checkpoints, or adapters of one base, made into one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from forgetbench import flow
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.cli.output import print_json, say
from forgetbench.errors import UsageError, combined
from forgetbench.merging.adapters import merge_adapters
from forgetbench.merging.folder import refuse
from forgetbench.merging.merge import merge as merge_weights
from forgetbench.merging.recipe import numbers, recipes
from forgetbench.merging.types import Merged
from forgetbench.workspace import Workspace


def merge(
    ws: Workspace,
    *,
    method: str,
    out: Path,
    adapters: bool = False,
    weights: str | None = None,
    alphas: str | None = None,
    density: float | None = None,
    lam: float | None = None,
    seed: int | None = None,
    rank: int | None = None,
    like: str | None = None,
    dtype: str | None = None,
    as_json: bool = False,
) -> None:
    """Merge the models chosen, in their order, into the folder `out`; several alphas give a folder each inside it."""
    wanted = recipes(
        method,
        len(ws.chosen),
        adapters=adapters,
        weights=numbers(weights, "--weights"),
        alphas=numbers(alphas, "--alphas"),
        density=density,
        lam=lam,
        seed=seed,
        rank=rank,
    )
    at = _like(ws, like)
    if adapters and (dtype is not None or like is not None):
        raise UsageError("--dtype" if dtype is not None else "--like", "has no part in --adapters", "leave it out")
    places = {r: out if len(wanted) == 1 else out / f"alpha-{r.alpha:g}" for r in wanted}
    _free(list(places.values()))
    points = [flow.checkpoint(ws, alias) for alias in ws.chosen]
    found = []
    for recipe, place in places.items():
        say(f"merging {' and '.join(ws.chosen)} by {method} into {place}")
        if adapters:
            merged = merge_adapters(points, recipe, place)
        else:
            merged = merge_weights(points, recipe, place, like=at, dtype=dtype, tell=_tell)
        found.append(merged)
    if as_json:
        print_json({"merged": [_told(m) for m in found]})
        return
    _show(ws, points, found, adapters=adapters)


def _like(ws: Workspace, like: str | None) -> int:
    """By default the last model: a fine-tune brings the chat template, which the base may lack."""
    if like is None:
        return len(ws.chosen) - 1
    if like not in ws.chosen:
        raise UsageError("--like", f"'{like}' is none of the models merged", f"use one of {', '.join(ws.chosen)}")
    return ws.chosen.index(like)


def _free(places: list[Path]) -> None:
    """All folders of a sweep, before the first is written."""
    errors = []
    for place in places:
        try:
            refuse(place)
        except UsageError as error:
            errors.append(error)
    if errors:
        raise combined(errors)


def _tell(done: int, total: int, name: str) -> None:
    if done % 32 == 0 and total > 64:
        say(f"{done} of {total} tensors: {name}")


def _told(merged: Merged) -> dict[str, Any]:
    return {
        "path": str(merged.folder),
        "alpha": merged.recipe.alpha,
        "tensors": merged.tensors,
        "copied": merged.copied,
        "bytes": merged.size,
        "notes": list(merged.notes),
    }


def _show(ws: Workspace, points: list[Checkpoint], found: list[Merged], *, adapters: bool) -> None:
    for merged in found:
        print(f"wrote {merged.folder}: {merged.tensors} tensors, {merged.size / 1e6:,.1f} MB")
    for note in dict.fromkeys(note for merged in found for note in merged.notes):
        print(note)
    # An adapter is put on the first model named, which has to be what it was trained on.
    first = points[0].spec.path if adapters else ws.chosen[0]
    print(shlex.join(["forgetbench", "compare", first, *(str(m.folder) for m in found)]))
