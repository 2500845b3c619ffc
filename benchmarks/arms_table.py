"""docs/arms.md from the results of the two experiments. Everything below the limits is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forgetbench.arms.estimate import Estimate
from forgetbench.arms.frontier import Frontier, Stand
from forgetbench.arms.results import Results
from forgetbench.arms.score import Cell
from forgetbench.demo.arms import ARMS, MARGIN, SETTINGS
from forgetbench.demo.arms_data import HERBS, PER_TYPE, TICKETS, Target
from forgetbench.demo.sets import REQUIRED
from forgetbench.report.frontier_words import failures, headline, reading, verdicts, where
from forgetbench.report.numbers import interval, points

TITLES: Mapping[Target, str] = {"route": "Target support/route: tickets", "herb": "Target medical/herb: new facts"}

LIMITS = f"""\
Fourteen ways to fine-tune one small chat model on two new things, each over three seeds, set side by side at the same
target score. **A toy: it shows the tool and says nothing about real models.** What to know about it:

- The base of all arms is the demo's `sft_v1`, a model of .8 million parameters that knows the demo's made-up world
  and answers in chat. One base: its training seed is 0, and the arms' seeds move the order of their data and what LoRA
  and replay draw.
- `support/route`: {TICKETS} tickets, asked with words that no training has seen. `medical/herb`: {HERBS} facts under
  three phrasings each, asked under two others, which are learnt with other herbs: 40 clusters, few to certify a gain.
- "General" is the mean of the world's 15 abilities in chat, {PER_TYPE} items each. The base has nearly all of
  them right: there is much to lose and nothing to gain. The gate's policy asks that none of six groups loses
  {MARGIN:g} points.
- Replay draws from the generators that the base was trained with. Nobody has such replay for a downloaded model.
- LoRA of rank 64 is half of this model's width: it is no low rank here. LoRA's rates are above those of `full`.
- All arms have the same number of steps, so that replay costs them a part of the target's data.
- Steps, rates, the weight of KL and the matched score were chosen by hand in a few trials on other items (the dev
  split), seed 0: no arm was tuned far, and one that does badly may do better with settings of its own."""


def page(results: Mapping[Target, Results], fronts: Mapping[Target, Frontier], command: str, made: str) -> str:
    """The whole page. `made`: the line about commit and time."""
    lines = ["# Fourteen ways to fine-tune, on the demo's world", "", *LIMITS.splitlines(), "", "| arm | what it is |"]
    lines += ["|---|---|", *(f"| `{name}` | {what} |" for name, what in ARMS.items()), ""]
    lines += [f"Made by `{command}` {made}.", ""]
    for target, found in results.items():
        lines += section(target, found, fronts[target])
    return "\n".join(lines).rstrip() + "\n"


def section(target: Target, results: Results, front: Frontier) -> list[str]:
    chosen = SETTINGS[target]
    low, middle, high = chosen.rates
    lines = [
        f"## {TITLES[target]}",
        "",
        f"![target gained against general ability lost](arms-{target}.svg)",
        "",
        f"{chosen.steps} steps of 16 samples, {chosen.checkpoints} checkpoints graded along the way; rates {low:g}, "
        f"{middle:g} (all arms but LoRA) and {high:g}, "
        f"LoRA {', '.join(f'r{r} {x:g}' for r, x in chosen.lora.items())}, KL weight {chosen.kl:g}. "
        f"{front.items[0]} items of the target, {front.items[1]} of general ability.",
        "",
        f"**{headline(front)}**",
        "",
        *(f"- {line}" for line in reading(front, failures([(o.arm, o.seed, o.error or "") for o in results.failed]))),
        "",
        "Points against the base where an arm reaches that score (else where its target is highest), mean over the",
        "seeds [95 %: seeds and items]; the gate's verdicts at that checkpoint; target / general at the last point.",
        "",
        "| arm | reached | target | general | verdicts | stands at | beaten by | last point |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = sorted(front.stands, key=lambda s: (not s.reaches, -s.general.value))
    lines += [_row(stand, front) for stand in order]
    lines += ["", "Change of each ability at the first checkpoint that reaches it, in points, mean over the seeds:", ""]
    lines += [f"| arm | {' | '.join(REQUIRED)} |", "|---|" + "---|" * len(REQUIRED)]
    lines += [_changes(stand, results) for stand in order]
    return [*lines, ""]


def _row(stand: Stand, front: Frontier) -> str:
    last = [path[-1] for path in stand.paths]
    beaten = front.beaten_by(stand.arm)
    cells = [
        f"`{stand.arm}`",
        "" if stand.noop else f"{stand.reached} of {len(stand.paths)}",
        _points(stand.target),
        _points(stand.general),
        verdicts(stand),
        where(stand),
        f"{len(beaten)} arms" if len(beaten) > 2 else ", ".join(f"`{b}`" for b in beaten),
        " / ".join(points(float(np.mean(values))) for values in ([s.target for s in last], [s.general for s in last])),
    ]
    return f"| {' | '.join(cells)} |"


def _points(found: Estimate) -> str:
    return f"{points(found.value)} [{interval(found.both)}]"


def _changes(stand: Stand, results: Results) -> str:
    """By ability, from the very checkpoints where each seed stands."""
    seeds = results.plan.experiment.seeds
    by_seed = {o.seed: o for o in results.outcomes if o.arm == stand.arm}
    picked = [
        next(p for p in by_seed[seed].points if p.label == label) for seed, label in zip(seeds, stand.at, strict=True)
    ]
    cells = [points(float(np.mean([_change(p.grade.cells, name) for p in picked]))) for name in REQUIRED]
    return f"| `{stand.arm}` | {' | '.join(cells)} |"


def _change(cells: Sequence[Cell], name: str) -> float:
    """Mean change of a top-level task_type over its task_types, fraction of 1."""
    mine = [c for c in cells if c.task_type.split("/")[0] == name]
    return float(np.mean([(c.candidate - c.base)[c.scored].mean() for c in mine]))
