"""`forgetbench ls`: the runs on disk, from their manifests alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forgetbench.cli.output import console, print_json, say
from forgetbench.config import Paths, find_config, load_config
from forgetbench.errors import UsageError


def runs_folder(config: Path | None) -> Path:
    """Where the runs of a config lie, or of the working directory where there is none."""
    try:
        file = find_config(config)
    except UsageError:
        # Runs of folders that were compared without a config lie under the working directory.
        return Path.cwd() / Paths().runs
    return file.resolve().parent / load_config(file).paths.runs


def ls(config: Path | None, as_json: bool) -> None:
    from forgetbench.runs.store import list_runs

    folder = runs_folder(config)
    runs = list_runs(folder, on_error=lambda e: say(f"forgetbench: {e}"))
    if as_json:
        print_json({"folder": str(folder), "runs": [_summary(run) for run in runs]})
        return
    if not runs:
        say(f"no runs in {folder}")
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("model", "checkpoint", "updated", "engine", "tasks (records)"):
        table.add_column(column)
    for run in runs:
        entries = ", ".join(
            f"{e.identity.task}/{e.identity.view} {e.n_records:,}"
            f"{' floor' if e.identity.replicate else ''}{'' if e.state == 'complete' else ' unfinished'}"
            for e in run.entries
        )
        engine = run.manifest.engine.get("name", "")
        table.add_row(run.alias, run.fingerprint[:12], run.manifest.updated, engine, entries)
    console().print(table)


def _summary(run: Any) -> dict[str, Any]:
    return {
        "model": run.alias,
        "checkpoint": run.fingerprint,
        "path": str(run.path),
        "updated": run.manifest.updated,
        "engine": run.manifest.engine,
        "tasks": [
            {
                "task": e.identity.task,
                "view": e.identity.view,
                "replicate": e.identity.replicate,
                "records": e.n_records,
                "state": e.state,
            }
            for e in run.entries
        ],
    }
