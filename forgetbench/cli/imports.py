"""`forgetbench import` and `forgetbench score`: results and texts made elsewhere become runs like any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from forgetbench.cli.output import print_json, say
from forgetbench.errors import UsageError
from forgetbench.runs.importers import IMPORTED
from forgetbench.types import View
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.runs.importers import gather as importing
    from forgetbench.runs.importers import outputs as scoring
    from forgetbench.runs.importers.store import Imported
    from forgetbench.runs.store import Run
    from forgetbench.tasks.base import Task


def import_(ws: Workspace, paths: Sequence[Path], options: importing.Options, *, as_json: bool) -> None:
    """Read all files, then write: a broken one leaves no half of an import behind."""
    from forgetbench.runs.importers.gather import check_format, gather, samples_of

    check_format(options.format)
    programs = {path: task for path in paths if (task := samples_of(path, options)) is not None}
    rest = [path for path in paths if path not in programs]
    made, lines = gather(rest, options, lambda name: _task(ws, name)) if rest else ({}, [])
    for task in dict.fromkeys(programs.values()):
        files = [path for path, of in programs.items() if of == task]
        lines += _run_programs(ws, files, task, options, made)
    for line in lines:
        say(line)
    _store(ws, made, as_json)


def _run_programs(
    ws: Workspace, paths: Sequence[Path], name: str, options: importing.Options, made: dict[str, list[Imported]]
) -> list[str]:
    """Programs without results are run here, unless their results are imported with them. Adds to `made`."""
    from forgetbench.runs.importers.outputs import Options, score

    if len(options.models) != 1:
        raise UsageError("--model", "names no single model: files of programs do not name theirs", "give one alias")
    (alias,) = options.models
    if any(one.task == name for one in made.get(alias, ())):
        return [f"{path.name}: not run, as its results are imported with it" for path in paths]
    task = _task(ws, name)
    if task is None:
        raise UsageError(f"--task {name}", "there is no such task to run programs with", "name a built-in one")
    one, lines = score(paths, task, Options(view=options.view, fields=options.fields, allow_missing=True))
    made.setdefault(alias, []).append(one)
    return lines


def score(
    ws: Workspace, paths: Sequence[Path], alias: str, task_name: str, options: scoring.Options, *, as_json: bool
) -> None:
    """Score texts with our own scorers."""
    from forgetbench.runs.importers.outputs import score as score_texts

    _check_alias(ws, alias)
    task = _task(ws, task_name)
    if task is None:
        known = ", ".join(entry.key for entry in ws.suite.tasks)
        cure = f"name a built-in task, or one of suite {ws.suite.name} ({known})"
        raise UsageError(f"--task {task_name}", "there is no such task", cure)
    made, lines = score_texts(paths, task, options)
    for line in lines:
        say(line)
    _store(ws, {alias: [made]}, as_json)


def _store(ws: Workspace, made: dict[str, list[Imported]], as_json: bool) -> None:
    from forgetbench.runs.importers.store import store

    for alias in made:
        _check_alias(ws, alias)
    shown: list[dict[str, Any]] = []
    for alias, tasks in made.items():
        run, replaced = store(ws.runs, alias, tasks)
        shown.append(_summary(run, tasks, replaced))
        for one in () if as_json else tasks:
            again = ", in place of what was imported before" if one.task in replaced else ""
            counted = f"{len(one.items):,} items" + _rows(one)
            say(f"{alias}: {one.task} ({one.view}): {counted}, {one.metrics[0] if one.metrics else 'no metric'}{again}")
            for note in one.notes:
                say(f"{alias}: {note}")
    if as_json:
        print_json({"imported": shown})


def _rows(one: Imported) -> str:
    return "" if len(one.records) == len(one.items) else f", {len(one.records):,} samples"


def _summary(run: Run, tasks: Sequence[Imported], replaced: Sequence[str]) -> dict[str, Any]:
    return {
        "model": run.alias,
        "path": str(run.path),
        "tasks": [
            {
                "task": one.task,
                "view": one.view,
                "from": one.source,
                "items": len(one.items),
                "records": len(one.records),
                "metrics": list(one.metrics),
                "decode_id": one.decode_id,
                "notes": list(one.notes),
                "replaced": one.task in replaced,
            }
            for one in tasks
        ],
    }


def _check_alias(ws: Workspace, alias: str) -> None:
    """An alias of a model that has weights must not come to mean results from elsewhere too."""
    from forgetbench.config_fields import check_name

    try:
        check_name(alias)
    except ValueError as e:
        raise UsageError(f"--model {alias}", "is no name for a run", f"{e}; write ALIAS=NAME to rename it") from None
    known = ws.config.models.get(alias)
    if known is not None and known.engine != IMPORTED:
        problem = "is a model of the config, with weights or an endpoint of its own"
        raise UsageError(f"--model {alias}", problem, "give the imported results another alias")


def _task(ws: Workspace, name: str) -> Task | None:
    """The task of a name: of the suite, else built in. None: there is none, and the rows are the set."""
    from forgetbench.tasks.registry import CODE_TASKS, TASK_NAMES, get_task
    from forgetbench.tasks.source import DataSource

    entry = next((e for e in ws.suite.tasks if e.key == name), None)
    if entry is not None:
        return ws.task(entry)
    if name not in TASK_NAMES:
        return None
    options = {"unsafe_exec": True} if ws.unsafe_exec and name in CODE_TASKS else {}
    return get_task(name, source=DataSource(data_dir=ws.data_dir, offline=ws.offline), **options)


def view(value: str) -> View:
    """--view, checked."""
    if value not in get_args(View):
        raise UsageError("--view", f"there is no '{value}'", f"choose one of: {', '.join(get_args(View))}")
    return cast("View", value)


def pairs(flag: str, values: Sequence[str] | None) -> dict[str, str]:
    """`a=b` arguments as a mapping. Raises UsageError."""
    found: dict[str, str] = {}
    for value in values or ():
        name, equals, other = value.partition("=")
        if not (name and equals and other):
            raise UsageError(f"{flag} {value}", "is no pair", "write OURS=THEIRS")
        if name in found:
            raise UsageError(f"{flag} {value}", f"'{name}' is given twice", "give it once")
        found[name] = other
    return found


def metrics(values: Sequence[str] | None) -> dict[str, str]:
    """`NAME` (of a plain score) or `THEIRS=OURS` arguments: their metric -> ours."""
    from forgetbench.runs.importers.plain import METRIC

    return pairs("--metric", [v if "=" in v else f"{METRIC}={v}" for v in values or ()])


def models(values: Sequence[str] | None) -> dict[str, str]:
    """`ALIAS` or `ALIAS=NAME` arguments: alias -> the name in the files."""
    return pairs("--model", [v if "=" in v else f"{v}={v}" for v in values or ()])
