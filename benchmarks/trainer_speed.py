"""Tokens a second of our trainer beside TRL's SFTTrainer in the same configuration, what KL costs, and the memory.

    python -m benchmarks.trainer_speed --base proof-demo/seed-0/models/sft_v1

Speed: the same chats, batches, model, optimizer and precision; runs alternate (ours, TRL, ours with KL, ours, ...),
each in a process of its own, its first steps left out. Each ratio is the median over the repeats of the ratio of
neighbours. Seconds are CPU seconds of the process, so that other work on the machine does not count; on a GPU, which is
used where there is one, wall seconds. TRL logs every 10 steps (its default), ours writes a line for every step.
Memory: peak of a fresh process above what it had before the model, a Qwen3 of --hidden and --layers with random
weights in float32, two steps of one short row: what weights, gradients, optimizer and references take.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BARS = {"trl": 1.0, "kl": 0.6}
"""Least tokens/s of ours to TRL's, and with KL to without."""
LAYOUTS = ("padded", "packed")
MEMORY = ("full", "full, KL", "full, EWC", "full, KL, EWC", "LoRA", "LoRA, KL")
WARM = 5


def chats(n: int, seed: int = 0) -> list[list[dict[str, str]]]:
    """Chats of 20 to 160 letters."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join("".join(draw.choices("abcdefgh", k=draw.randint(2, 6))) for _ in range(draw.randint(2, most)))

    return [[{"role": "user", "content": words(12)}, {"role": "assistant", "content": words(14)}] for _ in range(n)]


def timed(trainer: Any, steps: int) -> float:
    """Tokens a (CPU) second of the steps after WARM; padding is no token."""
    from transformers import TrainerCallback

    tokens: list[int] = []
    ends: dict[int, float] = {}
    collate = trainer.data_collator

    def counted(rows: Any) -> Any:
        batch = collate(rows)
        if "documents" in batch:
            tokens.append(int((batch["documents"] >= 0).sum()))
        else:
            tokens.append(int(batch.get("attention_mask", batch["input_ids"] >= 0).sum()))
        return batch

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            import torch

            on_gpu = torch.cuda.is_available()
            if on_gpu:
                torch.cuda.synchronize()
            ends[state.global_step] = time.perf_counter() if on_gpu else time.process_time()

    trainer.data_collator = counted
    trainer.add_callback(Clock())
    trainer.train()
    return sum(tokens[WARM:steps]) / (ends[steps] - ends[WARM])


def recipe(args: argparse.Namespace, layout: str, kind: str) -> Any:
    from forgetbench.training.recipe import Recipe

    packed = layout == "packed"
    more: dict[str, Any] = {"method": "lora"} if "LoRA" in kind else {}
    more |= {"kl": {"direction": "forward"}} if "KL" in kind else {}
    more |= {"ewc": {"files": [{"path": "data.jsonl"}], "samples": 2}} if "EWC" in kind else {}
    return Recipe.model_validate(
        {
            "base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-5, "steps": args.steps, "packing": packed,
            "batch": {"tokens": args.length} if packed else {"samples": args.batch}, "max_length": args.length,
            "precision": args.precision, "save_every": 10**6, "stop": {"explosion": None}, **more,
        }
    )  # fmt: skip


def ours(args: argparse.Namespace, folder: Path, layout: str, kind: str) -> float:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from forgetbench.training.fit import build

    lines = [json.dumps({"messages": chat}) for chat in chats(args.steps * args.batch)]
    (folder / "data.jsonl").write_text("\n".join(lines))
    model = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    return timed(build(recipe(args, layout, kind), folder, folder / "out", model, tokenizer), args.steps)


def trl(args: argparse.Namespace, folder: Path, layout: str) -> float:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    packed = layout == "packed"
    config = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=1 if packed else args.batch, packing=packed,
        max_steps=args.steps, max_length=args.length, assistant_only_loss=True, bf16=args.precision == "bfloat16",
        gradient_checkpointing=False, use_cpu=not torch.accelerator.is_available(), report_to="none",
        save_strategy="no", learning_rate=1e-5, lr_scheduler_type="cosine", warmup_steps=1, disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32)
    trainer = SFTTrainer(
        model,
        args=config,
        train_dataset=Dataset.from_list([{"messages": chat} for chat in chats(args.steps * args.batch)]),
        processing_class=AutoTokenizer.from_pretrained(args.base),
    )
    return timed(trainer, args.steps)


def memory(args: argparse.Namespace, folder: Path, kind: str) -> tuple[float, int]:
    """Bytes above those before the model, and its parameters."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    from forgetbench.training.fit import build

    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (folder / "data.jsonl").write_text(json.dumps({"messages": chat}) + "\n")
    args.steps, args.batch = 2, 1
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    before = _rss()
    config = Qwen3Config(
        vocab_size=8192, hidden_size=args.hidden, intermediate_size=3 * args.hidden, num_hidden_layers=args.layers,
        num_attention_heads=8, num_key_value_heads=4, head_dim=args.hidden // 8, tie_word_embeddings=True,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    parameters = sum(p.numel() for p in model.parameters())
    wanted = recipe(args, "padded", kind)
    trainer = build(wanted, folder, folder / "out", model, tokenizer)
    trainer.args.save_strategy = "no"
    trainer.train()
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()), parameters
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0 - before, parameters


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def child(args: argparse.Namespace) -> None:
    """One run, named by --one; prints its figures."""
    import torch

    torch.set_num_threads(args.threads)
    what, _, rest = args.one.partition("/")
    with tempfile.TemporaryDirectory() as folder:
        if what == "memory":
            used, parameters = memory(args, Path(folder), rest)
            found: dict[str, float] = {"bytes": used, "parameters": parameters}
        elif what == "trl":
            found = {"rate": trl(args, Path(folder), rest)}
        else:
            found = {"rate": ours(args, Path(folder), rest, "KL" if what == "kl" else "full")}
    print("RESULT", json.dumps(found))


