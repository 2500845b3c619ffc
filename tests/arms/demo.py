"""A small experiment on the demo's chat model: tickets as the target, two abilities that must stay."""

from __future__ import annotations

import json
import random
from pathlib import Path

from forgetbench.demo.abilities import ask
from forgetbench.demo.world import make_world

SETS = ("support", "knowledge", "copy")
EXPERIMENT = """\
base: chat
target: {task_types: support, view: chat}
general: {view: chat}
seeds: [0]
checkpoints: 2
defaults:
  data: [{path: tickets.jsonl}]
  lr: 2e-3
  batch: {samples: 16}
  steps: 40
  weight_decay: 0.0
arms:
  full: {train: {}}
  gentle: {train: {lr: 1e-6}}
  wise: {merge: {method: wise-ft, of: full, alphas: [0.9]}}
  noop: {noop: true}
"""


def write(folder: Path, demo: Path, *, per_set: int = 30, experiment: str = EXPERIMENT) -> Path:
    """Everything that `ab` needs, in `folder`; the path of the experiment."""
    rng = random.Random("tickets")
    world = make_world(0)
    items = [ask("support/route", rng, "train", world) for _ in range(120)]
    rows = [{"prompt": i.prompt, "answer": i.answer, "task_type": i.task_type} for i in items]
    (folder / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sets").mkdir()
    suite = ["name: small", "views: [chat]", 'banner: "A toy."', "tasks:"]
    for name in SETS:
        lines = (demo / "sets" / f"{name}.jsonl").read_text().splitlines()
        (folder / "sets" / f"{name}.jsonl").write_text("\n".join(random.Random(name).sample(lines, per_set)) + "\n")
        suite.append(f"  - {{set: sets/{name}.jsonl, scorer: exact, chat: {{question: '{{prompt}}'}}, max_tokens: 16}}")
    (folder / "suite.yaml").write_text("\n".join(suite) + "\n")
    rules = [f"  - {{name: {n}, task_type: {n}, view: chat, margin: 40, min_n: 10}}" for n in ("knowledge", "copy")]
    (folder / "policy.yaml").write_text("\n".join(["name: small", "rules:", *rules]) + "\n")
    models = f"models: {{chat: {{path: {demo / 'models' / 'sft_v1'}}}}}"
    (folder / "forgetbench.yaml").write_text(f"{models}\nsuite: suite.yaml\npolicy: policy.yaml\n")
    file = folder / "experiment.yaml"
    file.write_text(experiment)
    return file
