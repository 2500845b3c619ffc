"""Do the intervals hold what they say, does the gate block by mistake no more often than alpha, is power as computed?

    make calibration        or: python -m benchmarks.calibration [--quick] [--out docs/calibration.md]

Every cell of n x discordance x samples is simulated at three true changes: none, half the margin lost, the whole margin
lost. 40,000 comparisons each (2,000 families of twenty sets). Ends with exit code 1 where a limit is missed:

- the default interval covers at least 94 % in every cell;
- the gate blocks at most alpha of what did not change or lost no more than half the margin, with one set and with
  twenty: no cell above alpha by more than its own sampling error allows (99 %), nor all cells together;
- the share of passes is what `gate/power.py` computes beforehand, within 4 points and sampling error.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.calibration_cells import (
    ALPHA,
    DISCORDANCE,
    MARGINS,
    Cell,
    Comparison,
    Population,
    blocked,
    percentile_coverage,
    pool,
    population,
    t_coverage,
)
from benchmarks.calibration_exact import exact_coverage
from benchmarks.calibration_loss import SCENARIOS, LossResult, loss_coverage
from benchmarks.calibration_table import document
from forgetbench.analysis.power import p_pass

COVERAGE = 0.94
FAMILY = 20
POWER_CLOSE = 0.04
"""What the normal approximation of `power.py` may be off by; the sampling error of the share comes on top."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is simulated."""

    families: int = 2_000
    """Families of twenty sets; twenty times as many comparisons are looked at alone."""
    covered: int = 10_000
    """Comparisons whose interval is held against the truth, at K = 10; at K = 1 the coverage is exact."""
    full: int = 2_000
    """Comparisons in which every bound is computed to the end (passes at K = 10, the plain intervals)."""
    draws: int = 500
    """Bootstrap draws inside a comparison; the program's default is 10,000."""
    datasets: int = 60
    """Data sets a scenario for the expected loss, which is dear."""
    loss_draws: int = 100


@dataclass(frozen=True, slots=True)
class Result:
    """Rates in one cell at one true change; None: not asked there."""

    cell: Cell
    delta: float
    comparisons: int
    families: int
    coverage: float
    block_one: float
    block_twenty: float
    passes: float
    passes_of: int
    """Comparisons that `passes` is a share of."""
    passes_computed: float
    simultaneous: float
    """Share of families of twenty whose simultaneous upper bounds all hold."""
    t: float
    percentile: float | None
    """At half the margin lost only, since it is dear."""


def simulate(cell: Cell, delta: float, size: Size) -> Result | None:
    """None where so large a change does not fit into the cell's discordance."""
    law = population(cell, delta)
    if law is None:
        return None
    rng = np.random.default_rng([cell.n, round(1000 * cell.psi), cell.samples, round(-10_000 * delta)])
    drawn = rng.multinomial(cell.n, law.shares, size=size.families * FAMILY)
    null, margin = -cell.margin / 2.0, cell.margin
    nulls = list(dict.fromkeys((delta, null, -margin)))
    made = list(pool(cell, drawn, law.values, draws=size.draws, nulls=nulls))
    families = [made[i : i + FAMILY] for i in range(0, len(made), FAMILY)]
    dear = percentile_coverage(cell, drawn[: size.full], law, delta, draws=size.draws) if delta == null else None
    covered = made[: size.covered]
    whole = made if cell.samples == 1 else made[: size.full]
    return Result(
        cell=cell,
        delta=delta,
        comparisons=len(made),
        families=len(families),
        coverage=_coverage(cell, law, delta, covered),
        block_one=_share(blocked([c], null, margin) for c in made),
        block_twenty=_share(blocked(f, null, margin) for f in families),
        passes=_share(c.passes(margin) for c in whole),
        passes_of=len(whole),
        passes_computed=p_pass(cell.n, margin, law.square, delta=delta, alpha=ALPHA),
        simultaneous=_share(all(c.holds(delta, ALPHA / FAMILY) for c in f) for f in families),
        t=t_coverage(cell, drawn, law, delta),
        percentile=dear,
    )


