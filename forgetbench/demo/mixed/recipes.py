"""How the two checkpoints of the mixed world are trained: figures only."""

from __future__ import annotations

from dataclasses import dataclass

from forgetbench.demo.train import Schedule


@dataclass(frozen=True)
class MixedRecipe:
    schedule: Schedule
    rows: int = 48
    """Chats a step."""
    raw: float = 0.3
    """Share of the steps that are plain pages."""
    page_rows: int = 6
    page_length: int = 96


RECIPES: dict[str, MixedRecipe] = {
    "mixed_base": MixedRecipe(Schedule(steps=460, lr=1e-3, matrix_lr=0.01, weight_decay=0.0)),
    "mixed_sft": MixedRecipe(Schedule(steps=640, lr=5e-4, matrix_lr=0.006, weight_decay=0.0)),
}
