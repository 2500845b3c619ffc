"""Do sequential decisions err at most alpha wherever they stop, how much do they save, and where do they pay?

    make sequential         or: python -m benchmarks.sequential [--quick] [--out docs/sequential.md]

Streams of items whose truth is known, looked at after every single item; then the published per-item results of real
base and fine-tuned models (base_vs_sft_code), consumed in many seeded orders. Ends with exit code 1 where an error rate
is above alpha by more than its own sampling error allows (99 %).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.sequential_table import document
from forgetbench.analysis.betting import bets, first_boundary, log_wealth
from forgetbench.analysis.paired import estimator
from forgetbench.analysis.power import p_fail, p_pass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ALPHA = 0.05
MARGINS = {164: 0.05, 541: 0.05, 817: 0.04, 1_319: 0.03, 14_042: 0.01}
DISCORDANCE = (0.05, 0.10, 0.20, 0.30)
_AT_ONCE = 1_500_000
"""Items simulated side by side."""


@dataclass(frozen=True, slots=True)
class Cell:
    n: int
    psi: float
    """Chance that an item changes sides; with K = 10, that one sample of each side disagrees."""
    delta: float
    samples: int = 1

    @property
    def margin(self) -> float:
        return MARGINS[self.n]


@dataclass(frozen=True, slots=True)
class Rates:
    cell: Cell
    streams: int
    passed: float
    failed: float
    used: float
    """Mean share of the items used."""
    median: float
    fixed: float
    """P(PASS | no change), else P(FAIL), of the test that waits for all items (analysis/power.py); of K = 1."""
    fastest: float
    """Share of the items that any test of the same level with power one needs on average; nan: neither is true."""


def law(cell: Cell) -> tuple[Floats, Floats]:
    """(values, chances) of one item's difference.

    K = 1: -1, 0 and 1. K = 10: the mean of ten samples of each side, whose success rates are .8 and .2 (or the other
    way round) on the items that move, and equal and certain on the others.
    """
    if cell.samples == 1:
        lost, gained = (cell.psi - cell.delta) / 2.0, (cell.psi + cell.delta) / 2.0
        return np.asarray([-1.0, 0.0, 1.0]), np.asarray([lost, 1.0 - lost - gained, gained])
    k = cell.samples
    binomial = [np.asarray([math.comb(k, i) * p**i * (1 - p) ** (k - i) for i in range(k + 1)]) for p in (0.8, 0.2)]
    values = np.arange(-k, k + 1) / k
    falls, rises = np.convolve(binomial[1], binomial[0][::-1]), np.convolve(binomial[0], binomial[1][::-1])
    moving = cell.psi / 0.68  # one sample of each side disagrees with chance .8 * .8 + .2 * .2
    share = 0.5 - cell.delta / moving / 1.2  # each moving item shifts the mean by .6
    mixed = moving * (share * falls + (1.0 - share) * rises)
    mixed[k] += 1.0 - moving
    return values, mixed


def streams(cell: Cell, count: int, seed: int) -> Iterator[Floats]:
    """(some, n) differences, `count` rows altogether."""
    rng = np.random.default_rng([seed, cell.n, round(1_000 * cell.psi), round(-10_000 * cell.delta), cell.samples])
    values, chances = law(cell)
    edges = np.cumsum(chances)[:-1]
    step = max(1, _AT_ONCE // cell.n)
    for start in range(0, count, step):
        yield values[np.searchsorted(edges, rng.random((min(step, count - start), cell.n)), side="right")]


def boundaries(d: Floats, margin: float, fail_alpha: float = ALPHA) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows,) the item at which each leg is won, n where it never is: `first_boundary` for many streams at once."""
    ones, grid = np.ones(d.shape[1]), bets(margin)
    found = []
    for sums, mu, alpha in ((d, -margin, ALPHA), (-d, margin / 2.0, fail_alpha)):
        won = log_wealth(sums, ones, mu, grid) >= -math.log(alpha)
        found.append(np.where(won.any(axis=1), won.argmax(axis=1), d.shape[1]))
    return found[0], found[1]


