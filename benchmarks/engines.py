"""Our engines against lm-eval 0.4.13 on the same machine, model, items and dtype: one command, one table.

    python -m benchmarks.engines [--quick] [--engines transformers,vllm] [--models 25m,demo] [--out FILE]

Runs alternate (ours, theirs, ours, ...), each in its own fresh process with one thread; lm-eval at the best of its
batch sizes 1, 8 and 32, tried once each on some of the items (its vLLM backend batches by itself: `auto`). Times are
from loaded tasks and a loaded model to scored items; loading is printed beside them and in no figure. A figure is the
ratio of medians, its range that of neighbouring runs. In every pair of runs each item's scores must be equal, or the
benchmark fails.

MMLU is timed on whole subjects, since what can be shared depends on how many items share their examples: the one of the
ten that has the least to share but one (anatomy) and one in the middle (international_law). Token counts are those of
ten whole subjects, read by a model of 1 million parameters with the same tokenizer (no weight changes a count).
GSM8K's limit of new tokens is cut to the same value for both. `--quick` shows that it works and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.engines_extra import cached_row, second_candidate_row
from benchmarks.engines_facts import facts
from benchmarks.engines_run import BATCHES, Setting, compare_sides, equal_texts, run_side
from benchmarks.engines_table import Bar, TableRow, ratio_row, render
from benchmarks.engines_world import TOKENIZER, Workload, count_parameters, make_model

SUBJECTS = (
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "business_ethics",
    "college_biology",
    "computer_security",
    "high_school_us_history",
    "international_law",
    "machine_learning",
    "moral_disputes",
)
"""Ten subjects of 100 items and more; one of them with long passages in its questions."""
BLOCK = 32
"""The smallest that the CPU build takes; its default of 128 computes 1.6 times the exact trie."""
RATIO_BARS = {
    ("mmlu", "vllm"): 20.0,
    ("mmlu", "transformers"): 5.0,
    ("truthfulqa", "vllm"): 3.0,
    ("truthfulqa", "transformers"): 3.0,
    ("gsm8k", "vllm"): 0.95,
    ("gsm8k", "transformers"): 1.2,
}
TITLES = {"mmlu": "MMLU 5-shot", "truthfulqa": "TruthfulQA mc1 + mc2", "gsm8k": "GSM8K 5-shot"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything is run."""

    timed: dict[str, tuple[Workload, ...]]
    """By engine: lm-eval's vLLM backend computes each prompt four times, so it gets fewer items."""
    counted: Workload
    runs: int
    batches: Sequence[int]
    cached_items: int
    second_items: int
    shape: str = "25m"
    second_runs: int = 2


def scale(quick: bool) -> Scale:
    if quick:
        tiny = (
            Workload("mmlu", 5, ("anatomy",), 6),
            Workload("truthfulqa", 0, (), 3),
            Workload("gsm8k", 5, (), 2, 6),
        )
        counted = Workload("mmlu", 5, SUBJECTS[:2], 8)
        return Scale({"transformers": tiny, "vllm": tiny}, counted, 1, (2,), 20, 4, "1m", 1)
    others = (Workload("truthfulqa", 0, (), 32), Workload("gsm8k", 5, (), 16, 128))
    timed = (Workload("mmlu", 5, ("anatomy",)), Workload("mmlu", 5, ("international_law",)), *others)
    fewer = (Workload("mmlu", 5, ("anatomy",), 60), *others)
    return Scale({"transformers": timed, "vllm": fewer}, Workload("mmlu", 5, SUBJECTS), 3, BATCHES, 10_000, 817)


def engine_args(engine: str) -> dict[str, object]:
    if engine == "vllm":
        return {
            "max_model_len": 4096,
            "kv_cache_memory_bytes": 1 << 30,
            "enforce_eager": True,
            "block_size": BLOCK,
            "dtype": "float32",
        }
    return {"device": "cpu", "threads": 1}


def describe(work: Workload) -> str:
    parts = [", ".join(work.subjects) if 0 < len(work.subjects) < 4 else ""]
    if len(work.subjects) >= 4:
        parts = [f"{len(work.subjects)} subjects"]
    parts.append("whole" if work.limit is None else f"first {work.limit} items")
    if work.max_tokens is not None:
        parts.append(f"{work.max_tokens} new tokens")
    return ", ".join(p for p in parts if p)


