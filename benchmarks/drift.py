"""Time and memory of `forgetbench drift` on synthetic shards of Llama-3 8B's shapes, in bfloat16.

    python -m benchmarks.drift --layers 32 --folder /tmp/drift-8b --out docs/drift.md

Writes a base and a candidate of so many layers, with embeddings and head (2 x 16 GB at 32 layers: the folder's disk
must hold them), compares them in a process of its own for each way of asking, and prints one JSON line each: seconds on
the clock and of CPU (which a busy machine stretches less), the peak of that process's resident memory, and what all 32
layers would take at the CPU time that a layer took. `--out` puts the table between that page's two marks. Values are
random: the base normal, the change of rank 16 plus noise, so that no spectrum is easy. Ends with 1 where the peak is
above 24 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, INNER, KEYS, VOCABULARY, LAYERS = 4096, 14336, 1024, 128_256, 32
OUTSIDE: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    "lm_head.weight": (VOCABULARY, HIDDEN),
    "model.norm.weight": (HIDDEN,),
}
INSIDE: dict[str, tuple[int, ...]] = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
}
BOUND_GIB = 24.0
MARKS = "<!-- measured by benchmarks/drift.py -->\n", "<!-- end of the measurement -->\n"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
RANK = 16
POOL = 1 << 26


def bfloat16(values: np.ndarray) -> bytes:
    """float32 rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def shard(file: Path, shapes: dict[str, tuple[int, ...]], pool: np.ndarray, seed: int, *, tuned: bool) -> None:
    """One safetensors file; the same seed gives the candidate the base's values plus a change."""
    header: dict[str, object] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    blob = json.dumps(header).encode()
    rng = np.random.default_rng(seed)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(blob)) + blob)
        for shape in shapes.values():
            rows, columns = shape[0], int(np.prod(shape[1:]))
            left = rng.standard_normal((rows, RANK), dtype=np.float32)
            right = rng.standard_normal((RANK, columns), dtype=np.float32)
            for start in range(0, rows, 4096):
                stop = min(rows, start + 4096)
                values = 0.02 * _draw(pool, rng, (stop - start, columns))
                noise = 0.001 * _draw(pool, rng, (stop - start, columns))
                if tuned:
                    values = values + noise + 0.0002 * (left[start:stop] @ right)
                out.write(bfloat16(values))


def _draw(pool: np.ndarray, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Normal values from a random place of a pool: to draw 16 billion anew would take longer than to compare them."""
    size = shape[0] * shape[1]
    at = int(rng.integers(0, pool.size - size))
    return pool[at : at + size].reshape(shape)


def make(folder: Path, layers: int, *, tuned: bool) -> None:
    folder.mkdir(parents=True)
    pool = np.random.default_rng(0).standard_normal(POOL, dtype=np.float32)
    parts = [OUTSIDE] + [
        {f"model.layers.{i}.{kind}.weight": shape for kind, shape in INSIDE.items()} for i in range(layers)
    ]
    index: dict[str, str] = {}
    for i, shapes in enumerate(parts):
        name = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        shard(folder / name, shapes, pool, i, tuned=tuned)
        index |= dict.fromkeys(shapes, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def measure(folder: Path, directions: bool) -> dict[str, object]:
    """Compare in this process: CPU seconds of each tensor, and the peak of resident memory."""
    from forgetbench.drift.walk import drift
    from forgetbench.drift.weights import Side

    marks: list[tuple[float, str]] = []
    begun, worked = time.perf_counter(), time.process_time()
    found = drift(
        Side("base", folder / "base"),
        Side("candidate", folder / "candidate"),
        directions=directions,
        tell=lambda done, total, name: marks.append((time.process_time(), name)),
    )
    ended, cpu = time.perf_counter(), time.process_time() - worked
    ends = [t for t, _ in marks[1:]] + [worked + cpu]
    seconds = {name: end - start for (start, name), end in zip(marks, ends, strict=True)}
    inside = sum(s for name, s in seconds.items() if ".layers." in name)
    layers = len(found.layers)
    per_layer = inside / layers
    widest = max(t.spectrum.effective_rank.high / t.spectrum.effective_rank.low for t in found.tensors if t.spectrum)
    return {
        "layers": layers,
        "parameters": found.total.parameters,
        "directions": directions,
        "wall_seconds": round(ended - begun, 1),
        "cpu_seconds": round(cpu, 1),
        "cpu_seconds_a_layer": round(per_layer, 2),
        "cpu_seconds_outside": round(cpu - inside, 1),
        "cpu_seconds_at_32_layers": round(cpu - inside + LAYERS * per_layer, 1),
        "peak_rss_gib": round(peak_gib(), 2),
        "widest_effective_rank_interval": round(widest, 3),
        "slowest": {n: round(s, 2) for n, s in sorted(seconds.items(), key=lambda x: -x[1])[:5]},
        "reading": list(found.reading),
    }


def peak_gib() -> float:
    """Most resident memory that this process ever had. Not ru_maxrss, which it inherits from the one that started it.

    Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError("no VmHWM in /proc/self/status")


def table(found: Sequence[Mapping[str, Any]], command: str, commit: str) -> str:
    """What was measured, as the page has it; one column a way of asking."""
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "layers; parameters": lambda f: f"{f['layers']}; {f['parameters'] / 1e9:.2f} billion",
        f"peak resident memory (VmHWM; bound {BOUND_GIB:.0f} GiB)": lambda f: f"{f['peak_rss_gib']:.2f} GiB",
        "CPU time": lambda f: f"{f['cpu_seconds']:,.0f} s",
        "of it embedding, head and norm": lambda f: f"{f['cpu_seconds_outside']:,.0f} s",
        "of it each layer": lambda f: f"{f['cpu_seconds_a_layer']:.1f} s",
        "on the clock, beside whatever else ran": lambda f: f"{f['wall_seconds']:,.0f} s",
    }
    heads = ["with new directions" if f["directions"] else "`--no-directions`" for f in found]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    lines += [f"| {name} | {' | '.join(tell(f) for f in found)} |" for name, tell in rows.items()]
    return "\n".join([f"`{command}` at commit `{commit}`, one BLAS thread:", "", *lines, ""])


def between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put text between a page's two marks. Raises ValueError for a page without them."""
    before, first, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, last, after = rest.partition(marks[1])
    if not first or not last:
        raise ValueError(f"{page} has no {marks[0].strip()} or no {marks[1].strip()}")
    page.write_text(f"{before}{first}{text}{last}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--no-directions", action="store_true", help="this way alone")
    parser.add_argument("--out", type=Path, help="page whose table is written")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.folder, not args.no_directions)))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="drift-"))
    try:
        begun = time.perf_counter()
        for name in ("base", "candidate"):
            make(folder / name, args.layers, tuned=name == "candidate")
        print(f"wrote the shards in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        found = []
        for more in [["--no-directions"]] if args.no_directions else [[], ["--no-directions"]]:
            command = [sys.executable, "-m", "benchmarks.drift", "--measure", "--folder", str(folder), *more]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
            print(done.stdout, end="", flush=True)
            found.append(json.loads(done.stdout))
            if args.out is not None:
                between(args.out, MARKS, table(found, f"python -m benchmarks.drift --layers {args.layers}", commit))
        if any(f["peak_rss_gib"] > BOUND_GIB for f in found):
            raise SystemExit(1)
    finally:
        for name in ("base", "candidate"):
            shutil.rmtree(folder / name, ignore_errors=True)
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
