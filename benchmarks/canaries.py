"""What canaries say of a small fine-tune: how many are answered, and their exposure, by how often they were trained.

    python -m benchmarks.canaries --base demo-world/models/sft_v1 --work FOLDER

For each seed 200 tickets with 20 canary facts and 4 canary tokens among them (as `forgetbench data canary --n 20`
writes them), trained by `forgetbench train`'s own code; then the set of canaries is run as `compare` runs it, and every
canary's answer is ranked among all 256 possible ones. Prints docs/training-data.md's table.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from forgetbench import flow, running
from forgetbench.demo.finetune import chat_line, write_lines
from forgetbench.demo.text import ticket_chats
from forgetbench.demo.world import make_world
from forgetbench.training.asking import asking
from forgetbench.training.canary import Exposed, exposures, memorised, plant, set_lines
from forgetbench.training.fit import run
from forgetbench.training.recipe import Recipe
from forgetbench.workspace import open_workspace

TICKETS = 200
FACTS = 20
EPOCHS = 5
RATE = 1e-3


class Found(NamedTuple):
    answered: Mapping[int, tuple[int, int]]
    """By repetitions (0: twins): right, asked. Facts in chat."""
    before: Sequence[Exposed]
    after: Sequence[Exposed]


def measure(base: Path, folder: Path, seed: int) -> Found:
    """Plant, train, ask. What is there already is not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    tickets = ticket_chats(random.Random(f"canary tickets {seed}"), make_world(), TICKETS)
    write_lines(folder / "tickets.jsonl", map(chat_line, tickets))
    lines, made = plant(folder / "tickets.jsonl", FACTS, seed=seed)
    write_lines(folder / "data.jsonl", lines)
    write_lines(folder / "canaries.jsonl", set_lines(made))
    recipe = Recipe.model_validate(
        {"base": str(base), "data": [{"path": "data.jsonl"}], "lr": RATE, "epochs": EPOCHS, "seed": seed}
    )
    final = run(recipe, folder, str(base), folder / "trained", lambda line: None)
    suite = {"name": "canaries", "views": ["chat"], "tasks": [{"set": "canaries.jsonl", "scorer": "contains"}]}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    models = {"before": {"path": str(base)}, "after": {"path": str(final)}}
    (folder / "forgetbench.yaml").write_text(yaml.safe_dump({"models": models, "suite": "suite.yaml"}))
    ws = open_workspace(folder / "forgetbench.yaml", models=list(models))
    loaded = ws.tasks()
    points = [flow.checkpoint(ws, alias) for alias in models]
    runs = running.run_all(ws, points, loaded, lambda line: None)
    told = [m for m in memorised(runs["after"].read_records()) if m.kind == "fact"]
    answered = {m.repetitions: (m.rate.k, m.rate.n) for m in told}
    answered[0] = (told[0].twin.k, told[0].twin.n)
    exposed = []
    for point in points:
        with asking(ws, point, lambda line: None) as ask:
            exposed.append([e for e in exposures(made, point, ask) if e.canary.kind == "fact"])
    return Found(answered, *exposed)


def table(found: Sequence[Found]) -> list[str]:
    """All seeds together: facts answered, and their mean exposure in bits after and before training."""
    lines = ["| trained in each pass | answered | exposure | before training |", "|---|---|---|---|"]
    for times in sorted(found[0].answered):
        k, n = (sum(one.answered[times][i] for one in found) for i in (0, 1))
        after = _mean([e for one in found for e in one.after], times)
        before = _mean([e for one in found for e in one.before], times)
        name = {0: "never (twins)", 1: "once", 2: "twice"}.get(times, f"{times} times")
        lines.append(f"| {name} | {k} of {n} | {after:.1f} | {before:.1f} |")
    return lines


def _mean(found: Sequence[Exposed], times: int) -> float:
    return statistics.mean(e.exposure for e in found if e.canary.repetitions == times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="checkpoint folder that is trained from")
    parser.add_argument("--work", type=Path, required=True, help="where everything is made; kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    found = [measure(args.base.resolve(), args.work.resolve() / f"seed-{seed}", seed) for seed in args.seeds]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"`python -m benchmarks.canaries` at commit `{commit}`: {len(found)} seeds:\n")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
