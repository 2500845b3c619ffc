"""The results of benchmarks/calibration.py as Markdown."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from benchmarks.calibration_loss import ITEMS, SAMPLES, LossResult

if TYPE_CHECKING:
    from benchmarks.calibration import Result

_INTRO = """\
Simulated comparisons whose truth is known. A cell is a number of items, a discordance (chance that one sample of each
side disagrees) and K samples an item. Counts of items are drawn, not items; the estimators are those of real
comparisons. K = 1 has Tango's score interval, K = 10 the cluster bootstrap-t with score guard; of the discordance at
K = 10 half is items that changed sides and half is flicker. Margins by n: 164 and 541 5 points, 817 4, 1,319 3,
14,042 1. All seeds are fixed.
"""


def document(
    results: Sequence[Result],
    losses: Sequence[LossResult],
    failures: Sequence[str],
    *,
    command: str,
    draws: int,
    covered: int,
    full: int,
) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    first = results[0]
    lines = [
        "# Calibration",
        "",
        _INTRO,
        f"Made by `{command}` at commit `{commit}`: {first.comparisons:,} comparisons a cell and true change, "
        f"{first.families:,} families of twenty sets, {draws:,} bootstrap draws in a comparison (the program's default "
        f"is 10,000). At K = 1 the coverage is exact, summed over all tables; at K = 10 {covered:,} comparisons for it "
        f"and {full:,} for the passes; {full:,} for the "
        "percentile interval.",
        "",
        *_summary(results, failures),
        *_section("Coverage of the default 95 % interval, in %", results, lambda r: f"{100 * r.coverage:.1f}"),
        *_section("Not the default: paired t (Miller 2024), in %", results, lambda r: f"{100 * r.t:.1f}"),
        *_section(
            "Not the default: percentile bootstrap, in %",
            [r for r in results if r.percentile is not None],
            lambda r: f"{100 * (r.percentile or 0.0):.1f}",
        ),
        *_section(
            "Twenty sets: share of families whose simultaneous upper bounds all hold, in % (wanted 95)",
            results,
            lambda r: f"{100 * r.simultaneous:.1f}",
        ),
        *_section(
            "Blocked by mistake, in %: one set / twenty sets, all with the same true change (alpha 5)",
            [r for r in results if r.delta >= -r.cell.margin / 2.0],
            lambda r: f"{100 * r.block_one:.2f} / {100 * r.block_twenty:.2f}",
        ),
        *_section(
            "Passes of one set, in %: simulated / computed by `analysis/power.py`; a whole margin lost: false passes",
            results,
            lambda r: f"{100 * r.passes:.1f} / {100 * r.passes_computed:.1f}",
        ),
        *_loss_section(losses),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _summary(results: Sequence[Result], failures: Sequence[str]) -> list[str]:
    worst = min(results, key=lambda r: r.coverage)
    cell = worst.cell
    inside = [r for r in results if r.delta >= -r.cell.margin / 2.0]
    null = [r for r in results if r.delta == 0.0]
    gap = max(abs(r.passes - r.passes_computed) for r in null)
    return [
        f"- Lowest coverage of the default interval: {100 * worst.coverage:.1f} % (n {cell.n:,}, discordance "
        f"{100 * cell.psi:.0f} %, K {cell.samples}, change {100 * worst.delta:+.1f} points); wanted: 94.",
        f"- Blocked by mistake, highest: {100 * max(r.block_one for r in inside):.2f} % with one set, "
        f"{100 * max(r.block_twenty for r in inside):.2f} % with twenty; where nothing changed "
        f"{100 * max(r.block_one for r in null):.2f} and {100 * max(r.block_twenty for r in null):.2f} %.",
        f"- Passes where nothing changed: at most {100 * gap:.1f} points from what was computed beforehand.",
        *(f"- MISSED: {line}" for line in failures),
        "",
    ]


def _section(title: str, results: Iterable[Result], show: Callable[[Result], str]) -> list[str]:
    """One row per n, K and true change, one column per discordance."""
    rows: dict[tuple[int, int, float], dict[float, str]] = {}
    for r in results:
        rows.setdefault((r.cell.samples, r.cell.n, -r.delta / r.cell.margin), {})[r.cell.psi] = show(r)
    psis = sorted({psi for row in rows.values() for psi in row})
    names = {0.0: "none", 0.5: "half the margin lost", 1.0: "the margin lost"}
    lines = [f"## {title}", "", "| K | n | true change | " + " | ".join(f"{100 * p:.0f} %" for p in psis) + " |"]
    lines.append("|---" * (3 + len(psis)) + "|")
    for (samples, n, share), row in rows.items():
        cells = " | ".join(row.get(p, "") for p in psis)
        lines.append(f"| {samples} | {n:,} | {names[round(share, 1)]} | {cells} |")
    return [*lines, ""]


def _loss_section(losses: Sequence[LossResult]) -> list[str]:
    lines = [
        "## Expected loss and gain (joint maximum likelihood)",
        "",
        f"{ITEMS} items, {SAMPLES} samples a side, {losses[0].datasets} data sets a row; in points, coverage of the",
        "95 % intervals in %. Where nothing changed the estimate lies above the truth; F* lies below a loss that is",
        "spread thin.",
        "",
        "| scenario | true loss | mean estimate | mean F* | coverage | true gain | mean estimate | coverage |",
        "|---" * 8 + "|",
    ]
    for x in losses:
        figures = (x.loss, x.mean_loss, x.mean_bound, x.loss_coverage, x.gain, x.mean_gain, x.gain_coverage)
        lines.append(f"| {x.scenario} | " + " | ".join(f"{100 * f:.1f}" for f in figures) + " |")
    return [*lines, ""]
