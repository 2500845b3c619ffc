"""Where a tensor sits, and tensors taken together by layer and by kind."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from forgetbench.drift.types import Group, NewDirections, Place, TensorDrift

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in")
HEADS = ("lm_head", "embed_out", "output", "output_layer")
TASK_HEADS = ("score", "classifier")
"""From hidden states to something other than the vocabulary: their rows are no tokens."""
_NUMBER = re.compile(r"\d+")


def place_of(name: str) -> Place:
    """Stack, layer and kind by the first number in a name; later numbers (experts) do not part kinds."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if _NUMBER.fullmatch(part)), None)
    if at is None:
        return Place("", None, name.removesuffix(".weight"))
    kind = ".".join(part for part in parts[at + 1 :] if not _NUMBER.fullmatch(part)).removesuffix(".weight")
    return Place(".".join(parts[:at]), int(parts[at]), kind)


def is_embedding(name: str) -> bool:
    """Whether it is the token embedding, by the names that the architectures of transformers use."""
    place = place_of(name)
    return place.layer is None and name.endswith(".weight") and place.kind.split(".")[-1] in EMBEDDINGS


def is_head(name: str) -> bool:
    """Whether it is the matrix from hidden states to the vocabulary."""
    place = place_of(name)
    return place.layer is None and name.endswith(".weight") and place.kind.split(".")[-1] in HEADS


def ends_elsewhere(name: str) -> bool:
    """Whether it is the last matrix of a model that classifies: such a model reads nothing off its embedding."""
    place = place_of(name)
    return place.layer is None and name.endswith(".weight") and place.kind.split(".")[-1] in TASK_HEADS


def ties(config: Mapping[str, Any]) -> bool:
    """Whether a config.json makes the output head the embedding. A key that is absent means what transformers' class
    of that model_type has by default; a type that it does not know: no."""
    for told in (config, config.get("text_config") or {}):
        if told.get("tie_word_embeddings") is not None:
            return bool(told["tie_word_embeddings"])
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = config.get("model_type")
    return kind in CONFIG_MAPPING and bool(getattr(CONFIG_MAPPING[kind](), "tie_word_embeddings", False))


def in_order(names: Iterable[str]) -> list[str]:
    """Layers by number, not by letter: layer 2 before layer 10."""
    return sorted(names, key=lambda n: [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in n.split(".")])


def group(name: str, tensors: Sequence[TensorDrift], whole: float) -> Group:
    """Tensors as one; `whole`: |dW|_F^2 of all tensors of the checkpoint."""
    delta = math.fsum(t.delta_norm**2 for t in tensors)
    base = math.fsum(t.base_norm**2 for t in tensors)
    spectra = [t.spectrum for t in tensors if t.spectrum is not None]
    found = [t.directions for t in tensors if t.directions is not None]
    return Group(
        name=name,
        tensors=len(tensors),
        parameters=sum(t.parameters for t in tensors),
        relative=math.sqrt(delta / base) if base else (0.0 if not delta else None),
        share=delta / whole if whole else 0.0,
        spectral=max((s.spectral.value for s in spectra), default=None),
        stable_rank=median(s.stable_rank.value for s in spectra) if spectra else None,
        effective_rank=median(s.effective_rank.value for s in spectra) if spectra else None,
        directions=NewDirections(sum(d.new for d in found), sum(d.open for d in found), sum(d.asked for d in found))
        if found
        else None,
    )


def by_layer(tensors: Sequence[TensorDrift], whole: float) -> tuple[Group, ...]:
    """One group for each layer of each stack, in the order of the tensors."""
    parts: dict[tuple[str, int], list[TensorDrift]] = {}
    for t in tensors:
        if t.place.layer is not None:
            parts.setdefault((t.place.stack, t.place.layer), []).append(t)
    return tuple(group(f"{stack}.{layer}", members, whole) for (stack, layer), members in sorted(parts.items()))


def by_kind(tensors: Sequence[TensorDrift], whole: float) -> tuple[Group, ...]:
    """One group for each kind, the one that holds most of the change first."""
    parts: dict[str, list[TensorDrift]] = {}
    for t in tensors:
        parts.setdefault(t.place.kind, []).append(t)
    found = [group(kind, members, whole) for kind, members in parts.items()]
    return tuple(sorted(found, key=lambda g: (-g.share, g.name)))
