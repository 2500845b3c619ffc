"""What is merged, how, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Method = Literal["linear", "slerp", "ties", "dare", "dare-ties", "wise-ft"]
AdapterMethod = Literal["linear", "cat", "svd", "ties", "dare", "dare-ties"]

Tell = Callable[[int, int, str], None]
"""Called before each tensor with (done, total, name)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method with its parameters, checked: every field that the method has no use for is None."""

    method: Method | AdapterMethod
    weights: tuple[float, ...] | None = None
    """One share for each model that is weighed: all of them, or all but the base (ties, dare, dare-ties)."""
    alpha: float | None = None
    """Way from the first model (0) to the second (1): slerp, wise-ft."""
    density: float | None = None
    """Share of a task vector's entries that is kept, in (0, 1]: ties, dare, dare-ties."""
    lam: float | None = None
    """Factor of the merged task vector: ties, dare, dare-ties."""
    seed: int | None = None
    """Of the entries dropped at random: dare, dare-ties."""
    rank: int | None = None
    """Of the merged adapter (adapters by svd); None: the largest among them."""

    @property
    def picks(self) -> int | None:
        """The one model that the result is, bit for bit: where all others weigh nothing."""
        if self.alpha is not None:
            return {0.0: 0, 1.0: 1}.get(self.alpha)
        if self.lam is not None:
            return 0 if self.lam == 0.0 else None
        heavy = [i for i, w in enumerate(self.weights or ()) if w != 0.0]
        return heavy[0] if len(heavy) == 1 else None


@dataclass(frozen=True, slots=True)
class Merged:
    """A finished folder."""

    folder: Path
    recipe: Recipe
    tensors: int
    copied: int
    """Tensors taken over byte by byte."""
    size: int
    """Bytes of all tensors."""
    notes: tuple[str, ...]
    """What a reader has to know: rows that one side only has, settings that differ."""