def one(name: str) -> dict[str, float]:
    """A run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trainer_speed", *sys.argv[1:], "--one", name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def speed(layout: str, repeats: int) -> tuple[list[str], bool]:
    """Rows of the speed table, and whether both bars are met."""
    rates: dict[str, list[float]] = {"ours": [], "trl": [], "kl": []}
    for _ in range(repeats):
        for kind, found in rates.items():
            found.append(one(f"{kind}/{layout}")["rate"])
    to_trl = statistics.median(a / b for a, b in zip(rates["ours"], rates["trl"], strict=True))
    with_kl = statistics.median(a / b for a, b in zip(rates["kl"], rates["ours"], strict=True))
    shown = [f"{statistics.median(rates[k]):,.0f}" for k in ("ours", "trl", "kl")]
    row = f"| {layout} | {' | '.join(shown)} | {to_trl:.2f} | {with_kl:.2f} |"
    return [row], to_trl >= BARS["trl"] and with_kl >= BARS["kl"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="folder of a small model with a chat template")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=512, help="tokens of a packed row")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--hidden", type=int, default=512, help="of the model whose memory is measured")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        child(args)
        return 0
    import torch
    import transformers
    import trl as their

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {args.threads} thread"
    print(f"Made by `python -m benchmarks.trainer_speed {' '.join(sys.argv[1:])}` at commit `{commit}`:")
    print(f"{device}, {args.precision}, torch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(f"trl {their.__version__}; medians of {args.repeats} alternating runs of {args.steps} steps.\n")
    print("| rows | ours, tokens/s | TRL, tokens/s | ours with KL, tokens/s | ours / TRL | KL / without |")
    print("|---|---|---|---|---|---|")
    met = True
    for layout in LAYOUTS:
        rows, good = speed(layout, args.repeats)
        print("\n".join(rows), flush=True)
        met = met and good
    print("\n| method | parameters | peak above the start | in float32 copies of the model |\n|---|---|---|---|")
    for kind in MEMORY:
        found = one(f"memory/{kind}")
        copies = found["bytes"] / (4 * found["parameters"])
        print(
            f"| {kind} | {found['parameters'] / 1e6:,.1f} M | {found['bytes'] / 2**20:,.0f} MiB | {copies:.1f} |",
            flush=True,
        )
    print(f"\nat least {BARS['trl']:g} of TRL's and {BARS['kl']:g} with KL: " + ("kept" if met else "missed"))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
