"""Imported runs among a workspace's own: their aliases, and the tasks that a comparison with them is about.

Two imported runs are compared on whatever they hold; no suite is read. With an own run beside it an imported one is
held against the suite: a task of the suite that it lacks makes the runs incomparable, unless only what all have was
asked for (--shared-only).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from forgetbench.config import SuiteConfig, SuiteTask
from forgetbench.errors import IncomparableError, UsageError
from forgetbench.runs.importers import IMPORTED
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.flow import Loaded
    from forgetbench.runs.store import Run


def is_imported(ws: Workspace, alias: str) -> bool:
    """Whether an alias stands for imported results alone."""
    return ws.config.models[alias].engine == IMPORTED


def run_of(ws: Workspace, alias: str) -> Run:
    """Its run. Raises UsageError where nothing was imported."""
    from forgetbench.runs.importers.store import open_imported

    found = open_imported(ws.runs, alias)
    if found is None or not found.entries:
        cure = f"import them: forgetbench import FILE --model {alias}"
        raise UsageError(f"model '{alias}'", f"has no imported results in {ws.runs}", cure)
    return found


def checkpoint_of(ws: Workspace, alias: str) -> Checkpoint:
    """In place of a checkpoint: the alias is its identity. It has a template if it was imported in the chat view."""
    from forgetbench.checkpoints.checkpoint import Checkpoint

    run = run_of(ws, alias)
    return Checkpoint(
        alias=alias,
        spec=ws.spec(alias),
        folder=run.path,
        digest=run.fingerprint,
        parts={},
        has_chat_template=any(e.identity.view == "chat" for e in run.entries),
        stop_ids=(),
    )


def tasks(ws: Workspace, aliases: Sequence[str]) -> tuple[Workspace, Loaded]:
    """The workspace with the suite that a comparison of these models is about, and its tasks.

    Raises IncomparableError where an imported run lacks what the suite asks.
    """
    runs = [run_of(ws, alias) for alias in aliases if is_imported(ws, alias)]
    if not runs:
        return ws, ws.tasks()
    if len(runs) == len(aliases):
        return _own_suite(ws, runs)
    names = [{e.identity.task for e in run.entries} for run in runs]
    asked = [entry.key for entry in ws.suite.tasks]
    shared = [key for key in asked if all(key in mine for mine in names)]
    lacking = [
        f"{run.alias} (imported) has no records of {', '.join(missing)}"
        for run, mine in zip(runs, names, strict=True)
        if (missing := [key for key in asked if key not in mine])
    ]
    if not shared or (lacking and not ws.shared_only):
        cure = f"suite {ws.suite.name} asks for them: name a suite of what there is, or pass --shared-only"
        raise IncomparableError([*lacking, cure])
    entries = tuple(entry for entry in ws.suite.tasks if entry.key in shared)
    notes = (
        *lacking,
        *(f"{r.alias} (imported): {n}" for r, m in zip(runs, names, strict=True) for n in _extra(m, asked)),
    )
    told = tuple(f"not compared: {line}" for line in notes)
    ws = replace(ws, suite=ws.suite.model_copy(update={"tasks": entries}), told=told)
    return ws, ws.tasks()


def _extra(mine: set[str], asked: Sequence[str]) -> list[str]:
    more = sorted(mine - set(asked))
    return [f"the suite does not ask {', '.join(more)}"] if more else []


def _own_suite(ws: Workspace, runs: Sequence[Run]) -> tuple[Workspace, Loaded]:
    from forgetbench.runs.importers.suite import imported_tasks

    if ws.limit is not None:
        raise UsageError("--limit", "imported runs are compared whole", "leave it out")
    loaded: list[tuple[SuiteTask, object]] = []
    for task, views in imported_tasks(runs):
        loaded.append((SuiteTask(set=IMPORTED, name=task.name, views=views), task))
    views = tuple(dict.fromkeys(v for entry, _ in loaded for v in entry.views or ()))
    suite = SuiteConfig(name=IMPORTED, views=views, tasks=tuple(entry for entry, _ in loaded))
    return replace(ws, suite=suite), loaded  # type: ignore[return-value]
