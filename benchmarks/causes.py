"""Are the causes that are found the ones that were planted? On built mixed worlds, against an oracle's truth.

    python benchmarks/causes.py --work FOLDER --seeds 0 1 2 --out docs/causes.md

FOLDER/seed-N is a mixed world (python -m forgetbench.demo.mixed) with its truth.jsonl: for each item that the base
gets right in chat and the fine-tune does not, the cause as an oracle tells it from 200 samples of each side, which
shares no code with the search. Both checkpoints are run on the world's suite where they have not been, the search
asks its rounds, and each lost flip of the chat view is compared with the truth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from forgetbench.causes.types import Causes, Found

BASE, CANDIDATE, VIEW = "mixed_base", "mixed_sft", "chat"
LABELS = ("format", "refused", "truncated", "access", "overwritten", "weakened", "flicker")
OTHER = ("undetermined", "not recovered", "other")
MOST_FLIPS = 2_000
"""All of them: the search itself stops at 300 a task and view."""
DRAWS = 2000
READING = "## Reading it"
"""Heading of what a person wrote under the tables, which stays when they are made again."""
DEEPER = (40, 100)
"""Looks of the second table."""
WANTED = 0.8
RELIABLE = 0.6


class Row(NamedTuple):
    """One lost flip: what the oracle says, what the search says."""

    truth: str
    found: str
    cluster: str
    """Seed and what its items share: their subject, since causes are planted by subject."""
    seed: int
    near_edge: bool


@dataclass(frozen=True)
class Scored:
    """Shares of 1; each interval is (value, low, high)."""

    n: int
    n_found: int
    recall: tuple[float, float, float]
    precision: tuple[float, float, float]
    f1: tuple[float, float, float]


@dataclass(frozen=True)
class Table:
    labels: Mapping[str, Scored]
    macro: tuple[float, float, float]
    """Mean F1, and its two-sided 95 % interval."""
    macro_lower: float
    """One-sided 95 % lower bound."""


def merged(found: Found) -> str:
    """The search's cause in the oracle's words. What comes back under the other view or with worked examples was
    planted as one cause, so both are `access` here."""
    if found.cause in ("style", "access"):
        return "access"
    if found.cause == "not_recovered":
        return "overwritten" if found.overwritten else "not recovered"
    return found.cause if found.cause in (*LABELS, "undetermined") else "other"


def rows_of(causes: Causes, prompts: Mapping[Any, str], truth: Sequence[Mapping[str, Any]], seed: int) -> list[Row]:
    """Lost flips of the chat view that the oracle judged. prompts: the question of each item's key."""
    told = {entry["prompt"]: entry for entry in truth}
    rows = []
    for found in causes.found:
        if found.view != VIEW or found.direction != "lost":
            continue
        entry = told.get(prompts[found.key])
        if entry is not None and entry.get("truth") is not None:
            cluster = f"{seed}/{found.cluster or found.key}"
            rows.append(Row(entry["truth"], merged(found), cluster, seed, bool(entry.get("near_edge"))))
    return rows


def figures(rows: Sequence[Row], *, draws: int = DRAWS, seed: int = 0) -> Table:
    """Recall, precision and F1 of each cause with 95 % percentile intervals from a bootstrap of clusters."""
    names = sorted({r.cluster for r in rows})
    place = {name: i for i, name in enumerate(names)}
    # (clusters, labels, 3): right, true, found.
    cells = np.zeros((len(names), len(LABELS), 3))
    for r in rows:
        for i, label in enumerate(LABELS):
            is_true, is_found = r.truth == label, r.found == label
            cells[place[r.cluster], i] += (is_true and is_found, is_true, is_found)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=draws).astype(np.float64)
    point = _scores(cells.sum(axis=0)[None])[0]
    drawn = _scores(np.einsum("dc,clk->dlk", weights, cells))
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    made = {}
    for i, label in enumerate(LABELS):
        totals = cells[:, i].sum(axis=0)
        parts = [(float(point[i, k]), float(low[i, k]), float(high[i, k])) for k in range(3)]
        made[label] = Scored(int(totals[1]), int(totals[2]), *parts)
    planted = [i for i, label in enumerate(LABELS) if made[label].n]
    macro = drawn[:, planted, 2].mean(axis=1)
    ends = [float(q) for q in np.nanquantile(macro, [0.025, 0.975, 0.05])]
    return Table(made, (float(point[planted, 2].mean()), ends[0], ends[1]), ends[2])


