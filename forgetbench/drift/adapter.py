"""LoRA adapters as they are: dW = scaling * B A, kept as its two small factors.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; scaling is alpha / r, or
alpha / sqrt(r) with `use_rslora` (Kalajdzievski 2023). Names, patterns and layout: peft's save_pretrained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from forgetbench.checkpoints.files import read_json
from forgetbench.drift.groups import is_embedding, is_head, ties
from forgetbench.drift.shards import SIZES, Shards, open_shards
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

PREFIX = "base_model.model."
_MERGE = "merge it into its base (peft: merge_and_unload) and compare the merged checkpoint"
_FACTORS = {
    ".lora_A.weight": (".lora_B.weight", False),
    ".lora_embedding_A": (".lora_embedding_B", True),
}
"""Ending of A -> ending of B, and whether the product lies the other way round."""
_BEYOND = (
    *("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "trainable_token_indices", "lora_bias"),
    *("arrow_config", "kasa_config", "layer_replication", "monteclora_config"),
)
"""Settings whose change of the weights is not scaling * B A."""
_CONV1D_MODELS, _CONV1D = ("gpt2", "openai-gpt"), ("c_attn", "q_attn", "c_fc", "c_proj")
_ALTERING = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Beginnings of `init_lora_weights` that alter the base: B A is added to what is left of it, W - scaling * B0 A0 (for
LoftQ to a quantised W), so that scaling * B A is not the change (peft 0.21: tuners/lora/layer.py, `*_init`). peft can
save such an adapter as plain LoRA (`path_initial_model_for_weight_conversion`); it then says true."""
_KEEPING = ("gaussian", "eva", "orthogonal", "mica", "true", "false")
"""Those that only draw A and B."""


class LowRank(NamedTuple):
    """A change left @ right of a tensor (m, n), scaling included."""

    left: Floats
    """(m, r)"""
    right: Floats
    """(r, n)"""


@dataclass(frozen=True)
class Adapter:
    changes: Mapping[str, LowRank]
    """By the name of the tensor that is changed."""
    replaced: Mapping[str, str]
    """Tensors saved whole (`modules_to_save`, what lies below a resized head): name -> name in `shards`."""
    shards: Shards
    tying: bool = False
    """Whether a head that is the embedding is changed with it (`ensure_weight_tying`)."""


def open_adapter(folder: Path, names: Collection[str], config: Mapping[str, Any]) -> Adapter:
    """Read an adapter for a model whose tensors are `names`; `config`: the model's config.json.

    A LoRA on the output head of a model that takes it from the embedding has the head's name. Raises UsageError for a
    type other than LoRA, for variants that are no low-rank sum on the stored base, for factors that do not fit
    together, and for modules that the model does not have.
    """
    file = folder / "adapter_config.json"
    told = read_json(file, "save the adapter again")
    kind = str(told.get("peft_type", "")).upper()
    if kind != "LORA":
        raise UsageError(str(file), f"is of type {kind or 'unknown'}, not LORA", _MERGE)
    for setting in _BEYOND:
        if told.get(setting):
            raise UsageError(str(file), f"sets {setting}, whose change is not scaling * B A", _MERGE)
    _check_start(file, told.get("init_lora_weights", True))
    shards = open_shards(folder, "adapter_model")
    changes: dict[str, LowRank] = {}
    replaced: dict[str, str] = {}
    for key in sorted(shards.entries):
        if ".original_module." in key:  # beside a module of `modules_to_save`: what it was before
            continue
        if shards.entries[key].dtype not in SIZES:
            raise UsageError(f"{folder}: {key}", f"is of type {shards.entries[key].dtype}", _MERGE)
        ending = next((e for e in _FACTORS if key.endswith(e)), None)
        if ending is not None:
            module = key.removeprefix(PREFIX).removesuffix(ending)
            name = _head(f"{module}.weight", names, config) or _named(f"{module}.weight", names, folder)
            partner, turned = _FACTORS[ending]
            turned = turned or _lies_across(module, told, config)
            changes[name] = _low_rank(shards, folder, key, key.removesuffix(ending) + partner, module, told, turned)
        elif not key.endswith(tuple(partner for partner, _ in _FACTORS.values())):
            plain = key.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            head = is_head(plain) and not any(is_head(n) for n in names)
            replaced[plain if head else _named(plain, names, folder)] = key
    if not changes and not replaced:
        raise UsageError(str(folder), "changes nothing", "save the adapter again")
    return Adapter(changes, replaced, shards, bool(told.get("ensure_weight_tying")))