def time_row(setting: Setting, size: Scale, work: Workload, model: str) -> TableRow:
    """lm-eval's time over ours."""
    batches: Sequence[int | str] = ("auto",) if setting.engine == "vllm" else size.batches
    pairing = compare_sides(setting, work, size.runs, batches)
    limit = RATIO_BARS[work.task, setting.engine] if model == "25m" else None
    bar = Bar("" if limit is None else f">= {limit:g}", limit)
    note = f"; {describe(work)}; lm-eval's batch size {pairing.batch}"
    if work.task == "gsm8k":
        equal, every = equal_texts(pairing)
        note += f"; {equal} of {every} texts equal"
    loads = [statistics.median(r["load_seconds"] for r in side) for side in (pairing.ours, pairing.theirs)]
    print(f"  loading, in no figure: ours {loads[0]:.1f} s, lm-eval {loads[1]:.1f} s", flush=True)
    title = f"lm-eval / us, {TITLES[work.task]}, {setting.engine}, {model}"
    return ratio_row(title, bar, pairing.seconds("ours"), pairing.seconds("theirs"), note)


def token_row(setting: Setting, size: Scale) -> TableRow:
    """Prompt tokens that the engine computed over those of the trie."""
    found = run_side(setting, size.counted, "ours")
    tokens, computed = found["tokens"], found["usage"]["computed_tokens"]
    blocks = setting.engine == "vllm"
    trie = tokens["block_trie" if blocks else "trie"]
    kind = f"trie in blocks of {tokens['block']}" if blocks else "exact trie"
    limit = 1.02 if blocks else 1.10
    note = f"{computed:,} of {tokens['prompt']:,} prompt tokens computed, {kind} {trie:,}, exact {tokens['trie']:,}"
    title = f"tokens computed / {kind}, MMLU 5-shot ({describe(size.counted)}), {setting.engine}"
    return TableRow(title, Bar(f"<= {limit}", limit, at_least=False), computed / trie, note=note)


def demo_model(folder: Path | None) -> Path | None:
    """The demo's base, where its checkpoints are at hand."""
    found = folder / "models" / "base" if folder is not None else None
    return found if found is not None and (found / "config.json").is_file() else None


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("FORGETBENCH_DATA", "../shared/data"))
    parser.add_argument("--quick", action="store_true", help="a few items of everything: does it work?")
    parser.add_argument("--engines", default="transformers,vllm")
    parser.add_argument("--models", default="25m,demo")
    parser.add_argument(
        "--rows", default="", help="only rows whose name has this pattern: mmlu/.*/transformers, second"
    )
    parser.add_argument("--data", type=Path, default=data, help="folder of the benchmarks' files")
    parser.add_argument("--demo", type=Path, default=Path("demo-world"), help="folder of the demo")
    parser.add_argument("--work", type=Path, default=Path(".forgetbench/benchmark"), help="models are kept here")
    parser.add_argument("--out", type=Path, help="file for the table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    state = facts(commit())  # of the code that runs, whatever is committed meanwhile
    work, data = args.work.resolve(), args.data.resolve()
    size, engines = scale(args.quick), args.engines.split(",")
    shape = size.shape
    large = make_model(work / shape, data, shape)
    models = {"25m": (shape, large), "demo": ("demo", demo_model(args.demo.resolve()))}
    counting = make_model(work / "1m", data, "1m")
    measures: list[tuple[str, Callable[[], TableRow]]] = []
    for engine in engines:
        setting = Setting(engine, counting, data, work, engine_args(engine))
        measures.append((f"tokens/{engine}", partial(token_row, setting, size)))
        for name in args.models.split(","):
            label, folder = models[name]
            if folder is None:
                print(f"  model {name}: not at hand, left out", flush=True)
                continue
            for timed in size.timed[engine]:
                row = partial(time_row, replace(setting, model=folder), size, timed, label)
                measures.append(("/".join([timed.task, *timed.subjects, engine, name]), row))
    measures.append(("cached", partial(cached_row, work, size.cached_items, size.runs)))
    seeds = [make_model(work / f"{shape}-seed{seed}", data, shape, seed) for seed in (1, 2)]
    second = partial(second_candidate_row, work, [large, *seeds], data, size.second_items, size.second_runs)
    measures.append(("second", second))
    rows = [measure() for name, measure in measures if re.search(args.rows, name)]
    command = " ".join(["python -m benchmarks.engines", *(arguments if arguments is not None else sys.argv[1:])])
    named = f"Model {shape}: {count_parameters(large):,} parameters, Llama, {TOKENIZER}; float32."
    text = f"    {command}\n\n{state}\n{named}\n\n{render(rows)}"
    print(f"\n{text}")
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")
    return 0


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain") else "")


if __name__ == "__main__":
    raise SystemExit(main())
