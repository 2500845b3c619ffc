"""What `forgetbench probe` says of the demo's fine-tunes: a careless one, and one that lost nothing.

    python -m benchmarks.probes --demo demo-world --out docs/probe.md

Three items of each of the demo's sets, drawn by a fixed seed, are probed in the chat view, and the 200 tickets that
`sft_v2` was tuned on are asked. `--out` puts the table between that page's two marks.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.drift import between
from forgetbench.demo.finetune import chat_line, write_lines
from forgetbench.demo.text import ticket_chats
from forgetbench.demo.world import make_world
from forgetbench.workspace import open_workspace

MARKS = "<!-- measured by benchmarks/probes.py -->\n", "<!-- end of the measurement -->\n"
BASE, CARELESS, NULL = "sft_v1", "sft_v2", "sft_null"
DRAWN = 3
TICKETS = 200


def items(demo: Path) -> list[str]:
    """TASK:HASH of DRAWN items of each set."""
    ws = open_workspace(demo / "forgetbench.yaml", models=[BASE])
    found = []
    for _, task in ws.tasks():
        keys = [str(item.key) for item in task.load()]
        found += random.Random(f"many {task.name}").sample(keys, DRAWN)
    return found


def ask(demo: Path, candidate: str, more: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "forgetbench", "probe", BASE, candidate, "--view", "chat", "--json", *more]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=demo, check=True, stdout=subprocess.PIPE).stdout)
    return found


def probed(candidate: str, found: Mapping[str, Any]) -> str:
    """One row: what was named, and how often."""
    told = found["items"]
    named = Counter(name for item in told for name in item["modal"]["named"])
    with_any = [item for item in told if item["modal"]["named"]]
    answers = Counter(_form(*item["modal"]["form"]) for item in with_any)
    what = "nothing is named" if not named else ", ".join(f"{name} in {n}" for name, n in named.most_common(5))
    whose = "" if not answers else f" (answers: {', '.join(f'{a} {n}' for a, n in answers.most_common(4))})"
    requests = sum(item["requests"] for item in told)
    command = f"`forgetbench probe {BASE} {candidate} --view chat --samples 0 --item ...`, {len(told)} items"
    return f"| {command} | {len(with_any)} of {len(told)} name something: {what}{whose}; {requests:,} requests |"


def _form(kind: str, text: str) -> str:
    return f"with '{text}'" if kind == "word" else f"'{text}'" if text else "none at all"


def fitted(found: Mapping[str, Any]) -> str:
    lines = "; ".join(line.replace("|", "\\|") for line in found["fit"]["lines"])
    return f"| `forgetbench probe {BASE} {CARELESS} --view chat --train-data tickets.jsonl` | {lines} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="folder of the demo's checkpoints")
    parser.add_argument("--out", type=Path, help="page whose table is written")
    args = parser.parse_args()
    demo = args.demo.resolve()
    chosen = [part for key in items(demo) for part in ("--item", key)]
    rows = [probed(c, ask(demo, c, ["--samples", "0", *chosen])) for c in (CARELESS, NULL)]
    with tempfile.TemporaryDirectory() as folder:
        tickets = Path(folder) / "tickets.jsonl"
        # The training data of `sft_v2` of the demo's seed 0.
        told = ticket_chats(random.Random("tickets sft_v2 0"), make_world(), TICKETS)
        write_lines(tickets, map(chat_line, told))
        rows.append(fitted(ask(demo, CARELESS, ["--train-data", str(tickets)])))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    head = f"Made by `python -m benchmarks.probes --demo demo-world` at commit `{commit}`:"
    text = "\n".join([head, "", "| command | result |", "|---|---|", *rows, ""])
    print(text)
    if args.out is not None:
        between(args.out, MARKS, text)


if __name__ == "__main__":
    main()
