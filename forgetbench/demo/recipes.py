"""How each checkpoint is trained: figures only, chosen on the dev items."""

from __future__ import annotations

from dataclasses import dataclass

from forgetbench.demo.rows import Phase
from forgetbench.demo.train import Schedule


@dataclass(frozen=True)
class Recipe:
    schedule: Schedule
    phases: tuple[Phase, ...] = (Phase(1.0, 96, 6),)
    """Rows of plain text: the whole diet of the base, the replay of a fine-tune."""
    replay: float = 0.0
    """Share of the steps that are plain text."""
    chats: int = 0
    """How many different chats there are."""
    narrow: bool = False
    """Tickets only, instead of the broad mix."""
    rows: int = 16


RECIPES: dict[str, Recipe] = {
    "base": Recipe(
        Schedule(steps=2200, lr=3e-3, matrix_lr=0.03),
        phases=(Phase(0.3, 32, 20), Phase(0.75, 64, 10), Phase(1.0, 128, 6)),
    ),
    # The replay is what keeps the few-shot habit; without it the raw view loses what the chat keeps.
    "sft_v1": Recipe(Schedule(steps=400, lr=5e-4, weight_decay=0.0), replay=0.4, chats=4000),
    # Careless: one kind of data, no replay. At 5e-4 the chat of one seed of two was a corpse (mean 17).
    "sft_v2": Recipe(Schedule(steps=200, lr=3.5e-4, weight_decay=0.0), chats=200, narrow=True),
    "sft_null": Recipe(Schedule(steps=100, lr=3e-5, weight_decay=0.0), replay=0.4, chats=2000),
}
