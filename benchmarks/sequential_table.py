"""The results of benchmarks/sequential.py as Markdown."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.sequential import Rates, RealPair

_INTRO = """\
`forgetbench compare base sft --sequential` asks the candidate block by block, in an order given by a hash of each
item's content, and stops as soon as every required rule is decided. The base is run whole first: its answers serve
every later candidate.

Each rule has two bets (Waudby-Smith and Ramdas 2024; `analysis/betting.py`): PASS is a bet against "the mean change
is -margin or less", FAIL one against "the mean change is -margin/2 or more". The first that is won decides: wealth of
1/alpha for PASS, of J/alpha for FAIL with J required rules. The bets are fixed beforehand: the margin over a
discordance of 7, 12 and 20 %. No number of looks and no moment of stopping raises the error above alpha, and every
interval, bound and p value of a change that such a verdict shows holds at that moment; the change itself, read where
it stopped, exaggerates.

What was not asked is not lost: the answers so far are a valid part of a run, and a later `compare` without the flag
asks only the rest. Not with it: several candidates, `--train-data`, weighted scores, rules with a `test` of their own,
alarms, imported candidates. Choose it for a large set, a small discordance, or a candidate that may be far off; with
20 % of the items changing sides, the test that waits for all items decides more often.
"""


def document(
    levels: Sequence[Rates],
    gsm8k: Sequence[Rates],
    mmlu: Sequence[Rates],
    families: Sequence[tuple[float, float, float]],
    naive: float,
    real: Sequence[RealPair],
    bad: Sequence[str],
    *,
    command: str,
    count: int,
    orders: int,
    seconds: float,
) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    worst_pass = max((r for r in levels if r.cell.delta == -r.cell.margin), key=lambda r: r.passed)
    worst_fail = max((r for r in levels if r.cell.delta != -r.cell.margin), key=lambda r: r.failed)
    lines = [
        "# Sequential decisions",
        "",
        _INTRO,
        f"Made by `{command}` on top of commit `{commit}`: {count:,} streams a cell, looked at after every item, alpha "
        f"5 %, fixed seeds, {seconds:.0f} s.",
        "",
        f"- Highest rate of false passes at a loss of the whole margin: {100 * worst_pass.passed:.2f} % "
        f"({_name(worst_pass)}); of false blocks at a loss of half of it: {100 * worst_fail.failed:.2f} % "
        f"({_name(worst_fail)}).",
        f"- The fixed test looked at 20 times instead (GSM8K, discordance 10 %, the whole margin lost): passes falsely "
        f"in {100 * naive:.1f} %.",
        *_bars(gsm8k),
        *(f"- MISSED: {line}" for line in bad),
        "",
        "## What it costs and saves",
        "",
        "'fastest possible' is what no test of this level with power one can beat on average: log(1/alpha) over the "
        "largest growth of any bet; 'fixed' is the power of the test that waits for all items.",
        "",
        *_operating("GSM8K: 1,319 items, margin 3", gsm8k),
        *_operating("MMLU: 14,042 items, margin 1", mmlu),
        "## Errors at any stopping time, in %",
        "",
        "The true change stands at the edge of the hypothesis, where errors are most frequent: the whole margin lost "
        "(false PASS), half of it lost (false FAIL).",
        "",
        "| n | margin | K | discordance | false PASS | false FAIL |",
        "|---|---|---|---|---|---|",
        *_levels(levels),
        "",
        "Twenty rules with 541 items each, each at alpha / 20: share of candidates blocked by any of them.",
        "",
        "| discordance | true change of all | blocked, % |",
        "|---|---|---|",
        *(f"| {psi:.0%} | {100 * delta:+.1f} | {100 * rate:.2f} |" for psi, delta, rate in families),
        "",
        f"## Real models: {orders} orders of the same items",
        "",
        "Published per-item results (base_vs_sft_code, from all-the-noises/eval-arena; lcb_codegen: 10 samples an "
        "item), margin 5 points. 'moved': mean absolute change of an item; 'all items': the gate's state with the "
        "whole set.",
        "",
        "| set | base to fine-tuned | n | change | moved | all items | PASS | FAIL | items used |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_pair(pair) for pair in real),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _name(r: Rates) -> str:
    k = "" if r.cell.samples == 1 else f", K {r.cell.samples}"
    return f"n {r.cell.n:,}, discordance {r.cell.psi:.0%}{k}"


def _bars(gsm8k: Sequence[Rates]) -> list[str]:
    """What was asked of it at discordance up to 10 %: met or missed, with figures."""
    lines = []
    for r in gsm8k:
        if r.cell.psi <= 0.101:
            rate, bar = (r.failed, 0.30) if r.cell.delta else (r.passed, 0.60)
            what = "5 points lost" if r.cell.delta else "no change"
            met = "met" if r.used <= bar and rate >= 0.8 else "MISSED"
            lines.append(
                f"- GSM8K, discordance {r.cell.psi:.0%}, {what}: {100 * r.used:.1f} % of the items on average (bar "
                f"{100 * bar:.0f} %, fastest possible {100 * r.fastest:.1f} %), power {100 * rate:.1f} % (bar 80 %): "
                f"{met}."
            )
    return lines


def _operating(title: str, rates: Sequence[Rates]) -> list[str]:
    return [
        f"### {title}",
        "",
        "| discordance | change | PASS | FAIL | undecided | items used, mean | median | fastest possible | fixed |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {r.cell.psi:.0%} | {100 * r.cell.delta:+.0f} | {100 * r.passed:.1f} % | {100 * r.failed:.1f} % | "
            f"{100 * (1 - r.passed - r.failed):.1f} % | {100 * r.used:.1f} % | {100 * r.median:.1f} % | "
            f"{100 * r.fastest:.1f} % | {100 * r.fixed:.1f} % {'FAIL' if r.cell.delta else 'PASS'} |"
            for r in rates
        ),
        "",
    ]


def _levels(levels: Sequence[Rates]) -> list[str]:
    cells: dict[tuple[int, int, float, float], list[float]] = {}
    for r in levels:
        row = cells.setdefault((r.cell.samples, r.cell.n, r.cell.margin, r.cell.psi), [math.nan, math.nan])
        row[0 if r.cell.delta == -r.cell.margin else 1] = r.passed if r.cell.delta == -r.cell.margin else r.failed
    return [
        f"| {n:,} | {100 * margin:.0f} | {k} | {psi:.0%} | {100 * wrong[0]:.2f} | {100 * wrong[1]:.2f} |"
        for (k, n, margin, psi), wrong in cells.items()
    ]


def _pair(p: RealPair) -> str:
    return (
        f"| {p.name} | {p.base} to {p.candidate} | {p.n} | {100 * p.delta:+.1f} | {100 * p.psi:.1f} % | {p.fixed} | "
        f"{100 * p.passed:.0f} % | {100 * p.failed:.0f} % | {100 * p.used:.0f} % |"
    )
