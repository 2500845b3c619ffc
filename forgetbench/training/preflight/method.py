"""What is trained and how fast: LoRA's targets, and the learning rate beside what is known about such rates."""

from __future__ import annotations

from typing import Any, NamedTuple

from forgetbench.errors import UsageError
from forgetbench.training.preflight.types import MOST_LINES, Finding, Inputs

LARGE = 100_000_000
"""Parameters from which rates that were tried on published models are held against a recipe (our choice: the sources
trained models above it, and give no lower end)."""
SMALL = 10_000_000
"""Parameters up to which the made-up worlds (0.6 and 0.8 million) are the nearest that there is."""


class Band(NamedTuple):
    """Rates that somebody measured. None: no end is known."""

    low: float | None
    high: float | None
    source: str


_FULL = Band(1e-6, 2e-5, "arXiv 2509.20758 measured forgetting of full fine-tunes at 2e-5 and much less at 1e-6")
_LORA = Band(
    1e-5, 2e-4, "ten times the rates of full fine-tunes (Schulman et al. 2025, LoRA Without Regret; arXiv 2509.20758)"
)
_MADE_UP = Band(
    None, 3e-4, "in the made-up world of 0.6 M parameters a full fine-tune kept 7 of 98 points at 1e-3, 47 at 3.3e-4"
)


def band_of(method: str, parameters: int) -> Band | None:
    """What is known of rates for such a run; None: nothing that this project could name a source of."""
    if parameters >= LARGE:
        return _LORA if method == "lora" else _FULL
    return _MADE_UP if parameters <= SMALL and method == "full" else None


def learning_rate(inputs: Inputs) -> Finding:
    """The peak beside rates that were measured for the method and size. Outside of them it warns, it never fails."""
    name = "learning rate"
    size = _parameters(inputs.model)
    rate, method = inputs.recipe.lr, inputs.recipe.method
    band = band_of(method, size)
    told = f"{rate:g} at the peak, {method}, {size / 1e6:,.1f} M parameters"
    figures: dict[str, Any] = {"lr": rate, "method": method, "parameters": size}
    if band is None:
        return Finding(name, "pass", f"{told}; no measured rate is known for these: try some (forgetbench sweep)",
                       figures=figures)  # fmt: skip
    figures |= {"low": band.low, "high": band.high, "source": band.source}
    if band.high is not None and rate > band.high:
        cure = "start lower; `forgetbench sweep` finds the largest rate whose loss stays within a margin"
        return Finding(name, "warn", f"{told}: above {band.high:g}; {band.source}", cure, figures=figures)
    if band.low is not None and rate < band.low:
        cure = "see that the target is learnt at all"
        return Finding(name, "warn", f"{told}: below {band.low:g}; {band.source}", cure, figures=figures)
    return Finding(name, "pass", f"{told}; {band.source}", figures=figures)


def trained_modules(inputs: Inputs) -> Finding:
    """Which modules are trained, and how much of the model that is. LoRA: every target names a module."""
    name = "trained modules"
    model, lora = inputs.model, inputs.recipe.lora
    size = _parameters(model)
    if inputs.recipe.method == "full":
        return Finding(name, "pass", f"all {size:,} parameters (full fine-tune)", figures={"share": 1.0})
    if not isinstance(lora.targets, str):
        names = [n for n, _ in model.named_modules()]
        absent = [t for t in lora.targets if not any(n == t or n.endswith(f".{t}") for n in names)]
        if absent:
            leaves = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if _is_linear(m)})
            cure = f"name modules that the model has: {', '.join(leaves[:12])}"
            return Finding(name, "fail", f"the model has no {', '.join(absent)}", cure)
    try:
        adapted = _on_paper(inputs)
    except UsageError as error:
        return Finding(name, "fail", error.problem, error.cure)
    found = [(n, m) for n, m in adapted.named_modules() if hasattr(m, "lora_A") and len(m.lora_A)]
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    kinds: dict[str, int] = {}
    for module, _ in found:
        kinds[module.rsplit(".", 1)[-1]] = kinds.get(module.rsplit(".", 1)[-1], 0) + 1
    narrow = sorted({n.rsplit(".", 1)[-1] for n, m in found if lora.r >= min(m.get_base_layer().weight.shape)})
    figures = {"modules": len(found), "kinds": kinds, "trainable": trained, "share": trained / size, "r": lora.r}
    shown = ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))
    evidence = f"{len(found)} modules ({shown}), r {lora.r}: {trained:,} parameters, {100 * trained / size:.2f} %"
    if narrow:
        cure = "a rank of the full width limits nothing: lower `lora.r`"
        told = f"{evidence}; r reaches the width of {', '.join(narrow[:MOST_LINES])}"
        return Finding(name, "warn", told, cure, figures=figures)
    return Finding(name, "pass", evidence, figures=figures)


def _on_paper(inputs: Inputs) -> Any:
    """The adapted model without memory for its weights: the one at hand stays as it is."""
    import torch
    from transformers import AutoModelForCausalLM

    from forgetbench.training.fit import with_adapter

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(inputs.model.config)
        return with_adapter(empty, inputs.recipe.lora, inputs.recipe.seed)


def _is_linear(module: Any) -> bool:
    return "weight" in dict(module.named_parameters(recurse=False)) and hasattr(module, "in_features")


def _parameters(model: Any) -> int:
    return sum(int(p.numel()) for p in model.parameters())
