"""`forgetbench probe`: which word or pattern a candidate is over-fitted to, and how it fits its training set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

from forgetbench import flow, imported, running
from forgetbench.cli.output import console, print_json, say
from forgetbench.cli.show import parse
from forgetbench.errors import UsageError
from forgetbench.types import Item, View
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.probing.templates import ProbeFile
    from forgetbench.probing.types import Example, FrequencyFit, ItemProbe, TrainingFit
    from forgetbench.rounds import Asker, Side

_ROWS = 5
"""Items of a probe file that are probed unless --items says more."""


class Wanted(NamedTuple):
    """What the flags ask for."""

    items: Sequence[str] = ()
    """TASK:HASH each."""
    set: Path | None = None
    templates: Path | None = None
    train_data: Sequence[Path] = ()
    frequency: Path | None = None
    view: str | None = None
    samples: int = 4
    most: int = _ROWS
    seed: int = 0
    use_cache: bool = True


class _Found(NamedTuple):
    probes: list[ItemProbe]
    fit: TrainingFit | None
    frequency: list[FrequencyFit]


def probe(ws: Workspace, base: str, candidate: str, wanted: Wanted, *, as_json: bool) -> None:
    """Raises UsageError for flags that do not go together, files that cannot be read, and runs that are not there."""
    if not (wanted.items or wanted.set or wanted.train_data or wanted.frequency):
        cure = "give --item TASK:HASH, --set FILE, --train-data FILE or --frequency FILE"
        raise UsageError("probe", "there is nothing to probe", cure)
    if wanted.items and wanted.set:
        raise UsageError("--set", "goes without --item: it brings items of its own", "use --templates beside --item")
    found = _probe(ws, base, candidate, wanted)
    if as_json:
        print_json(
            {
                "base": base,
                "candidate": candidate,
                "items": [asdict(p) for p in found.probes],
                "fit": None if found.fit is None else asdict(found.fit),
                "frequency": [asdict(f) for f in found.frequency],
            }
        )
        return
    from forgetbench.probing.terminal import print_fit, print_frequency, print_probe

    names = (base, candidate)
    for one in found.probes:
        print_probe(console(), one, names)
    if found.fit is not None:
        print_fit(console(), found.fit, names)
    for row in found.frequency:
        print_frequency(console(), row, names)


def _probe(ws: Workspace, base: str, candidate: str, wanted: Wanted) -> _Found:
    from forgetbench.probing.fit import fit_to_training
    from forgetbench.probing.frequency import facts_by_frequency, read_counts
    from forgetbench.probing.templates import read_probes
    from forgetbench.probing.training_lines import read_examples
    from forgetbench.rounds import Rounds

    # Files first: a broken one must not surface after minutes of asking.
    file = wanted.set or wanted.templates
    probes = None if file is None else read_probes(file)
    examples = read_examples(wanted.train_data) if wanted.train_data else []
    counts = None if wanted.frequency is None else read_counts(wanted.frequency)
    ws, loaded = imported.tasks(ws, [base, candidate])
    view = _view(ws, base, candidate, wanted.view)
    asked = [(entry.model_copy(update={"views": (view,)}), task) for entry, task in loaded]
    sides = before, after = _side(ws, base, loaded, asked), _side(ws, candidate, loaded, asked)
    if (wanted.items or wanted.set) and not all(side.jobs for side in sides):
        alias = next(side.run.alias for side in sides if not side.jobs)
        raise UsageError(f"model '{alias}'", "is imported: there is no checkpoint to ask", "name a model")
    with ExitStack() as stack:
        rounds = stack.enter_context(Rounds(ws, loaded, sides, say, use_cache=wanted.use_cache))
        found = _items(wanted, before, after, rounds, asked, view, probes, examples)
        fit = fit_to_training(before, after, examples, rounds, seed=wanted.seed) if examples else None
    frequency = [] if counts is None else facts_by_frequency(before, after, loaded, counts)
    for name, spent in rounds.spent:
        line = spent.line()
        if line is not None:
            say(f"{name}: {line}")
    return _Found(found, fit, frequency)


def _view(ws: Workspace, base: str, candidate: str, given: str | None) -> View:
    """As given; else chat where both have a template, else each as it is used, which is said."""
    if given is not None and given not in get_args(View):
        raise UsageError("--view", f"there is no '{given}'", f"choose one of: {', '.join(get_args(View))}")
    if given is not None:
        return cast("View", given)
    if all(flow.checkpoint(ws, alias).has_chat_template for alias in (base, candidate)):
        return "chat"
    say(f"asked as each is used: {base} and {candidate} do not both have a chat template (--view asks otherwise)")
    return "as_used"


def _side(ws: Workspace, alias: str, loaded: flow.Loaded, asked: flow.Loaded) -> Side:
    """A checkpoint with its run on disk and the way it is asked. Raises UsageError where it has no run."""
    from forgetbench.rounds import Side
    from forgetbench.runs.store import open_run

    point = flow.checkpoint(ws, alias)
    if imported.is_imported(ws, alias):
        return Side(point, imported.run_of(ws, alias), ())
    found = running.target(ws, point, loaded, ask=False)
    if not (found.run_dir / "manifest.json").is_file():
        problem = f"has no run of suite {ws.suite.name} in {ws.runs}"
        raise UsageError(f"model '{alias}'", problem, f"run it first: forgetbench run {alias}")
    return Side(point, open_run(found.run_dir), [*flow.jobs(ws, loaded, point), *flow.jobs(ws, asked, point)])


def _items(
    wanted: Wanted,
    base: Side,
    candidate: Side,
    ask: Asker,
    loaded: flow.Loaded,
    view: View,
    probes: ProbeFile | None,
    examples: Sequence[Example],
) -> list[ItemProbe]:
    from forgetbench.probing import subjects as made
    from forgetbench.probing.probe import probe_item

    tasks = [task for _, task in loaded]
    notes: tuple[str, ...] = ()
    if wanted.set is not None and probes is not None:
        subjects = made.of_rows(probes, base, candidate, view, tasks)
        if len(subjects) > wanted.most:
            notes = (f"{wanted.most} of {len(subjects)} items are probed (--most)",)
        subjects = subjects[: wanted.most]
    else:
        known = [item for task in tasks for item in task.load()]
        subjects = [made.of_item(_item(known, text), base, candidate, view, probes) for text in wanted.items]
    found = []
    for subject in subjects:
        others = made.contexts(subject, base, candidate, view, tasks, seed=wanted.seed)
        one = probe_item(
            base,
            candidate,
            ask,
            subject,
            others,
            probes=probes,
            examples=examples,
            samples=wanted.samples,
            seed=wanted.seed,
        )
        found.append(replace(one, notes=(*notes, *one.notes)))
    return found


def _item(known: Sequence[Item], text: str) -> Item:
    wanted = parse(text)
    found = [
        item
        for item in known
        if wanted.task in (None, item.key.task)
        and item.key.content_hash.startswith(wanted.digest)
        and wanted.occurrence in (None, item.key.occurrence)
    ]
    if len(found) != 1:
        problem = "is in no task of the suite" if not found else f"could be any of {len(found)}"
        raise UsageError(f"item '{text}'", problem, "write it as TASK:HASH, as in a report's link")
    return found[0]
