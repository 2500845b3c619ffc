"""Which GPUs there are, told without torch, and which checkpoints may go to them side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint

AUTO = "auto"
VARIABLE = "CUDA_VISIBLE_DEVICES"
_NAME = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")
_SPREADS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def visible(environment: Mapping[str, str] = os.environ, folder: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; empty where there is no driver."""
    count = sum(re.fullmatch(r"nvidia\d+", p.name) is not None for p in folder.glob("nvidia*"))
    named = environment.get(VARIABLE)
    if named is None or not count:
        return [str(i) for i in range(count)]
    found: list[str] = []
    for name in (part.strip() for part in named.split(",")):
        if not _NAME.fullmatch(name):
            break  # as CUDA does: what follows a name that is none is not seen
        found.append(name)
    return found


def parse(value: str) -> list[str] | None:
    """The devices that --devices names; None for `auto`. Raises UsageError."""
    if value == AUTO:
        return None
    names = [part.strip() for part in value.split(",")]
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong or len(set(names)) < len(names):
        problem = f"'{wrong[0]}' is no GPU" if wrong else f"'{value}' names a GPU twice"
        raise UsageError("--devices", problem, f"use auto, or names as {VARIABLE} takes them: 0,1")
    return names


def side_by_side(points: Sequence[Checkpoint], named: Sequence[str] | None) -> list[str]:
    """The devices to give one checkpoint (or group) each; fewer than two: all go in turn, in this process.

    Devices found by `auto` are used only for engines that compute on a GPU of this machine. A model that spans
    several devices, or that names its own, makes all go in turn, every device visible.
    """
    if any(_places_itself(p.spec.engine_args) for p in points):
        return []
    if named is not None:
        return list(named)
    if any(p.spec.engine not in ("transformers", "vllm") for p in points):
        return []
    return visible()


def _places_itself(engine_args: Mapping[str, object]) -> bool:
    if engine_args.get("device_map") is not None or engine_args.get("device", AUTO) not in (AUTO, "cuda", None):
        return True
    return any(engine_args.get(name) not in (None, 1) for name in _SPREADS)