def simulate(cell: Cell, count: int, seed: int = 1) -> Rates:
    made = [boundaries(d, cell.margin) for d in streams(cell, count, seed)]
    passes, fails = (np.concatenate(side) for side in zip(*made, strict=True))
    used = np.minimum(np.minimum(passes, fails) + 1, cell.n) / cell.n
    variance = float(law(cell)[1] @ law(cell)[0] ** 2) - cell.delta**2
    return Rates(
        cell,
        count,
        float((passes < fails).mean()),
        float((fails < passes).mean()),
        float(used.mean()),
        float(np.median(used)),
        (p_fail if cell.delta else p_pass)(cell.n, cell.margin, cell.psi, delta=cell.delta),
        fastest(cell, variance),
    )


def fastest(cell: Cell, variance: float) -> float:
    """log(1/alpha) over the largest growth that any bet has, over n.

    No test of level alpha that ends with power one ends sooner on average: Wald (1945), with the divergence to the
    nearest bounded law under the hypothesis in its dual form, max over L of E log(1 + L X): Honda and Takemura (2010),
    "An asymptotically optimal bandit algorithm for bounded support models".
    """
    values, chances = law(cell)
    if cell.delta > -cell.margin / 2.0:
        x = values + cell.margin
    elif cell.delta < -cell.margin / 2.0:
        x = -values - cell.margin / 2.0
    else:
        return math.nan
    largest = 0.999 / -float(x.min())
    near = float(chances @ x) / (variance + float(chances @ x) ** 2)
    grid = np.linspace(0.0, min(largest, 3.0 * near), 3_000)
    growth = float((np.log1p(np.outer(grid, x)) @ chances).max())
    return math.log(1.0 / ALPHA) / growth / cell.n


def family_blocks(n: int, psi: float, delta: float, sets: int, count: int) -> float:
    """P(any of `sets` rules FAILs | all have lost delta): each at alpha / sets."""
    cell = Cell(n, psi, delta)
    wins = [boundaries(d, cell.margin, ALPHA / sets) for d in streams(cell, count * sets, 2)]
    passes, fails = (np.concatenate(side) for side in zip(*wins, strict=True))
    return float((fails < passes).reshape(count, sets).any(axis=1).mean())


def peeked(n: int, psi: float, looks: int, count: int) -> float:
    """P(a false PASS) of the fixed-n test looked at `looks` times: why bets are needed."""
    cell = Cell(n, psi, -MARGINS[n])
    at = [math.ceil(n * (i + 1) / looks) for i in range(looks)]
    wrong = 0
    for d in streams(cell, count, 3):
        for row in d:
            seen = (np.cumsum(row), np.cumsum(row**2))
            for t in at:
                mean, square = seen[0][t - 1] / t, seen[1][t - 1] / t
                if mean - 1.645 * math.sqrt(max(square - mean**2, 0.0) / t) > -cell.margin and square > 0:
                    wrong += 1
                    break
    return wrong / count


@dataclass(frozen=True, slots=True)
class RealPair:
    name: str
    base: str
    candidate: str
    n: int
    delta: float
    psi: float
    """Mean absolute difference."""
    fixed: str
    """The gate's state with all items."""
    passed: float
    failed: float
    used: float


