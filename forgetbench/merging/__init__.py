"""Merging of checkpoints: full weights tensor by tensor, LoRA adapters through peft."""

from __future__ import annotations

from forgetbench.merging.merge import merge
from forgetbench.merging.types import Merged, Recipe

__all__ = ["Merged", "Recipe", "merge"]
