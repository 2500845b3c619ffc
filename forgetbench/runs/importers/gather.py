"""Files -> imported tasks by model: what `forgetbench import` does between its flags and the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forgetbench.errors import UsageError
from forgetbench.runs.importers import evalplus, files, inspect_log, lm_eval, plain
from forgetbench.runs.importers.identify import Found, doubts, identify, task_or_none
from forgetbench.runs.importers.records import decode_id, merge, metrics_of, records
from forgetbench.runs.importers.store import Imported
from forgetbench.runs.importers.types import FORMATS, Mistakes, Row, Source
from forgetbench.runs.manifest import digest
from forgetbench.tasks.base import Task, folder_name
from forgetbench.types import View

TaskOf = Callable[[str], "Task | None"]
"""The task of a name, its files not yet read; None: no such task is known here."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags."""

    format: str = "auto"
    task: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    """Alias -> the model's name in the files. Empty: every model of the files, under its own name."""
    view: View = "ability"
    fields: Mapping[str, str] = field(default_factory=dict)
    trials: int | None = None
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Their metric -> ours. A plain file's is called `score`."""
    by_name: bool = False
    """Keep what the task does not have under its name (--pair-by key)."""


def read(path: Path, options: Options, bad: Mistakes) -> Source:
    """One file, in the format that was named or that it shows. Raises UsageError where it is none of them."""
    data = files.read_bytes(path)
    digest_ = files.sha256(path)
    format_ = options.format
    if format_ == "auto":
        format_ = detect(path, data)
    if format_ == "inspect":
        if not inspect_log.looks_like(data):
            raise UsageError(str(path), "is no .eval log (a zip file)", "write it anew: inspect log convert --to eval")
        return inspect_log.read(path, data, digest_, bad)
    content = files.text(path, data)
    if format_ == "lm-eval":
        return lm_eval.read(path, content, digest_, bad)
    if format_ == "evalplus":
        return evalplus.read(path, content, digest_, options.task, bad)
    return plain.read(path, content, digest_, options.fields, options.trials, bad)


def detect(path: Path, data: bytes) -> str:
    """The format that a file shows; plain where it shows none."""
    if inspect_log.looks_like(data):
        return "inspect"
    content = files.text(path, data)
    whole = content.lstrip()[:1] == "{" and (value := _object(content)) is not None
    if whole and value is not None and evalplus.looks_like(value):
        return "evalplus"
    _, first = next(iter(files.rows(path, content, Mistakes())), ("", {}))
    return "lm-eval" if lm_eval.looks_like(first) else "plain"


def samples_of(path: Path, options: Options) -> str | None:
    """The task whose programs a file holds without results (EvalPlus' samples); None: it is no such file."""
    if options.format not in ("auto", "evalplus"):
        return None
    try:
        data = files.read_bytes(path)
        if inspect_log.looks_like(data):
            return None
        _, first = next(iter(files.rows(path, files.text(path, data), Mistakes())), ("", {}))
    except UsageError:
        return None  # told by `read`
    return (options.task or evalplus.set_of(first["task_id"])) if evalplus.are_samples(first) else None


def _object(content: str) -> dict[str, object] | None:
    try:
        value = files.parse(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def check_format(value: str) -> None:
    """Raises UsageError for a --from that is none."""
    if value not in ("auto", *FORMATS):
        raise UsageError("--from", f"there is no format '{value}'", f"use one of auto, {', '.join(FORMATS)}")


def gather(paths: Sequence[Path], options: Options, task_of: TaskOf) -> tuple[dict[str, list[Imported]], list[str]]:
    """(imported tasks by alias, lines about what was not used). Raises every mistake of all files at once."""
    bad = Mistakes()
    sources = []
    for path in dict.fromkeys(paths):
        try:
            sources.append(read(path, options, bad))
        except UsageError as e:
            bad.take(e)
    bad.check()
    known: dict[str, tuple[Task | None, str]] = {}
    made: dict[str, list[Imported]] = {}
    says = [note for source in sources for note in source.notes]
    for (alias, name), (rows, mine) in _sorted_out(sources, options, bad).items():
        if name not in known:
            known[name] = task_or_none(lambda name=name: task_of(name))
            if known[name][1]:
                says.append(
                    f"{name}: its own items cannot be read here ({known[name][1]}); names and documents are taken"
                )
        task = known[name][0]
        found = identify(rows, name, task, bad, by_name=options.by_name)
        merge(found, bad)
        if not bad and found:
            made.setdefault(alias, []).append(_imported(found, name, task, list(mine.values()), options, says))
    bad.check()
    return made, list(dict.fromkeys(says))


def _sorted_out(
    sources: Sequence[Source], options: Options, bad: Mistakes
) -> dict[tuple[str, str], tuple[list[Row], dict[Path, Source]]]:
    """(alias, task) -> its rows, and the files that they came from."""
    rows = [(row, source) for source in sources for row in source.rows]
    models = list(dict.fromkeys(row.model for row, _ in rows))
    wanted = _wanted(models, options)
    sorted_out: dict[tuple[str, str], tuple[list[Row], dict[Path, Source]]] = {}
    for row, source in rows:
        name = options.task or row.task
        if name is None:
            bad.add(str(source.path), "does not say which task it is of", "name it with --task")
            break
        for alias in wanted.get(row.model, ()):
            mine, its_files = sorted_out.setdefault((alias, folder_name(name)), ([], {}))
            mine.append(row)
            its_files[source.path] = source
    return sorted_out


def _wanted(models: Sequence[str | None], options: Options) -> dict[str | None, list[str]]:
    """The file's model -> aliases. Raises UsageError for one that the files do not have."""
    named = [m for m in models if m is not None]
    if not options.models:
        if None in models:
            raise UsageError("--model", "is missing: the files do not name the model", "give the run an alias")
        return {m: [folder_name(m)] for m in named}
    wanted: dict[str | None, list[str]] = {}
    for alias, name in options.models.items():
        if name in named:
            wanted.setdefault(name, []).append(alias)
        elif len(options.models) == 1 and alias == name and len(models) == 1:
            wanted[models[0]] = [alias]  # a file of one model, which gets another name here
        else:
            have = ", ".join(named) or "none"
            raise UsageError("--model", f"'{name}' is no model of the files", f"they have {have}; write ALIAS=NAME")
    return wanted


def _imported(
    found: list[Found], name: str, task: Task | None, sources: Sequence[Source], options: Options, says: list[str]
) -> Imported:
    own = task.metrics[0] if task is not None and task.metrics else None
    names = {plain.METRIC: own or plain.METRIC, **options.metrics}
    theirs = metrics_of(found)
    metrics = tuple(sorted(dict.fromkeys(names.get(m, m) for m in theirs), key=lambda m: m != own))
    if own is not None and own not in metrics:
        says.append(
            f"{name}: own runs are decided on '{own}', and these results have {', '.join(metrics)}: they pair with "
            f"imports alone; if one of theirs means the same, pass --metric {theirs[0]}={own}"
        )
    return Imported(
        task=name,
        view=options.view,
        decode_id=decode_id(found),
        source=sources[0].format,
        sha256=digest(sorted(s.sha256 for s in sources), 64) if len(sources) > 1 else sources[0].sha256,
        items=[f.item for f in found],
        records=records(found, view=options.view, names=names),
        metrics=metrics,
        files=tuple(str(s.path) for s in sources),
        notes=tuple(f"{name}: {line}" for line in doubts(name, found, task is not None)),
    )
