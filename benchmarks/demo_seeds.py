"""The demo's chain over several seeds: is it steady, and does the gate say the right thing each time?

    python benchmarks/demo_seeds.py --work FOLDER --seeds 0 1 2 3 4 --out docs/demo.md      (make proof-demo)

For each seed the whole chain (base, sft_v1, sft_v2, sft_null) is trained anew, then the command line compares:
base with base (wanted: exit 0), sft_v1 with sft_null (0), base with sft_v1 and sft_v2 (10; sft_v1 passes).
Settings were chosen on other items than those that are reported (sets/dev).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WANTED = {"base / base": 0, "sft_v1 / sft_null": 0, "base / sft_v1, sft_v2": 10}


LIMITS = """\
The demo is a toy and says nothing about real models. What to know about it:

- A Qwen3-type model of about 0.8 million parameters learns a made-up world from plain text and plain questions and
  answers; the words of questions count a tenth in its loss, otherwise facts and copying came too late for a demo.
- Every fact is seen in training: knowledge tests memory. Sums and comparisons are of single digits; every sum is seen,
  the test's phrasing is not. Words in copy, format, code, safety and support are held out.
- The world is the same for every seed; the seed moves initialisation and training data.
- Bases differ: those of seeds 2 and 4 never learnt a third of `format` (capitals). Each is its own reference.
- The careless fine-tune is only that: 200 steps on 200 tickets, no replay. What it loses differs by seed.
- Another CPU rounds differently, so that seed 0 elsewhere may come out like another seed here.""".splitlines()


def chain(work: Path, seed: int) -> dict[str, Any]:
    """Train (or find) one seed's chain and run the three comparisons."""
    out = work / f"seed-{seed}"
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "forgetbench.demo", "--out", str(out), "--seed", str(seed)], check=True)
    found: dict[str, Any] = {"seed": seed, "wall": time.monotonic() - begin, "out": out}
    for name in WANTED:
        base, candidates = name.split(" / ")
        arguments = ["compare", base, *candidates.split(", "), "--config", str(out / "forgetbench.yaml"), "--json"]
        done = subprocess.run([sys.executable, "-m", "forgetbench", *arguments], capture_output=True, text=True)
        found[name] = (done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr})
    return found


def seconds(out: Path) -> float:
    """CPU seconds of training, as the chain's checkpoints carry them."""
    marks = [json.loads(mark.read_text()) for mark in sorted((out / "models").glob("*/demo.json"))]
    return sum(float(mark["cpu_seconds"]) for mark in marks)


def table(results: list[dict[str, Any]], command: str, commit: str) -> str:
    lines = [
        "# The demo's chain over seeds",
        "",
        *LIMITS,
        "",
        f"Made by `{command}` at commit `{commit}`. Scores in points on the reported items (n = 437 or more each); the",
        "settings were chosen on the dev items. CPU seconds are of training, one thread.",
        "",
        "| seed | CPU s | base / base | sft_v1 / sft_null | base / sft_v1, sft_v2 | sft_v1's verdict | blocked for |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        verdicts = r["base / sft_v1, sft_v2"][1].get("verdicts", [])
        states = {v["candidate"]: v["state"] for v in verdicts}
        blocked = [x["rule"]["name"] for v in verdicts[-1:] for x in v["rules"] if x["state"] == "FAIL"]
        codes = [f"exit {r[name][0]}" for name in WANTED]
        cells = [str(r["seed"]), f"{seconds(r['out']):.0f}", *codes, states.get("sft_v1", "?"), ", ".join(blocked)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| seed | view | rule | base | sft_v1 | sft_v2 | sft_null |", "|---|---|---|---|---|---|---|"]
    for r in results:
        lines += _scores(r)
    return "\n".join(lines) + "\n"


def _scores(r: dict[str, Any]) -> list[str]:
    def rules(name: str, candidate: str) -> dict[str, Any]:
        verdicts = r[name][1].get("verdicts", [])
        return {x["rule"]["name"]: x for v in verdicts if v["candidate"] == candidate for x in v["rules"]}

    first, second = (rules("base / sft_v1, sft_v2", c) for c in ("sft_v1", "sft_v2"))
    null = rules("sft_v1 / sft_null", "sft_null")
    rows = []
    for name, rule in second.items():
        chat = rule["rule"]["view"] == "chat"
        figures = (
            None if chat else rule["base"],
            rule["base"] if chat else first[name]["candidate"],
            rule["candidate"],
            null.get(name, {}).get("candidate"),
        )
        cells = [f"{100 * f:.1f}" if f is not None else "" for f in figures]
        subject = rule["rule"]["task_type"]
        rows.append(f"| {r['seed']} | {rule['rule']['view']} | {subject} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the chains are trained; kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument("--jobs", type=int, default=2, help="chains at a time, one thread each")
    args = parser.parse_args()
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda seed: chain(args.work, seed), args.seeds))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    text = table(results, "make proof-demo", commit)
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    wrong = [(r["seed"], name, r[name][0]) for r in results for name, code in WANTED.items() if r[name][0] != code]
    for seed, name, code in wrong:
        print(f"seed {seed}: {name} ended in {code}, wanted {WANTED[name]}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
