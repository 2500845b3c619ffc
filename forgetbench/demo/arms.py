"""The proof of `forgetbench ab`: two experiments on the demo's world, fourteen arms each.

    python -m forgetbench.demo.arms --demo demo-world --out arms
    forgetbench ab arms/experiment-route.yaml

The base of every arm is the demo's `sft_v1`, the chat model. Rates, steps, weights and the matched score were chosen by
hand in a few trials on the dev items (`--split dev`), seed 0.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetbench.demo.arms_data import PER_TYPE, TARGETS, Split, Target, write_data
from forgetbench.demo.sets import REQUIRED
from forgetbench.demo.world import make_world

BANNER = (
    "A toy: a made-up world and models of a million parameters, trained in minutes. It shows the tool and says "
    "nothing about real models."
)
SEEDS = (0, 1, 2)
MARGIN = 5.0
"""Points that none of the six abilities may lose."""


@dataclass(frozen=True)
class Settings:
    """What was chosen for a target."""

    steps: int
    rates: tuple[float, float, float]
    """Of `full`: the lowest, that of all other arms with whole weights, the highest."""
    lora: dict[int, float]
    """Rate by rank."""
    kl: float
    """Weight of the divergence."""
    at: float
    """Target score in per cent at which arms are compared: what most of them reach on the dev items."""
    checkpoints: int = 4


SETTINGS: dict[Target, Settings] = {
    "route": Settings(steps=240, rates=(2e-4, 4e-4, 8e-4), lora={8: 2e-3, 64: 6e-4}, kl=0.1, at=80),
    "herb": Settings(steps=240, rates=(2e-4, 4e-4, 8e-4), lora={8: 4e-3, 64: 1e-3}, kl=0.05, at=70),
}
REPLAY_SHARES = (0.05, 0.1, 0.2)
WISE_ALPHAS = (0.25, 0.5, 0.75)
STM = 2.5
"""The paper's threshold (arXiv 2501.14315)."""


ARMS: dict[str, str] = {
    "full-low": "all weights, the lowest of three rates",
    "full": "all weights, the target's data alone",
    "full-high": "all weights, the highest rate",
    "replay-5": "`full` with 5 % of the tokens from the base's own training mix, chats and plain text",
    "replay-10": "10 %",
    "replay-20": "20 %",
    "kl": "`full` with the divergence to the base (forward, all tokens) added to the loss",
    "replay-kl": "`replay-10` and `kl` together",
    "lora-r8": "LoRA on all linear layers, rank 8",
    "lora-r64": "rank 64",
    "stm": "`full`, tokens whose perplexity under the base is above 2.5 not learnt",
    "wise-ft": "no training: between base and `full`, alpha .25, .5, .75",
    "ties": "no training: TIES of `full` and `kl`, density .5",
    "no-op": "the base itself",
}
"""What each arm is, for people."""


def arms(settings: Settings) -> dict[str, dict[str, Any]]:
    """Every arm by its name, as experiment.yaml has it."""
    low, middle, high = settings.rates
    files = [{"path": "replay/chats.jsonl"}, {"path": "replay/pages.jsonl"}]

    def replay(share: float) -> dict[str, Any]:
        return {"replay": {"share": share, "files": files}}

    kl = {"kl": {"weight": settings.kl, "tokens": "all"}}
    trained: dict[str, dict[str, Any]] = {
        "full-low": {"lr": low},
        "full": {"lr": middle},
        "full-high": {"lr": high},
        **{f"replay-{round(100 * share)}": replay(share) for share in REPLAY_SHARES},
        "kl": kl,
        "replay-kl": {**replay(REPLAY_SHARES[1]), **kl},
        **{
            f"lora-r{rank}": {"method": "lora", "lora": {"r": rank, "alpha": 2.0 * rank}, "lr": rate}
            for rank, rate in settings.lora.items()
        },
        "stm": {"stm_threshold": STM},
    }
    return {
        **{name: {"train": recipe} for name, recipe in trained.items()},
        "wise-ft": {"merge": {"method": "wise-ft", "of": "full", "alphas": list(WISE_ALPHAS)}},
        "ties": {"merge": {"method": "ties", "of": ["full", "kl"], "density": 0.5}},
        "no-op": {"noop": True},
    }


