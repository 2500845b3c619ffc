"""What `drift` finds, as plain data. Norms are of the weights themselves; shares are of 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["exact", "factors", "krylov"]
"""`exact`: every singular value of dW; `factors`: every one, from the small factors of LoRA; `krylov`: the largest
ones and a trace estimate (`lowrank`)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A figure and the interval that it lies in; both ends equal where it is exact."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values sigma of a change dW, as three figures."""

    spectral: Bounds
    """|dW|_2, the largest singular value."""
    stable_rank: Bounds
    """|dW|_F^2 / |dW|_2^2."""
    effective_rank: Bounds
    """exp(H(sigma / sum sigma)), H in nats."""
    captured: float
    """Share of |dW|_F^2 in the singular directions that were found; the rest is known as a sum only."""
    method: Method


@dataclass(frozen=True, slots=True)
class NewDirections:
    """How many of the candidate's leading left singular vectors the base has nothing like ("intruders")."""

    new: int
    open: int
    """Not decided: the vector is not resolved, or may resemble a base vector that was not computed."""
    asked: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor sits: `model.layers.3.mlp.down_proj.weight` is (`model.layers`, 3, `mlp.down_proj`)."""

    stack: str
    layer: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class TensorDrift:
    name: str
    place: Place
    shape: tuple[int, ...]
    """What was compared: fewer rows than the tensor has where the vocabularies differ in size."""
    dtypes: tuple[str, str]
    """Of base and candidate, as safetensors names them."""
    base_norm: float
    """|W|_F of the base."""
    delta_norm: float
    """|dW|_F."""
    spectrum: Spectrum | None
    """None for what is no matrix (norms, biases, stacks of experts) and for a tensor that did not change."""
    directions: NewDirections | None = None

    @property
    def parameters(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def relative(self) -> float | None:
        """|dW|_F / |W|_F; None where the base's tensor is all zeros and the candidate's is not."""
        if self.base_norm == 0.0:
            return 0.0 if self.delta_norm == 0.0 else None
        return self.delta_norm / self.base_norm


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors taken together: a layer, or a kind of matrix over all layers."""

    name: str
    tensors: int
    parameters: int
    relative: float | None
    """|dW|_F / |W|_F over all of them."""
    share: float
    """Of the whole |dW|_F^2."""
    spectral: float | None
    """The largest |dW|_2 among its matrices."""
    stable_rank: float | None
    """Median over its changed matrices."""
    effective_rank: float | None
    """Median over its changed matrices."""
    directions: NewDirections | None
    """Summed over its matrices."""


@dataclass(frozen=True, slots=True)
class TokenMove:
    id: int
    text: str
    moved: float
    """|dE| of its row."""
    relative: float | None
    """|dE| / |E| of its row; None where the base's row is all zeros."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """The rows of special and added tokens of one embedding matrix against all other rows."""

    tensor: str
    special: int
    others: int
    special_moved: float
    """Root mean square of |dE| over rows."""
    others_moved: float
    special_relative: float | None
    """|dE|_F / |E|_F over those rows."""
    others_relative: float | None
    tokens: tuple[TokenMove, ...]
    """Those that moved farthest, first."""

    @property
    def ratio(self) -> float | None:
        """How many times as far a special token moved as another; None where no other token moved."""
        return self.special_moved / self.others_moved if self.others_moved else None


@dataclass(frozen=True, slots=True)
class Skipped:
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Drift:
    base: str
    candidate: str
    total: Group
    layers: tuple[Group, ...]
    kinds: tuple[Group, ...]
    tensors: tuple[TensorDrift, ...]
    tokens: tuple[TokenRows, ...]
    only_base: tuple[str, ...]
    only_candidate: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    reading: tuple[str, ...]
    """What it comes to, in sentences."""
