"""LoRA adapters of one base merged into one adapter, by peft's `add_weighted_adapter`.

peft needs a model to hang the adapters on. It gets the base's modules without its weights: memory that is reserved and
never touched, since no way of merging reads it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgetbench.checkpoints.checkpoint import NONE, Checkpoint
from forgetbench.checkpoints.files import one_line, read_json
from forgetbench.drift.adapter import open_adapter
from forgetbench.drift.shards import Shards, open_shards
from forgetbench.errors import UsageError
from forgetbench.merging.folder import TOLD, whole, write_json
from forgetbench.merging.merge import document
from forgetbench.merging.types import Merged, Recipe

COMBINATION = {"linear": "linear", "cat": "cat", "svd": "svd", "ties": "ties", "dare": "dare_linear"}
COMBINATION |= {"dare-ties": "dare_ties"}
"""Our names -> peft's `combination_type`."""
FACTORWISE = ("linear", "ties", "dare", "dare-ties")
"""Methods that merge A with A and B with B: all adapters need the same rank everywhere, and the product of the merged
factors holds cross terms that no adapter had."""
_WHERE = ("layers_to_transform", "layers_pattern", "exclude_modules")
"""Settings that say which modules are adapted, beside `target_modules`. peft merges the targets' names alone."""
_NAME = "merged"
_FULL = "leave out --adapters: full weights are merged with the adapters added"
_SPARE = 1_000_000


def merge_adapters(points: Sequence[Checkpoint], recipe: Recipe, out: Path) -> Merged:
    """Write the merged adapter to `out`, a folder that goes into `adapter:` beside the same base.

    Args:
        points: Models of one base, each with its LoRA adapter.
        recipe: From `recipes(adapters=True)`.

    Weights are shares: divided by their sum. Raises UsageError for adapters of different bases, for ones that are no
    plain LoRA, ranks that a method cannot merge, adapters of which something would be left out, and a disk that does
    not take the result; nothing is left then.
    """
    configs = _checked(points, recipe)
    notes = _notes(recipe)
    sizes = [sum(f.stat().st_size for f in _folder(p).glob("adapter_model*")) for p in points]
    with whole(out, sum(sizes) + _SPARE) as work:
        try:
            _combine(points, recipe, work)
        except (ValueError, RuntimeError, KeyError) as error:
            raise UsageError("--adapters", f"peft cannot merge them ({one_line(error)})", _FULL) from None
        _mend_config(work, configs[0])
        written = open_shards(work, "adapter_model")
        _all_there(points, written)
        size = sum((work / f.name).stat().st_size for f in {e.file for e in written.entries.values()})
        merged = Merged(out, recipe, len(written.entries), 0, size, notes)
        write_json(work / TOLD, document(merged, points, 0, None, adapters=True))
    return merged


def _folder(point: Checkpoint) -> Path:
    if point.adapter_folder is None:
        raise UsageError(f"model '{point.alias}'", "has no adapter", "leave out --adapters, or set `adapter:`")
    return point.adapter_folder


def _checked(points: Sequence[Checkpoint], recipe: Recipe) -> list[dict[str, Any]]:
    base, configs = points[0], []
    names = open_shards(base.folder).entries.keys() if base.parts.get("weights", NONE) != NONE else ()
    for point in points:
        folder = _folder(point)
        if point.parts["weights"] != base.parts["weights"]:
            raise UsageError(
                f"model '{point.alias}'", f"stands on another base than '{base.alias}'", "merge adapters of one base"
            )
        config = read_json(folder / "adapter_config.json", "save the adapter again")
        trained = open_adapter(folder, names, point.config).replaced
        if trained or config.get("modules_to_save"):
            held = ", ".join(sorted(trained) or config["modules_to_save"])
            raise UsageError(str(folder), f"holds whole tensors beside A and B ({held[:80]})", _FULL)
        if config.get("bias", "none") != "none":
            raise UsageError(str(folder), "trained biases too", _FULL)
        if recipe.method in FACTORWISE and config.get("rank_pattern"):
            raise UsageError(str(folder), f"has a rank_pattern, {recipe.method} needs one rank", "use cat or svd")
        configs.append(config)
    _same_places(points, configs)
    ranks = {p.alias: c.get("r") for p, c in zip(points, configs, strict=True)}
    if recipe.method in FACTORWISE and len({*ranks.values()}) > 1:
        listed = ", ".join(f"'{a}' {r}" for a, r in ranks.items())
        raise UsageError("--method", f"{recipe.method} needs adapters of one rank ({listed})", "use cat or svd")
    return configs


