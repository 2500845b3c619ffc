"""`forgetbench show`: one item from runs on disk, both answers side by side. Needs neither suite nor data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from forgetbench.cli.ls import runs_folder
from forgetbench.cli.output import console, print_json, say
from forgetbench.config import find_config, load_config
from forgetbench.errors import UsageError
from forgetbench.types import ItemKey

if TYPE_CHECKING:
    from forgetbench.runs.store import Run
    from forgetbench.types import Record

_VIEWS = ("ability", "chat", "as_used")
_LISTED = 5


class Wanted(NamedTuple):
    """What an ITEM says: of which task (None: any), which hash, which copy, which view, between whom."""

    task: str | None
    digest: str
    occurrence: int | None = None
    view: str | None = None
    comparison: str | None = None
    """`candidate-vs-base`, as it stands at the end of a report's link."""


def show(
    config: Path | None,
    item: str,
    base: str | None,
    candidate: str | None,
    *,
    view: str | None,
    full: bool,
    as_json: bool,
) -> None:
    """Print the item under every view that both have it in."""
    if view is not None and view not in _VIEWS:
        raise UsageError("--view", f"there is no '{view}'", f"choose one of: {', '.join(_VIEWS)}")
    runs = _newest(config)
    wanted = parse(item)
    before, after = _sides(runs, wanted, base, candidate)
    key = _find(before, wanted, item)
    found = _records(before, key), _records(after, key)
    wanted_view = view or wanted.view
    pairs = [
        (a, b)
        for a in found[0]
        for b in found[1]
        if (a.view, a.decode_id, a.sample) == (b.view, b.decode_id, b.sample) and wanted_view in (None, a.view)
    ]
    if not pairs:
        have = "; ".join(
            f"{run.alias}: {', '.join(sorted({r.view for r in records})) or 'none'}"
            for run, records in zip((before, after), found, strict=True)
        )
        raise UsageError(str(key), "is in no view that both have", f"views there are: {have}")
    if as_json:
        sides = [{"view": a.view, "base": asdict(a), "candidate": asdict(b)} for a, b in pairs]
        print_json({"item": str(key), "base": before.alias, "candidate": after.alias, "pairs": sides})
        return
    from forgetbench.report.item import print_item

    print_item(console(), key, (before.alias, after.alias), pairs, full=full)


def parse(item: str) -> Wanted:
    """An ITEM in any of its forms: `task:hash#copy`, a hash's beginning, or a link out of a report."""
    text = unquote(item.rsplit("#", 1)[-1]) if ".html#" in item else unquote(item).removeprefix("#")
    text, _, comparison = text.partition("@")
    anchor = re.fullmatch(rf"(.+)-([0-9a-f]{{6,}})-(\d+)-({'|'.join(_VIEWS)})", text)
    if anchor:
        task, digest, occurrence, view = anchor.groups()
        return Wanted(task, digest, int(occurrence), view, comparison or None)
    key = re.fullmatch(r"(?:(.+):)?([0-9a-fA-F]+)(?:#(\d+))?", text)
    if key is None:
        raise UsageError(
            f"item '{item}'",
            "is neither a task with a hash nor a link out of a report",
            "write it as in a report's link, or as TASK:HASH",
        )
    occurrence = int(key[3]) if key[3] else None
    return Wanted(key[1], key[2].lower(), occurrence, None, comparison or None)


def _newest(config: Path | None) -> dict[str, Run]:
    """The run of each alias that was written last, in the config's order."""
    from forgetbench.runs.store import list_runs

    folder = runs_folder(config)
    runs = list_runs(folder, on_error=lambda e: say(f"forgetbench: {e}"))
    newest: dict[str, Run] = {}
    for run in sorted(runs, key=lambda r: r.manifest.updated):
        newest[run.alias] = run
    if not newest:
        raise UsageError(str(folder), "holds no runs", "run `forgetbench compare` first")
    try:
        order = list(load_config(find_config(config)).models)
    except UsageError:
        order = []
    return {alias: newest[alias] for alias in [*(a for a in order if a in newest), *sorted(newest.keys() - set(order))]}


def _sides(runs: dict[str, Run], wanted: Wanted, base: str | None, candidate: str | None) -> tuple[Run, Run]:
    """Named, else those of the link, else the first and the last that have a run."""
    from forgetbench.report.context import slug

    if wanted.comparison:
        for a in runs:
            for b in runs:
                # Two comparisons of one name are told apart by a number at the end.
                if re.fullmatch(re.escape(slug(f"{b}-vs-{a}")) + r"(-\d+)?", wanted.comparison):
                    base, candidate = base or a, candidate or b
    names = list(runs)
    base = base or names[0]
    candidate = candidate or next((n for n in reversed(names) if n != base), base)
    for name in (base, candidate):
        if name not in runs:
            raise UsageError(f"model '{name}'", "has no run here", f"there are runs of: {', '.join(names)}")
    return runs[base], runs[candidate]


def _find(run: Run, wanted: Wanted, item: str) -> ItemKey:
    """The one item meant. Raises UsageError for none and for several."""
    frame = run.records(columns=["task", "content_hash", "occurrence"])
    keys = {ItemKey(*row) for row in frame.itertuples(index=False, name=None)}
    found = sorted(k for k in keys if _matches(k, wanted))
    if not found:
        tasks = ", ".join(sorted({k.task for k in keys}))
        raise UsageError(f"item '{item}'", f"is not in the run of {run.alias}", f"its tasks: {tasks or 'none'}")
    if len(found) > 1:
        raise UsageError(f"item '{item}'", f"could be any of {len(found)}", f"say more: {_listed(found)}")
    return found[0]


def _matches(key: ItemKey, wanted: Wanted) -> bool:
    return (
        wanted.task in (None, key.task)
        and key.content_hash.startswith(wanted.digest)
        and wanted.occurrence in (None, key.occurrence)
    )


def _listed(keys: Sequence[ItemKey]) -> str:
    more = ", ..." if len(keys) > _LISTED else ""
    return ", ".join(str(k) for k in keys[:_LISTED]) + more


def _records(run: Run, key: ItemKey) -> list[Record]:
    def mine(records: Iterable[Record]) -> list[Record]:
        return [r for r in records if r.key == key and r.round == 0 and r.replicate == 0]

    if not any(e.identity.task == key.task for e in run.entries):
        raise UsageError(str(key), f"{run.alias} has no records of {key.task}", f"run it: forgetbench run {run.alias}")
    return sorted(mine(run.read_records(key.task)), key=lambda r: (_VIEWS.index(r.view), r.decode_id, r.sample))
