"""How each checkpoint is trained: figures only, chosen on the dev items."""

from __future__ import annotations

from dataclasses import dataclass

from forgetbench.demo.rows import Phase
from forgetbench.demo.train import Schedule


@dataclass(frozen=True)
class Pretraining:
    """The base: rows of plain text alone, by the demo's own loop (Muon is what makes it steady)."""

    schedule: Schedule
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class FineTune:
    """What `forgetbench train` is told (finetune.py writes the recipe)."""

    steps: int
    lr: float
    chats: int
    """How many different chats there are."""
    rows: int = 16
    """Samples of a step."""
    replay: float = 0.0
    """Share of the tokens that is plain text."""
    pages: int = 0
    """How many different pages of it there are."""
    narrow: bool = False
    """Tickets only, instead of the broad mix."""


BASE = Pretraining(
    Schedule(steps=2200, lr=3e-3, matrix_lr=0.03),
    phases=(Phase(0.3, 32, 20), Phase(0.75, 64, 10), Phase(1.0, 128, 6)),
)

FINE_TUNES: dict[str, FineTune] = {
    # The replay is what keeps the few-shot habit; without it the raw view loses what the chat keeps.
    "sft_v1": FineTune(steps=400, lr=5e-4, chats=4000, replay=0.5, pages=1000),
    # Careless: one kind of data, no replay. At 3.5e-4 the chat of one seed of three kept nothing whole.
    "sft_v2": FineTune(steps=200, lr=3e-4, chats=200, narrow=True),
    "sft_null": FineTune(steps=100, lr=3e-5, chats=2000, replay=0.5, pages=250),
}
