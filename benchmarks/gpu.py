"""The transformers engine on an NVIDIA GPU, beside lm-eval where that is installed, and beside the card's limits.

    python -m benchmarks.gpu [--shape 1b] [--dtypes bfloat16,float32] [--out FILE]
    python -m benchmarks.gpu --device cpu --quick          # does it work?

Needs torch, transformers and the benchmarks' files; vLLM is not asked for. The model is a Llama of random weights with
the tokenizer of benchmarks/engines_world.py. Busy share: time inside the model (until the GPU's work was done) over the
whole time. Model FLOPs: two a parameter and token, and attention's; padding is not counted as work. Memory: the weights
alone, read once for each step of generation, so that the true share is higher. In float32 every item's scores must
equal lm-eval's; in bfloat16 rounding moves them, and how many agree is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import commit, describe
from benchmarks.engines_facts import facts
from benchmarks.engines_run import Setting, run_side
from benchmarks.engines_table import difference
from benchmarks.engines_world import TOKENIZER, Workload, count_parameters, make_model

BYTES = {"float32": 4, "bfloat16": 2}
ROWS = 128
"""Most rows of the engine's batches on a GPU."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card's limits, from its data sheet: dense, without sparsity; float32 outside tensor cores."""

    name: str
    bandwidth: float
    """Bytes a second."""
    bfloat16: float
    float32: float
    """Floating-point operations a second."""

    def peak(self, dtype: str) -> float:
        return self.bfloat16 if dtype == "bfloat16" else self.float32


CARDS = (
    # The more special name before the one it begins with.
    Card("H200", 4.8e12, 989e12, 67e12),
    Card("H100 PCIe", 2.0e12, 756e12, 51e12),
    Card("H100 NVL", 3.9e12, 835e12, 60e12),
    Card("H100", 3.35e12, 989e12, 67e12),
    Card("A100-SXM4-80GB", 2.04e12, 312e12, 19.5e12),
    Card("A100", 1.55e12, 312e12, 19.5e12),
    Card("L40S", 0.864e12, 362e12, 91.6e12),
    Card("L4", 0.3e12, 121e12, 30.3e12),
    Card("RTX 4090", 1.01e12, 165e12, 82.6e12),
    Card("RTX 3090", 0.936e12, 71e12, 35.6e12),
)


def card_of(name: str) -> Card | None:
    """The first card whose name stands in the device's."""
    return next((card for card in CARDS if card.name.lower() in name.lower()), None)


def forward_flops(config: dict[str, Any], parameters: int, tokens: int, context: float) -> float:
    """Floating-point operations of that many tokens, each attending to `context` tokens on average."""
    attention: float = 4 * config["num_hidden_layers"] * config["hidden_size"] * context
    return tokens * (2.0 * parameters + attention)


def figures(found: dict[str, Any], work: Workload, folder: Path, dtype: str, card: Card | None) -> list[str]:
    """Cells of one row: seconds, busy share, tokens a second read and written, share of FLOPs and of bandwidth."""
    usage, seconds = found["usage"], found["seconds"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    parameters = count_parameters(folder)
    context = usage["prompt_tokens"] / max(usage["requests"], 1) / 2
    tokens = usage["computed_tokens"] + usage["new_tokens"]
    flops = forward_flops(config, parameters, tokens, context) / seconds
    steps = (work.max_tokens or 0) * math.ceil(found["items"] / ROWS) if usage["new_tokens"] else 0
    read = steps * parameters * BYTES[dtype] / seconds
    return [
        f"{seconds:.2f}",
        f"{usage['busy_seconds'] / seconds:.0%}",
        f"{usage['computed_tokens'] / seconds:,.0f}",
        f"{usage['computed_tokens'] / found['tokens']['trie']:.3f}",
        f"{usage['new_tokens'] / seconds:,.0f}" if usage["new_tokens"] else "",
        f"{flops / 1e12:.3g} T" + (f" ({flops / card.peak(dtype):.1%})" if card else ""),
        (f"{read / 1e9:.3g} GB/s" + (f" ({read / card.bandwidth:.1%})" if card else "")) if steps else "",
    ]


def against(setting: Setting, work: Workload, mine: dict[str, Any], batches: Sequence[int]) -> str:
    """lm-eval's time over ours at its best batch size, and whether the scores agree."""
    if importlib.util.find_spec("lm_eval") is None:
        return "lm-eval is not installed"
    runs = {batch: run_side(setting, work, "theirs", batch) for batch in batches}
    batch = min(runs, key=lambda b: runs[b]["seconds"])
    other = runs[batch]
    problem = difference(mine["scores"], other["scores"])
    if problem is not None and setting.dtype == "float32":
        raise RuntimeError(f"{work.name}: the scores are not equal: {problem}")
    equal = sum(difference({k: v}, {k: other["scores"].get(k, {})}) is None for k, v in mine["scores"].items())
    ratio = other["seconds"] / mine["seconds"]
    return f"{ratio:.2f} x (batch {batch}; {equal} of {len(mine['scores'])} items equal)"


def workloads(quick: bool) -> tuple[Workload, ...]:
    if quick:
        return (Workload("mmlu", 5, ("anatomy",), 4), Workload("gsm8k", 5, (), 2, 4))
    subjects = ("anatomy", "astronomy", "business_ethics")
    return (Workload("mmlu", 5, subjects), Workload("truthfulqa", 0, (), 200), Workload("gsm8k", 5, (), 256, 256))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("FORGETBENCH_DATA", "../shared/data"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", default="1b", help="1b, 25m or 1m")
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-lm-eval", action="store_true", help="our side alone")
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, default=Path(".forgetbench/benchmark"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    work_dir, data = args.work.resolve(), args.data.resolve()
    shape, batches = ("1m", (2,)) if args.quick else (args.shape, (8, 32, 128))
    folder = make_model(work_dir / shape, data, shape)
    name = device_name(args.device)
    card = card_of(name)
    head = "task|dtype|s|busy|prompt tokens/s|computed / trie|new tokens/s|model FLOP/s|weights read|lm-eval / us"
    lines = [f"| {head.replace('|', ' | ')} |", "|" + "---|" * (head.count("|") + 1)]
    for dtype in args.dtypes.split(","):
        setting = Setting("transformers", folder, data, work_dir, {"device": args.device}, dtype, args.device)
        for work in workloads(args.quick):
            mine = run_side(setting, work, "ours")
            beside = "" if args.no_lm_eval else against(setting, work, mine, batches)
            cells = [f"{work.task} ({describe(work)})", dtype, *figures(mine, work, folder, dtype, card), beside]
            lines.append(f"| {' | '.join(cells)} |")
    limits = "its limits are not known here"
    if card is not None:
        limits = (
            f"{card.bandwidth / 1e12:g} TB/s; {card.bfloat16 / 1e12:g} TFLOP/s in bf16, {card.float32 / 1e12:g} in fp32"
        )
    model = f"{count_parameters(folder):,} parameters, Llama of random weights, {TOKENIZER}"
    text = "\n".join([facts(commit()), f"{name}: {limits}. {model}.", "", *lines]) + "\n"
    print(f"\n{text}")
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
    return 0


def device_name(device: str) -> str:
    """The card's own name. Raises SystemExit where torch sees none."""
    if device == "cpu":
        return "CPU"
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu --quick shows whether the benchmark works")
    return torch.cuda.get_device_name(device)


if __name__ == "__main__":
    raise SystemExit(main())