def experiment(
    target: Target,
    *,
    settings: Settings | None = None,
    seeds: Sequence[int] = SEEDS,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """experiment.yaml of a target; `only`: some of its arms."""
    chosen = settings or SETTINGS[target]
    made = arms(chosen)
    return {
        "base": "sft_v1",
        "suite": f"suite-{target}.yaml",
        "policy": "policy.yaml",
        "target": {"task_types": TARGETS[target], "view": "chat"},
        "general": {"view": "chat"},
        "seeds": list(seeds),
        "checkpoints": chosen.checkpoints,
        "at": chosen.at,
        # A quarter of a run lies between two checkpoints: without it arms would be matched only roughly.
        "interpolate": True,
        "defaults": {
            "data": [{"path": f"train/{target}.jsonl"}],
            "steps": chosen.steps,
            "lr": chosen.rates[1],
            "batch": {"samples": 16},
            "max_length": 256,
            # Answers of one word and of ten shall count the same, as in the fine-tune that the base comes from.
            "loss": {"reduction": "per_sample"},
        },
        "arms": {name: arm for name, arm in made.items() if only is None or name in only},
    }


def suite(target: Target) -> dict[str, Any]:
    """The six abilities and the target, asked in chat."""
    return {
        "name": f"arms-{target}",
        "banner": BANNER,
        "views": ["chat"],
        "tasks": [
            {"set": f"sets/{name}.jsonl", "scorer": "exact", "stop": ["\n"], "max_tokens": 24}
            for name in (*REQUIRED, target)
        ],
    }


def policy() -> dict[str, Any]:
    """None of the six abilities may lose more than the margin; the target decides nothing."""
    return {
        "name": "arms",
        "alpha": 0.05,
        "rules": [{"name": name, "task_type": name, "view": "chat", "margin": MARGIN} for name in REQUIRED],
    }


def write_arms(
    folder: Path,
    base: Path,
    *,
    split: Split = "test",
    per_type: int = PER_TYPE,
    seeds: Sequence[int] = SEEDS,
    only: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> dict[Target, Path]:
    """Write data, suites, policy, forgetbench.yaml and the experiments. Returns the file of each experiment.

    base: folder of the demo's `sft_v1`. settings: in place of those chosen, for both targets.
    """
    write_data(folder, make_world(), split, per_type)
    _yaml(folder / "forgetbench.yaml", {"models": {"sft_v1": {"path": os.path.relpath(base, folder)}}})
    _yaml(folder / "policy.yaml", policy())
    made: dict[Target, Path] = {}
    for target in TARGETS:
        _yaml(folder / f"suite-{target}.yaml", suite(target))
        made[target] = folder / f"experiment-{target}.yaml"
        _yaml(made[target], experiment(target, settings=settings, seeds=seeds, only=only))
    return made


def _yaml(file: Path, content: dict[str, Any]) -> None:
    import yaml

    # Through JSON, so that no two entries are one object: YAML would write an anchor, which a config may not have.
    plain = json.loads(json.dumps(content))
    file.write_text(yaml.safe_dump(plain, sort_keys=False, width=110), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m forgetbench.demo.arms", description=__doc__)
    parser.add_argument("--demo", type=Path, required=True, help="folder of the demo's checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="folder that everything is written to")
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="what is asked")
    args = parser.parse_args()
    from forgetbench.demo.build import paths

    for file in write_arms(args.out, paths(args.demo).sft_v1, split=args.split).values():
        print(f"forgetbench ab {file}")


if __name__ == "__main__":
    main()
