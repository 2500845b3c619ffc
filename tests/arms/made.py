"""Arms that were never trained: scores of items drawn from given chances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forgetbench.arms.frontier import Arm, Point
from forgetbench.arms.score import Cell, Selection

TARGET = Selection("target", ("support",), ("chat",))
GENERAL = Selection("general", (), ("chat", "ability"), without=("support",))
BASE = 0.9
Step = tuple[float, float]
"""Chance to be right on target and on general items."""


def cell(view: str, task_type: str, base: Sequence[float], candidate: Sequence[float], copies: int = 1) -> Cell:
    """`copies` neighbours share a cluster."""
    keys = tuple(f"{task_type}:{i:05d}#0" for i in range(len(base)))
    clusters = tuple(keys[i - i % copies] for i in range(len(base)))
    return Cell(view, task_type, keys, clusters, np.asarray(base, float), np.asarray(candidate, float))  # type: ignore[arg-type]


def point(rng: np.random.Generator, label: str, chances: Step, base: Mapping[str, np.ndarray], state: str) -> Point:
    cells = []
    for name, of_base in base.items():
        view, task_type = name.split(":")
        chance = chances[0] if task_type == "support/route" else chances[1]
        if task_type == "support/route":
            right = rng.random(of_base.size) < chance
        else:  # what the base knows is kept with this chance, and nothing is gained
            right = (of_base > 0) & (rng.random(of_base.size) < chance)
        cells.append(cell(view, task_type, of_base, right.astype(float), copies=2))
    return Point(label, tuple(cells), state)  # type: ignore[arg-type]


def arms(
    steps: Mapping[str, Sequence[Step]],
    *,
    seeds: int = 3,
    n: int = 60,
    wobble: float = 0.02,
    passes: Sequence[str] = (),
    noop: bool = True,
) -> tuple[Arm, ...]:
    """Arms by the chances of their checkpoints. The draws of an arm do not depend on the other arms."""
    rng = np.random.default_rng(1)
    names = ("chat:support/route", "chat:copy/word", "ability:copy/word", "chat:knowledge/capital")
    base = {m: (rng.random(n) < (0.05 if "support" in m else BASE)).astype(float) for m in names}
    made = []
    for name, path in steps.items():
        paths = []
        for seed in range(seeds):
            own = np.random.default_rng([seed, *name.encode()])
            shift = own.normal(0.0, wobble)
            state = "PASS" if name in passes else "FAIL"
            paths.append(
                tuple(
                    point(own, f"step {10 * (i + 1)}", (t, min(1.0, max(0.0, g + shift))), base, state)
                    for i, (t, g) in enumerate(path)
                )
            )
        made.append(Arm(name, tuple(paths)))
    if noop:
        same = tuple(cell(*m.split(":"), base[m], base[m], copies=2) for m in names)  # type: ignore[arg-type]
        made.append(Arm("noop", ((Point("base", same, "PASS"),),) * seeds, noop=True))
    return tuple(made)


USUAL: dict[str, Sequence[Step]] = {
    "full": [(0.5, 0.6), (0.9, 0.35), (0.98, 0.2)],
    "full at a tenth of the rate": [(0.05, 0.98), (0.1, 0.97), (0.15, 0.97)],
    "replay 20 %": [(0.4, 0.98), (0.85, 0.97), (0.97, 0.96)],
    "replay 5 %": [(0.45, 0.9), (0.88, 0.84), (0.97, 0.8)],
    "kl": [(0.3, 0.95), (0.8, 0.9), (0.93, 0.86)],
    "lora": [(0.1, 0.9), (0.4, 0.75), (0.6, 0.65)],
}
"""A picture like that of the demo's arms."""