def real_pairs(folder: Path, name: str, orders: int, margin: float = 0.05) -> Iterator[RealPair]:
    """Every pair of one set, in `orders` seeded orders of its items."""
    rows: dict[str, dict[str, float]] = {}
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            rows.setdefault(row["model"], {})[row["example_id"]] = float(row["pass1"])
    for base, candidate in json.loads((folder / f"{name}.pairs.json").read_text(encoding="utf-8")):
        items = sorted(rows[base].keys() & rows[candidate].keys())
        before = np.asarray([rows[base][i] for i in items])
        after = np.asarray([rows[candidate][i] for i in items])
        d, n = after - before, len(items)
        single = bool(np.isin(np.concatenate([before, after]), (0.0, 1.0)).all())
        fit = estimator(before, after, np.arange(n), single=single)
        passes, fails = fit.lower(ALPHA) > -margin, fit.p_at_least(-margin / 2.0) <= ALPHA
        rng = np.random.default_rng(7)
        stops = [first_boundary(d[rng.permutation(n)], np.ones(n), margin=margin) for _ in range(orders)]
        yield RealPair(
            name,
            base,
            candidate,
            n,
            float(d.mean()),
            float(np.abs(d).mean()),
            "PASS" if passes else "FAIL" if fails else "INCONCLUSIVE",
            sum(s.leg == "PASS" for s in stops) / orders,
            sum(s.leg == "FAIL" for s in stops) / orders,
            sum(s.units for s in stops) / orders / n,
        )


def level_cells() -> Iterator[Cell]:
    """At the edge of each hypothesis."""
    for (n, margin), psi in product(MARGINS.items(), DISCORDANCE):
        for delta in (-margin, -margin / 2.0):
            if psi >= -delta:
                yield Cell(n, psi, delta)
    for psi, delta in product((0.10, 0.20), (-0.05, -0.025)):
        yield Cell(541, psi, delta, samples=10)


def too_high(rate: float, count: int) -> bool:
    """Above alpha by more than chance allows (one-sided 99 %)."""
    return rate > ALPHA + 2.326 * math.sqrt(ALPHA * (1.0 - ALPHA) / count)


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 streams a cell, one real set: for a look")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FORGETBENCH_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, help="write the tables there instead of printing them")
    given = parser.parse_args(arguments)
    count, orders = (200, 20) if given.quick else (2_000, 200)
    start = time.monotonic()
    levels = [simulate(cell, count) for cell in level_cells()]
    gsm8k = [simulate(Cell(1_319, psi, delta), count) for psi in DISCORDANCE for delta in (0.0, -0.05)]
    mmlu = [simulate(Cell(14_042, p, delta), max(count // 4, 100)) for p in (0.05, 0.1, 0.2) for delta in (0.0, -0.03)]
    families = [
        (psi, delta, family_blocks(541, psi, delta, 20, max(count // 4, 50)))
        for psi in (0.10, 0.30)
        for delta in (0.0, -0.025)
    ]
    naive = peeked(1_319, 0.10, 20, count)
    folder = given.data / "published" / "base_vs_sft_code"
    names = ("mbpp_plus",) if given.quick else ("mbpp_plus", "humaneval_plus", "lcb_codegen")
    real = [pair for name in names for pair in real_pairs(folder, name, orders)]
    bad = [
        f"n={r.cell.n:,}, discordance {r.cell.psi:.0%}, change {100 * r.cell.delta:+.1f}: {rate:.3f} false {what}"
        for r in levels
        for rate, what in ((r.passed, "PASS"), (r.failed, "FAIL"))
        if too_high(rate, r.streams) and (r.cell.delta <= -r.cell.margin) == (what == "PASS")
    ]
    bad += [
        f"twenty rules, discordance {psi:.0%}, change {100 * delta:+.1f}: {rate:.3f} blocked"
        for psi, delta, rate in families
        if too_high(rate, max(count // 4, 50))
    ]
    command = "python -m benchmarks.sequential" + (" --quick" if given.quick else "")
    text = document(
        levels, gsm8k, mmlu, families, naive, real, bad, command=command, count=count, orders=orders,
        seconds=time.monotonic() - start,
    )  # fmt: skip
    if given.out is None:
        say(text)
    else:
        given.out.write_text(text, encoding="utf-8")
        say(f"{given.out}: {len(levels)} cells of {count:,} streams; {len(bad)} above alpha")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
