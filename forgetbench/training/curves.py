"""What a fine-tune tells while it runs: metrics.jsonl, a line for people, and TensorBoard where asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write, full_disk_is_one_line

BOARD = "tensorboard"


def told(line: Mapping[str, Any]) -> str:
    """A line of metrics.jsonl for people."""
    step = f"step {line['step']}:"
    if line["kind"] == "retention":
        deltas = ", ".join(f"{n} {100 * d:+.1f}" for n, d in line["deltas"].items() if d is not None)
        return f"{step} retention {line['state']} ({deltas or 'nothing compared'}): {line['reason']}"
    parts = [f"{name} {value:.3f}" for name, value in line["channels"].items()]
    if line["special"] is not None:
        parts.append(f"special tokens {line['special']:.3f}")
    by_kind = f" ({', '.join(parts)})" if parts else ""
    if line["kind"] == "held_out":
        whole = "nothing to predict" if line["per_token"] is None else f"{line['per_token']:.3f}"
        return f"{step} held-out {whole}{by_kind}"
    kl = "" if line["kl"] is None else f", KL {line['kl']:.3f}"
    ewc = "" if line.get("ewc") is None else f", EWC {line['ewc']:.3g}"
    norm = "" if line["grad_norm"] is None else f", gradient {line['grad_norm']:.3g}"
    rate = f", {line['tokens_per_second']:,.0f} tokens/s" if line["tokens_per_second"] else ""
    left = f", {line['seconds_left']:,.0f} s left" if line["seconds_left"] is not None else ""
    return f"{step} loss {line['loss']:.3f}{by_kind}{kl}{ewc}{norm}{rate}{left}"


def read(file: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl; one that a kill cut off in its middle is left out."""
    if not file.is_file():
        return []
    found = []
    for raw in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and "kind" in line and "step" in line:
            found.append(line)
    return found


def cut(file: Path, step: int) -> None:
    """Keep the lines of metrics.jsonl up to `step`: later steps come again."""
    if file.is_file():
        kept = [line for line in read(file) if int(line["step"]) <= step]
        atomic_write(file, "".join(f"{_json(line)}\n" for line in kept).encode())


def append(file: Path, line: Mapping[str, Any]) -> None:
    """Raises DiskFullError."""
    with full_disk_is_one_line(file), file.open("a", encoding="utf-8") as handle:
        handle.write(f"{_json(line)}\n")


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False)


def board(folder: Path, step: int) -> Any:
    """TensorBoard's writer into `folder`, going on after `step`. Raises UsageError where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        cure = "pip install tensorboard, or leave `tensorboard` out"
        raise UsageError("tensorboard", "is not installed", cure) from None
    return SummaryWriter(str(folder / BOARD), purge_step=step + 1)


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """What of a line TensorBoard draws: `kind/key`, `kind/channels/name`."""
    found = {}
    for key, value in line.items():
        items = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, number in items:
            if isinstance(number, int | float) and not isinstance(number, bool) and key not in ("step", "kind"):
                found[f"{line['kind']}/{key}/{name}".rstrip("/")] = float(number)
    return found