def _scores(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., labels, 3) of right, true, found -> recall, precision, F1; nan where there is nothing to divide by."""
    right, true, found = np.moveaxis(cells, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([right / true, right / found, 2.0 * right / (true + found)], axis=-1)


def search(config: Path, further: Sequence[int] = (40,)) -> tuple[Causes, dict[Any, str], float]:
    """The causes of a built world, its questions by item key, and the seconds that the search took."""
    from forgetbench import flow, running
    from forgetbench.analysis.compare import compare_runs
    from forgetbench.analysis.pairing import Selection
    from forgetbench.causes.find import find_causes
    from forgetbench.causes.types import Options
    from forgetbench.findings import scored_metrics
    from forgetbench.rounds import Rounds, Side
    from forgetbench.tasks.questions import question_of
    from forgetbench.workspace import open_workspace

    ws = open_workspace(config, models=[BASE, CANDIDATE])
    loaded = ws.tasks()
    points = {alias: flow.checkpoint(ws, alias) for alias in (BASE, CANDIDATE)}
    runs = running.run_all(ws, list(points.values()), loaded, print)
    metrics = scored_metrics(ws, loaded)
    comparison = compare_runs(
        runs[BASE], runs[CANDIDATE], suite=ws.suite.name, selection=Selection(frozenset(metrics)), metrics=metrics
    )
    base, candidate = (Side(point, runs[alias], flow.jobs(ws, loaded, point)) for alias, point in points.items())
    begin = time.monotonic()
    options = Options(most_flips=MOST_FLIPS, further=tuple(further))
    with Rounds(ws, loaded, [base, candidate], print) as rounds:
        causes = find_causes(base, candidate, comparison, rounds, options)
    prompts = {item.key: question_of(task, item).text for _, task in loaded for item in task.load()}
    return causes, prompts, time.monotonic() - begin


def _percent(values: tuple[float, float, float]) -> str:
    return "-" if np.isnan(values[0]) else "{:.0f} ({:.0f} to {:.0f})".format(*(100 * v for v in values))


def lines_of(rows: Sequence[Row], per_seed: Mapping[int, Causes], command: str, commit: str) -> list[str]:
    table = figures([r for r in rows if r.truth in LABELS])
    clear = figures([r for r in rows if r.truth in LABELS and not r.near_edge])
    lines = [
        "# A cause for every flip: what is found against what was planted",
        "",
        f"Made by `{command}` at commit `{commit}`. Lost flips of the chat view of the mixed world, {len(per_seed)} "
        "seeds. Shares in percent, with 95 % intervals from a bootstrap of clusters (subject within seed). The truth "
        "is an oracle's: 200 samples of each side, no code shared. An item whose rate lies at an edge between two "
        "causes may rightly be called either, so that the last column leaves out those within two standard errors of "
        "an edge. `access` is *style* and *access* of the search together: the world plants one of them.",
        "",
        "| cause | flips (by seed) | found | recall | precision | F1 | F1 away from edges |",
        "|---|---|---|---|---|---|---|",
    ]
    flips = Counter((r.truth, r.seed) for r in rows)
    for label, s in table.labels.items():
        by_seed = ", ".join(str(flips[label, seed]) for seed in per_seed)
        cells = [label, f"{s.n} ({by_seed})", str(s.n_found), *map(_percent, (s.recall, s.precision, s.f1))]
        lines.append(f"| {' | '.join(cells)} | {_percent(clear.labels[label].f1)} |")
    away = f"{_percent(clear.macro)}, lower bound {100 * clear.macro_lower:.1f}"
    lines += [
        "",
        f"Macro-F1 {_percent(table.macro)}; one-sided 95 % lower bound {100 * table.macro_lower:.1f} (wanted: at least "
        f"{100 * WANTED:.0f}). Away from edges {away}.",
    ]
    weak = [label for label, s in table.labels.items() if s.n and s.f1[0] < RELIABLE]
    lines.append(f"Below {100 * RELIABLE:.0f}, so unreliable: {', '.join(weak) if weak else 'none'}.")
    lines += ["", *_confusion(rows), "", *_by_seed(rows, per_seed)]
    return lines


def _confusion(rows: Sequence[Row]) -> list[str]:
    columns = (*LABELS, *OTHER)
    counts = Counter((r.truth, r.found) for r in rows)
    lines = [f"| truth \\ found | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for truth in (*LABELS, "unclear"):
        lines.append(f"| {truth} | {' | '.join(str(counts[truth, c] or '') for c in columns)} |")
    return lines


def _by_seed(rows: Sequence[Row], per_seed: Mapping[int, Causes]) -> list[str]:
    lines = [
        "| seed | flips judged | macro-F1 | concordant items called changed | requests | tokens | sentence |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, causes in per_seed.items():
        mine = [r for r in rows if r.seed == seed and r.truth in LABELS]
        macro = _percent(figures(mine).macro) if mine else "-"
        controls = [c for c in causes.controls if c.view == VIEW]
        alarms = sum(c.right.right + c.wrong.right for c in controls)
        of = sum(c.right.n + c.wrong.n for c in controls)
        said = " ".join(t.sentence for t in causes.tasks if t.view == VIEW)
        cost = causes.cost
        lines.append(
            f"| {seed} | {len(mine)} | {macro} | {alarms} of {of} | {cost.requests:,} | {cost.generated_tokens:,} "
            f"| {said} |"
        )
    return lines


def deeper_lines(rows: Sequence[Row], deep: Sequence[Row], tokens: tuple[int, int]) -> list[str]:
    """What a third look at undetermined flips changes: F1 of each cause before and after, and its price."""
    first, second = (figures([r for r in kind if r.truth in LABELS]) for kind in (rows, deep))
    found = [sum(r.found == "undetermined" for r in kind) for kind in (rows, deep)]
    more = 100 * (tokens[1] / tokens[0] - 1)
    lines = [
        "## With a third look",
        "",
        f"`study: {{further: {list(DEEPER)}}}` asks what is undetermined after 60 samples of each side {DEEPER[1]} "
        f"times more: {found[1]} undetermined flips in place of {found[0]}, {more:.0f} % more tokens.",
        "",
        "| cause | F1 | with a third look | recall | precision |",
        "|---|---|---|---|---|",
    ]
    for label, before in first.labels.items():
        after = second.labels[label]
        cells = [label, *map(_percent, (before.f1, after.f1, after.recall, after.precision))]
        lines.append(f"| {' | '.join(cells)} |")
    last = f"Macro-F1 {_percent(second.macro)}, lower bound {100 * second.macro_lower:.1f}."
    return ["", *lines, "", last]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the worlds lie, as seed-0, seed-1, ...")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--command", default="make proof-causes", help="what the table says it was made by")
    parser.add_argument("--out", type=Path, help="write the table here")
    args = parser.parse_args()
    rows: list[Row] = []
    deep: list[Row] = []
    per_seed: dict[int, Causes] = {}
    tokens = [0, 0]
    for seed in args.seeds:
        root = args.work / f"seed-{seed}"
        truth = [json.loads(entry) for entry in (root / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
        causes, prompts, seconds = search(root / "forgetbench.yaml")
        print(f"seed {seed}: {seconds:.0f} s; {'; '.join(causes.notes) or 'no notes'}")
        per_seed[seed] = causes
        rows += rows_of(causes, prompts, truth, seed)
        deeper, _, _ = search(root / "forgetbench.yaml", DEEPER)
        deep += rows_of(deeper, prompts, truth, seed)
        tokens[0] += causes.cost.generated_tokens
        tokens[1] += deeper.cost.generated_tokens
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = lines_of(rows, per_seed, args.command, commit)
    text = "\n".join([*lines, *deeper_lines(rows, deep, (tokens[0], tokens[1]))]) + "\n"
    print(text)
    if args.out:
        old = args.out.read_text(encoding="utf-8") if args.out.exists() else ""
        _, heading, written = old.partition(READING)
        args.out.write_text(f"{text}\n{heading}{written}" if heading else text, encoding="utf-8")


if __name__ == "__main__":
    main()
