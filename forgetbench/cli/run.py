"""`forgetbench run`."""

from __future__ import annotations

from collections.abc import Sequence

from forgetbench import flow, imported
from forgetbench.cli.output import print_json, say
from forgetbench.cli.progress import is_shown_elsewhere
from forgetbench.cli.work import How, run_points
from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace


def run(ws: Workspace, how: How, *, only: Sequence[str] = (), as_json: bool) -> None:
    """`only` limits it to some of the models that were named."""
    unknown = sorted(set(only) - set(ws.chosen))
    if unknown:
        raise UsageError("--only", f"'{unknown[0]}' is none of the models named", f"use {', '.join(ws.chosen)}")
    aliases = list(dict.fromkeys(alias for alias in ws.chosen if not only or alias in only))
    for alias in aliases:
        if imported.is_imported(ws, alias):
            raise UsageError(f"model '{alias}'", "is imported: there is nothing to run", "leave it out")
    loaded = ws.tasks()
    # Now, since a wrong path must not surface after an hour.
    points = [flow.checkpoint(ws, alias, to_run=True) for alias in aliases]
    done = run_points(ws, points, loaded, how)
    if as_json:
        print_json({"runs": [{"model": r.alias, "path": str(r.path)} for r in done.values()]})
    elif not is_shown_elsewhere():
        for r in done.values():
            say(f"{r.alias}: {r.path}")
