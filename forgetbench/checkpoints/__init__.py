"""Models under test: resolve what the user wrote, fingerprint it, render conversations with its template."""

from __future__ import annotations

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.resolve import resolve
from forgetbench.checkpoints.spec import ModelSpec

__all__ = ["Checkpoint", "ModelSpec", "resolve"]
