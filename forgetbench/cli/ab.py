"""`forgetbench ab`: several ways to train, side by side at a matched target score."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from forgetbench.arms.config import load_experiment
from forgetbench.arms.frontier import Frontier
from forgetbench.arms.results import Results
from forgetbench.arms.run import grader_call, run
from forgetbench.cli.output import console, print_json, say
from forgetbench.errors import Exit, ForgetbenchError, UsageError
from forgetbench.report import frontier as frontier_page
from forgetbench.report import page
from forgetbench.report.frontier_words import failures, headline, reading, verdicts, where
from forgetbench.report.numbers import interval, points

PAGE, PICTURE, FIGURES = "report.html", "frontier.svg", "frontier.json"


class _Broken(ForgetbenchError):
    """No arm was finished: there is nothing to compare, and it is no verdict."""


def ab(
    experiment: Path,
    *,
    config: Path | None = None,
    out: Path | None = None,
    workers: int = 1,
    as_json: bool = False,
    data_dir: Path | None = None,
    offline: bool = False,
) -> None:
    """Train, grade and compare every arm of experiment.yaml; leaves with 0 where one is acceptable, else with 10.

    out: folder of the results; default: a folder beside the experiment, with its name and `-ab`. The same command goes
    on where it was stopped. Raises UsageError for what cannot be used, before anything is trained.
    """
    plan = load_experiment(experiment)
    place = experiment.with_name(f"{experiment.stem}-ab") if out is None else out
    if place.is_file():
        raise UsageError(str(place), "is a file", "name a folder with --out")
    call = grader_call(plan, config=config, data_dir=data_dir, offline=offline)
    results = run(plan, place, call, workers=workers, say=say)
    failed = failures([(o.arm, o.seed, o.error) for o in results.failed if o.error is not None])
    if not any(not arm.noop for arm in results.arms):
        told = "\n".join(f"arm '{name}', {why}" for name, why in failed.items())
        raise _Broken(f"{told}\nno arm was finished: mend it and run the same command again, which goes on")
    found = results.frontier()
    written = _write(results, found, failed)
    if as_json:
        print_json({**frontier_page.document(found, failed), "report": str(written), "out": str(place)})
    else:
        _show(found, failed)
        say(f"wrote {written}")
    sys.exit(Exit.PASS if found.acceptable else Exit.REGRESSION)


def _write(results: Results, found: Frontier, failed: dict[str, str]) -> Path:
    name = results.plan.file.stem
    figures = json.dumps(frontier_page.document(found, failed), ensure_ascii=False, indent=1)
    page.write(figures, results.out / FIGURES)
    page.write(frontier_page.standalone(found, name), results.out / PICTURE)
    seeds = results.plan.experiment.seeds
    text = frontier_page.render(found, title=name, seeds=seeds, failed=failed, banner=results.banner)
    return page.write(text, results.out / PAGE)


def _show(found: Frontier, failed: dict[str, str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("arm", overflow="fold")
    table.add_column("stands at")
    for column in ("target", "general"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("general, 95 %", justify="right", no_wrap=True)
    table.add_column("verdict")
    table.add_column("beaten by", overflow="fold")
    for s in found.stands:
        short = found.at is not None and not s.reaches and not s.noop
        table.add_row(
            escape(s.arm),
            where(s) + (" (short)" if short else ""),
            points(s.target.value),
            points(s.general.value),
            interval(s.general.both),
            verdicts(s),
            escape(", ".join(found.beaten_by(s.arm))) or "–",
        )
    print(headline(found))
    console().print(table)
    n = len(found.stands[0].paths)
    print(f"Points against the base, means over {n} {'seed' if n == 1 else 'seeds'}; intervals count seeds and items.")
    for line in reading(found, failed):
        print(line)