def _coverage(cell: Cell, law: Population, delta: float, drawn: Sequence[Comparison]) -> float:
    """Of single answers exactly; of K samples the share of the drawn comparisons."""
    if cell.samples == 1:
        return exact_coverage(cell.n, float(law.shares[0]), float(law.shares[2]))
    return _share(c.covers(delta) for c in drawn)


def _share(values: Iterable[bool]) -> float:
    return float(np.fromiter(values, dtype=np.float64).mean())


def cells(*, quick: bool) -> list[Cell]:
    sizes: Sequence[int] = (164, 1319) if quick else tuple(MARGINS)
    discordance = (0.10, 0.30) if quick else DISCORDANCE
    return [Cell(n, psi, k) for k, n, psi in product((1, 10), sizes, discordance)]


def changes(cell: Cell) -> tuple[float, float, float]:
    """None, half the margin lost, the whole margin lost."""
    return 0.0, -cell.margin / 2.0, -cell.margin


def run(size: Size, *, quick: bool, jobs: int) -> tuple[list[Result], list[LossResult]]:
    work = [(cell, delta) for cell in cells(quick=quick) for delta in changes(cell)]
    with ProcessPoolExecutor(jobs) as workers:
        losses = [workers.submit(loss_coverage, name, size.datasets, size.loss_draws) for name in SCENARIOS]
        found = workers.map(simulate, *zip(*work, strict=True), [size] * len(work))
        return [r for r in found if r is not None], [x.result() for x in losses]


def missed(results: Sequence[Result]) -> list[str]:
    """What fell short of the limits in the module's docstring; empty: all is well."""
    lines = [
        f"{_name(r)}: the default interval covers {100 * r.coverage:.2f} % (wanted {100 * COVERAGE:.0f})"
        for r in results
        if r.coverage < COVERAGE
    ]
    inside = [r for r in results if r.delta >= -r.cell.margin / 2.0]
    for sets in ("one", "twenty"):
        rates = [(r, getattr(r, f"block_{sets}"), r.comparisons if sets == "one" else r.families) for r in inside]
        for r, rate, n in rates:
            if rate > ALPHA + _noise(n):
                lines.append(f"{_name(r)}: {sets}: blocked by mistake {100 * rate:.2f} %")
        for share in (0.0, -0.5):
            group = [(rate, n) for r, rate, n in rates if math.isclose(r.delta, share * r.cell.margin)]
            total = sum(n for _, n in group)
            if group and sum(rate * n for rate, n in group) / total > ALPHA + _noise(total):
                lines.append(f"all cells at {share:+.1f} margins, {sets}: blocked by mistake above alpha")
    for r in results:
        if r.delta == 0.0 and abs(r.passes - r.passes_computed) > POWER_CLOSE + _noise(r.passes_of, r.passes_computed):
            lines.append(f"{_name(r)}: {100 * r.passes:.1f} % pass, computed {100 * r.passes_computed:.1f} %")
    return lines


def _noise(n: int, rate: float = ALPHA) -> float:
    """2.33 standard errors of a share of n: exceeded once in a hundred times."""
    return 2.33 * math.sqrt(rate * (1.0 - rate) / n)


def _name(r: Result) -> str:
    return f"n {r.cell.n}, discordance {100 * r.cell.psi:.0f} %, K {r.cell.samples}, change {100 * r.delta:+.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 of the 40 cells, an eighth of the families")
    parser.add_argument("--out", type=Path, help="write the tables there")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    size = Size(families=250, covered=5_000, full=500, draws=500, datasets=10) if options.quick else Size()
    start = time.perf_counter()
    results, losses = run(size, quick=options.quick, jobs=options.jobs)
    failures = missed(results)
    command = "python -m benchmarks.calibration" + (" --quick" if options.quick else "")
    text = document(results, losses, failures, command=command, draws=size.draws, covered=size.covered, full=size.full)
    print(text)
    print(f"{time.perf_counter() - start:.0f} s")
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
