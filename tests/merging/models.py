"""Small checkpoints for the tests of merging, as `resolve` sees them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.resolve import resolve
from forgetbench.checkpoints.spec import ModelSpec
from tests.drift import made


def tuned(seed: int, size: float = 0.1, **options: Any) -> dict[str, torch.Tensor]:
    """The tensors of `made.tensors()` moved a little, another way for each seed."""
    rng = torch.Generator().manual_seed(1000 + seed)
    return {n: t + size * torch.randn(t.shape, generator=rng) for n, t in made.tensors(**options).items()}


def point(folder: Path, **spec: Any) -> Checkpoint:
    return resolve(ModelSpec(alias=spec.pop("alias", folder.name), path=str(folder), **spec), folder.parent / "cache")


def save(folder: Path, values: Mapping[str, torch.Tensor], **options: Any) -> Checkpoint:
    made.save(folder, values, **options)
    return point(folder)


def trio(tmp_path: Path, dtype: torch.dtype = torch.float32) -> list[Checkpoint]:
    """base, one and two: a base and two fine-tunes of it."""
    sets = {"base": made.tensors(), "one": tuned(1), "two": tuned(2)}
    return [save(tmp_path / n, {k: v.to(dtype) for k, v in t.items()}) for n, t in sets.items()]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def bits(folder: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    return {
        n: (t.dtype, tuple(t.shape), t.contiguous().view(torch.uint8).numpy().tobytes())
        if t.dim()
        else (t.dtype, (), bytes(str(t.item()), "ascii"))
        for n, t in tensors(folder).items()
    }


def edited(point_: Checkpoint, folder: Path) -> Path:
    shutil.copytree(point_.folder, folder)
    return folder
