"""Merge checkpoints into a new one, tensor by tensor: no model is loaded, no tensor is held whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.drift.weights import Weights, side_of
from forgetbench.errors import UsageError
from forgetbench.merging.align import Plan, align
from forgetbench.merging.combine import combined, slices
from forgetbench.merging.folder import TOLD, copy_beside, leftovers, versions, whole, write_json
from forgetbench.merging.stream import TORCH, encode, layout, opened, raw, same_bytes, write_index
from forgetbench.merging.types import Merged, Recipe, Tell

DTYPES = {torch: stored for stored, torch in TORCH.items()}
"""What may be named as the type of the result -> safetensors' name."""
FORMAT = 1
"""Of merge.json."""
_SPARE = 64_000_000
"""Bytes for tokenizer, config and index."""


def merge(
    points: Sequence[Checkpoint],
    recipe: Recipe,
    out: Path,
    *,
    like: int = -1,
    dtype: str | None = None,
    tell: Tell | None = None,
) -> Merged:
    """Write the merged checkpoint to `out`, a folder that transformers loads.

    Args:
        points: The checkpoints in order: the base of task vectors, or alpha 0, comes first. Adapters are added.
        recipe: From `recipes`, for as many models.
        like: Index of the checkpoint that config, tokenizer, template and the rows beyond the shared vocabulary come
            from.
        dtype: float32, bfloat16, float16 or float64 for all weights; None: each as `like` has it.
        tell: Called before each tensor.

    Returns: what was written. Raises UsageError for checkpoints that do not fit together and for a disk that does not
    take the result; nothing is left then.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError("--dtype", f"'{dtype}' is unknown", f"use one of {', '.join(sorted(DTYPES))}")
    like %= len(points)
    sides = [Weights(side_of(point)) for point in points]
    plans, notes = align(sides, like, None if dtype is None else DTYPES[dtype])
    notes += tuple(
        f"{left} is left of a merge that did not end: remove it if none is running." for left in leftovers(out)
    )
    size = sum(plan.slot.size for plan in plans)
    done = copied = 0
    with whole(out, size + _SPARE) as work:
        copy_beside(work, points[like], dtype)
        shards = layout([plan.slot for plan in plans])
        by_name = {plan.slot.name: plan for plan in plans}
        for shard in shards:
            with opened(work, shard) as file:
                for slot in shard.slots:
                    if tell is not None:
                        tell(done, len(plans), slot.name)
                    taken = _taken(by_name[slot.name], sides, recipe, like)
                    for part in _bytes(by_name[slot.name], sides, recipe, like, taken):
                        file.write(part)
                    done, copied = done + 1, copied + (taken is not None)
        write_index(work, shards)
        merged = Merged(out, recipe, len(plans), copied, size, notes)
        write_json(work / TOLD, document(merged, points, like, dtype))
    return merged


def _taken(plan: Plan, sides: Sequence[Weights], recipe: Recipe, like: int) -> int | None:
    """The model whose bytes the tensor is; None where there is something to compute."""
    name = plan.slot.name
    if not plan.merged:
        if not same_bytes([side.entry(name) for side in sides]):
            file = sides[like].entry(name).file
            raise UsageError(
                f"{file}: {name}",
                f"is of type {sides[like].entry(name).dtype} and not the same in all models",
                "merge weights of 16 to 64 bits",
            )
        return like
    pick = recipe.picks
    if pick is None or sides[pick].change(name) is not None or sides[pick].entry(name).dtype != plan.slot.dtype:
        return None
    return pick


def _bytes(
    plan: Plan, sides: Sequence[Weights], recipe: Recipe, like: int, taken: int | None
) -> Iterator[bytes | memoryview]:
    name, dtype = plan.slot.name, plan.slot.dtype
    if taken is not None:
        yield from raw(sides[taken].entry(name), 0, plan.shared)
    else:
        for values in combined(name, plan.shared, sides, recipe):
            yield encode(values, dtype, name)
    entry = sides[like].entry(name)
    if plan.shared < entry.rows:
        if entry.dtype == dtype and sides[like].change(name) is None:
            yield from raw(entry, plan.shared, entry.rows)
        else:
            for (rest,) in slices(name, plan.shared, entry.rows, sides[like : like + 1]):
                yield encode(rest, dtype, name)


def document(
    merged: Merged, points: Sequence[Checkpoint], like: int, dtype: str | None, *, adapters: bool = False
) -> dict[str, Any]:
    """What merge.json says: enough to make the folder again, and to see whether the inputs are still the same."""
    return {
        "format": FORMAT,
        "kind": "adapters" if adapters else "weights",
        "method": merged.recipe.method,
        "parameters": {k: v for k, v in asdict(merged.recipe).items() if v is not None and k not in ("method", "seed")},
        "seed": merged.recipe.seed,
        "like": points[like].alias,
        "dtype": dtype or "as stored",
        "models": [
            {"model": p.alias, "path": p.spec.path, "adapter": p.spec.adapter, "digest": p.digest, "parts": {**p.parts}}
            for p in points
        ],
        "tensors": merged.tensors,
        "copied": merged.copied,
        "bytes": merged.size,
        "notes": list(merged.notes),
        "versions": versions(),
    }