def scaling_of(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """What peft multiplies B A of a module by: its own alpha where a pattern names it, over r or sqrt(r)."""
    patterns = config.get("alpha_pattern") or {}
    alpha = config.get("lora_alpha", 8)
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def combined(added: LowRank | None, removed: LowRank | None) -> LowRank | None:
    """added - removed as one pair of factors; None where there is neither."""
    if added is None:
        return None if removed is None else LowRank(-removed.left, removed.right)
    if removed is None:
        return added
    if np.array_equal(added.left, removed.left) and np.array_equal(added.right, removed.right):
        return None
    return LowRank(
        np.concatenate([added.left, -removed.left], axis=1), np.concatenate([added.right, removed.right], axis=0)
    )


def _low_rank(
    shards: Shards, folder: Path, first: str, second: str, module: str, config: Mapping[str, Any], turned: bool
) -> LowRank:
    if second not in shards.entries:
        raise UsageError(f"{folder}: {first}", f"has no partner {second}", "save the adapter again")
    a, b = shards.read(first), shards.read(second)
    if len(shards.entries[first].shape) != 2 or b.shape[1] != a.shape[0]:
        raise UsageError(f"{folder}: {first}", f"of shape {a.shape} does not fit B of shape {b.shape}", _MERGE)
    scaling = np.float32(scaling_of(module, a.shape[0], config))
    if turned:
        return LowRank(np.ascontiguousarray(a.T) * scaling, np.ascontiguousarray(b.T))
    return LowRank(b * scaling, a)


def _lies_across(module: str, told: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a weight is stored as (in, out). peft writes `fan_in_fan_out` of the module that it adapted last and goes
    by the kind of each: of a model with Conv1D, the output head is none."""
    if config.get("model_type") in _CONV1D_MODELS:
        return module.rpartition(".")[2] in _CONV1D
    return bool(told.get("fan_in_fan_out"))


def _check_start(file: Path, start: object) -> None:
    """Raises UsageError for an initialisation that alters the base, or of which that is not known."""
    told = str(start).lower()
    if told.startswith(_ALTERING):
        problem = f"has init_lora_weights '{start}': peft alters the base, the change is not scaling * B A"
        raise UsageError(str(file), problem, _MERGE)
    if told not in _KEEPING:
        problem = f"has init_lora_weights '{start}', of which it is not known whether it alters the base"
        raise UsageError(str(file), problem, _MERGE)


def _head(wanted: str, names: Collection[str], config: Mapping[str, Any]) -> str | None:
    """The name of an output head that no file holds since it is the embedding."""
    if not is_head(wanted) or any(is_head(n) for n in names) or not any(is_embedding(n) for n in names):
        return None
    return wanted if ties(config) else None


def _named(wanted: str, names: Collection[str], folder: Path) -> str:
    """The model's name of a tensor: the same, or with another prefix (`model.`), where that is clear."""
    if wanted in names:
        return wanted
    alike = [n for n in names if n.endswith("." + wanted) or wanted.endswith("." + n)]
    if len(alike) == 1:
        return alike[0]
    module = wanted.removesuffix(".weight").removesuffix(".base_layer")
    if any(f".{module}." in f".{n}" for n in names):
        problem = f"changes {module}, which has no weight of that name but parameters of its own (experts)"
        raise UsageError(str(folder), problem, _MERGE)
    raise UsageError(
        str(folder), f"changes {wanted}, which the model does not have", "name the base that it was made for"
    )
