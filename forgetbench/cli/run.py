"""`forgetbench run`."""

from __future__ import annotations

from collections.abc import Sequence

from forgetbench import flow
from forgetbench.cli.output import print_json, say
from forgetbench.cli.progress import bars
from forgetbench.workspace import Workspace


def run(ws: Workspace, models: Sequence[str], as_json: bool) -> None:
    loaded = ws.tasks()
    points = [flow.checkpoint(ws, alias) for alias in models]  # a wrong path must not surface after an hour
    done = []
    for point in points:
        with bars(point.alias) as progress:
            done.append(flow.run(ws, point.alias, loaded, progress, say))
    if as_json:
        print_json({"runs": [{"model": r.alias, "path": str(r.path)} for r in done]})
    else:
        for r in done:
            say(f"{r.alias}: {r.path}")