def _same_places(points: Sequence[Checkpoint], configs: Sequence[dict[str, Any]]) -> None:
    """Raises UsageError where the adapters' layers or excluded modules are told apart: peft takes the first's."""
    for key in _WHERE:
        # A list of names stands in no order.
        told = [sorted(v) if isinstance(v := config.get(key), list) else v for config in configs]
        for point, config, value in zip(points, configs, told, strict=True):
            if (value or None) != (told[0] or None):
                problem = f"has {key} {config.get(key)!r}, '{points[0].alias}' {configs[0].get(key)!r}"
                raise UsageError(f"model '{point.alias}'", problem, _FULL)


def _all_there(points: Sequence[Checkpoint], written: Shards) -> None:
    """Raises UsageError where the merged adapter leaves out a tensor that an adapter has."""
    for point in points:
        left_out = sorted(open_shards(_folder(point), "adapter_model").entries.keys() - written.entries.keys())
        if left_out:
            problem = f"{len(left_out)} of its tensors are not in peft's merged adapter, first {left_out[0]}"
            raise UsageError(f"model '{point.alias}'", problem, _FULL)


def _notes(recipe: Recipe) -> tuple[str, ...]:
    if recipe.method in FACTORWISE:
        return (
            f"{recipe.method} merges A with A and B with B, so that the change of the weights is not that of the "
            "adapters' sum; cat is exact.",
        )
    if recipe.method == "svd":
        return ("svd keeps the leading directions of the weighted sum: what lies beyond its rank is lost.",)
    return ()


def _combine(points: Sequence[Checkpoint], recipe: Recipe, work: Path) -> None:
    import torch
    from peft import PeftModel

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
        warnings.simplefilter("ignore")  # that adapters were never trained here, that the base has no weights
        torch.manual_seed(recipe.seed or 0)
        model = PeftModel.from_pretrained(_hollow(points[0]), str(_folder(points[0])), adapter_name="m0")
        for i, point in enumerate(points[1:], 1):
            model.load_adapter(str(_folder(point)), adapter_name=f"m{i}")
        shares = recipe.weights or (1.0,) * len(points)
        torch.manual_seed(recipe.seed or 0)  # loading draws, and by the number of adapters
        model.base_model.add_weighted_adapter(
            [f"m{i}" for i in range(len(points))],
            [w / sum(shares) for w in shares],
            _NAME,
            combination_type=COMBINATION[recipe.method],
            density=recipe.density,
            svd_rank=recipe.rank,
            svd_full_matrices=False,  # U beyond the rank is thrown away; for an embedding it would be 60 GB
        )
        model.save_pretrained(str(work), selected_adapters=[_NAME], save_embedding_layers=False)
    for file in (work / _NAME).iterdir():
        file.rename(work / file.name)
    (work / _NAME).rmdir()
    (work / "README.md").unlink(missing_ok=True)  # a model card to be filled in


def _hollow(point: Checkpoint) -> Any:
    """The base's modules, their memory reserved and not filled."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = bool(point.spec.served.engine_args.get("trust_remote_code", False))
    config = AutoConfig.from_pretrained(str(point.folder), trust_remote_code=trust)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    return model.to_empty(device="cpu")


def _mend_config(work: Path, first: dict[str, Any]) -> None:
    """What peft copies from the first adapter though it is no longer so.

    The scalings are in the merged factors and alpha is set to r. With `use_rslora` the scaling on loading would be
    alpha / sqrt(r) = sqrt(r), not 1 (seen with peft 0.21.2).
    """
    file = work / "adapter_config.json"
    config = read_json(file, "save the adapter again")
    config["use_rslora"] = False
    config["base_model_name_or_path"] = first.get("base_model_name_or_path")
    write_json(file, config)
