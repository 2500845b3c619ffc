"""`forgetbench cache`: what the response cache holds, and taking answers out of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.cli.output import console, print_json, say
from forgetbench.config import Paths, find_config, load_config
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    from forgetbench.engines.cache_store import ResponseCache, SourceRow

FILE = "responses.sqlite"
_DAYS = {"d": 1, "w": 7}
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SHOWN = ("name", "version", "dtype", "device")
"""Parts of an engine's identity that are always listed; others only where two rows differ in them."""


def cache_file(config: Path | None) -> Path:
    """Where the answers of a config's models are kept, or those of the working directory where there is none."""
    try:
        file = find_config(config)
    except UsageError:
        if config is not None:
            raise
        return Path.cwd() / Paths().cache / FILE
    return file.resolve().parent / load_config(file).paths.cache / FILE


def days(text: str) -> int:
    """`30d` or `4w` as days. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,6})\s*([dw])", text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise UsageError("--older-than", f"'{text}' is no number of days", "write 30d or 4w")
    return int(found[1]) * _DAYS[found[2]]


def size(text: str) -> int:
    """`5GB`, `500 MiB` or plain bytes. Raises UsageError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*((?:[kmgt]i?)?)b?", text.strip().lower())
    if found is None:
        raise UsageError("--max-size", f"'{text}' is no size", "write 5GB or 500MB")
    return int(float(found[1]) * _UNITS[found[2]])


def human(n: float) -> str:
    """Bytes for people: `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 99.5 else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


def ls(config: Path | None, as_json: bool) -> None:
    from forgetbench.engines.cache_file import size_on_disk

    path = cache_file(config)
    rows: list[SourceRow] = []
    if path.exists():
        with _opened(path) as cache:
            rows = cache.ls()
    on_disk = size_on_disk(path)
    if as_json:
        print_json({"file": str(path), "bytes": on_disk, "sources": [asdict(row) for row in rows]})
        return
    if not rows:
        say(f"no answers in {path}")
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("model", "checkpoint", "engine"):
        table.add_column(column)
    for column in ("answers", "size", "written", "used"):
        table.add_column(column, justify="right", no_wrap=True)
    for row, engine in zip(rows, _engines([r.engine for r in rows]), strict=True):
        written = _day(row.last_written)
        table.add_row(
            row.alias, row.checkpoint[:12], engine, f"{row.count:,}", human(row.bytes), written, _day(row.last_used)
        )
    console().print(table)
    say(f"{sum(r.count for r in rows):,} answers, {human(on_disk)} in {path}")


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _engines(identities: Sequence[Mapping[str, str]]) -> list[str]:
    """Each as a few words; two that differ never look the same."""
    values: defaultdict[tuple[str | None, str], set[str | None]] = defaultdict(set)
    for identity in identities:
        for key in {k for i in identities if i.get("name") == identity.get("name") for k in i}:
            values[identity.get("name"), key].add(identity.get(key))
    texts = []
    for identity in identities:
        name = identity.get("name")
        # An engine's own version goes by `version` or by its name.
        shown = [identity[k] for k in ("name", "version", name or "", "dtype", "device") if k in identity]
        rest = sorted(set(identity) - {*_SHOWN, name})
        shown += [f"{k}={identity[k]}" for k in rest if len(values[name, k]) > 1]
        texts.append(" ".join(shown))
    return texts


def prune(
    config: Path | None,
    *,
    older_than: str | None,
    max_size: str | None,
    model: str | None,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    named = [older_than, max_size, model]
    if everything == any(value is not None for value in named):
        problem = "goes with no other choice" if everything else "nothing says what is to go"
        where = "--all" if everything else "cache prune"
        raise UsageError(where, problem, "give --all, or --older-than, --max-size and --model")
    days_unused = None if older_than is None else days(older_than)
    max_bytes = None if max_size is None else size(max_size)
    path = cache_file(config)
    if not path.exists():
        if as_json:
            _tell_json(path, 0, 0, 0, 0, dry_run)
        else:
            say(f"no answers in {path}")
        return

    from forgetbench.engines.cache_file import NoSpaceError, UnreadableError, remove_file, size_on_disk

    try:
        with _opened(path) as cache:
            done = cache.prune(
                older_than=days_unused, max_bytes=max_bytes, checkpoint=model, all=everything, dry_run=dry_run
            )
        removed, freed, before = done.removed, done.bytes, done.file_before
    except (UnreadableError, NoSpaceError) as error:
        if not everything:
            raise
        removed, freed, before = 0, 0, size_on_disk(path)
        if not dry_run:
            remove_file(path)
        say(f"{'would remove' if dry_run else 'removed'} the file: {error.where}: {error.problem}")
    after = before if dry_run else size_on_disk(path)
    if as_json:
        _tell_json(path, removed, freed, before, after, dry_run)
        return
    what = f"{removed:,} answer{'' if removed == 1 else 's'} ({human(freed)})"
    if dry_run:
        say(f"would remove {what}; {path} has {human(before)}")
    else:
        say(f"removed {what}; {path}: {human(before)} -> {human(after)}")


def _tell_json(path: Path, removed: int, freed: int, before: int, after: int, dry_run: bool) -> None:
    print_json(
        {
            "file": str(path),
            "dry_run": dry_run,
            "removed": removed,
            "bytes": freed,
            "file_before": before,
            "file_after": after,
        }
    )


def _opened(path: Path) -> ResponseCache:
    from forgetbench.engines.cache_store import ResponseCache

    return ResponseCache(path)
