"""Time and memory of `forgetbench drift` on synthetic shards of Llama-3 8B's shapes, in bfloat16.

    python -m benchmarks.drift --layers 32 --folder /tmp/drift-8b

Writes a base and a candidate of so many layers, with embeddings and head (2 x 16 GB at 32 layers: the folder's disk
must hold them), compares them in a process of its own, and prints one JSON line: seconds on the clock and of CPU
(which a busy machine stretches less), the peak of that process's resident memory, and what all 32 layers would take
at the CPU time that a layer took. Layers are alike in
shape, and matrices are taken one at a time, so that neither peak nor time per layer depends on their number. Values
are random: the base normal, the change of rank 16 plus noise, so that no spectrum is easy.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "widest_effective_rank_interval": round(widest, 3),
        "slowest": {n: round(s, 2) for n, s in sorted(seconds.items(), key=lambda x: -x[1])[:5]},
        "reading": list(found.reading),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--no-directions", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.folder, not args.no_directions)))
        return
    folder = args.folder or Path(tempfile.mkdtemp(prefix="drift-"))
    try:
        begun = time.perf_counter()
        for name in ("base", "candidate"):
            make(folder / name, args.layers, tuned=name == "candidate")
        print(f"wrote the shards in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        more = ["--no-directions"] if args.no_directions else []
        command = [sys.executable, "-m", "benchmarks.drift", "--measure", "--folder", str(folder), *more]
        subprocess.run(command, check=True)
    finally:
        for name in ("base", "candidate"):
            shutil.rmtree(folder / name, ignore_errors=True)
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
