"""`forgetbench floor`: how much a checkpoint differs from itself."""

from __future__ import annotations

from dataclasses import asdict

from forgetbench import floor as floors
from forgetbench import flow, imported, running
from forgetbench.cli.output import console, print_json, say
from forgetbench.cli.progress import bars
from forgetbench.cli.work import How, run_points
from forgetbench.errors import UsageError
from forgetbench.findings import scored_metrics
from forgetbench.workspace import Workspace


def floor(ws: Workspace, how: How, *, as_json: bool) -> None:
    (alias,) = ws.chosen
    if imported.is_imported(ws, alias):
        raise UsageError(f"model '{alias}'", "is imported: there is nothing to run a second time", "name a model")
    loaded = ws.tasks()
    metrics = scored_metrics(ws, loaded)
    point = flow.checkpoint(ws, alias, to_run=True)
    first = run_points(ws, [point], loaded, how)[alias]
    say(f"running {alias} again: other seeds, other batch shapes")
    again = running.run_all(
        ws,
        [floors.other_shapes(point)],
        loaded,
        say,
        bars=bars,
        use_cache=how.use_cache,
        replicate=floors.REPLICATE,
    )[alias]
    rows = floors.measure(first, again, suite=ws.suite.name, metrics=metrics)
    floors.store(first, again, rows)
    if as_json:
        print_json({"model": alias, "path": str(first.path), "floors": [asdict(row) for row in rows]})
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(("task", "view", "items", "flips %", "95 %", "distance", "texts %", "logprob")):
        table.add_column(column, justify="left" if i < 2 else "right")
    for row in rows:
        table.add_row(
            row.task,
            row.view,
            f"{row.n:,}",
            f"{100 * row.flips:.2f}",
            f"{100 * row.interval.low:.2f} to {100 * row.interval.high:.2f}",
            f"{100 * row.distance:.2f}",
            f"{100 * row.texts:.1f}",
            "" if row.logprob is None else f"{row.logprob:.4f}",
        )
    console().print(table)
    print(
        f"{alias} against itself. flips: items whose score differs; distance: mean difference of scores, in points; "
        "texts: answers that are another text; logprob: mean difference per token, in nats. `compare` shows them."
    )
