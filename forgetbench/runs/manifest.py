"""manifest.json: what a run holds, task by task. Read without pandas, so that `ls` is quick."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write
from forgetbench.runs.lock import locked
from forgetbench.runs.types import Slot, TaskEntry, TaskIdentity

SCHEMA_VERSION = 1
NAME = "manifest.json"

_CURE = "move it away and run the same command again: the answers stored beside it are kept and reused"
_THREADS = threading.Lock()  # POSIX locks do not hold between threads
_T = TypeVar("_T")


def digest(value: Any, length: int = 12) -> str:
    """Hex digits of sha256 over canonical JSON."""
    blob = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(blob.encode()).hexdigest()[:length]


def identity_digest(identity: TaskIdentity) -> str:
    """12 hex digits over every part of the identity: names the task's folder."""
    return digest(asdict(identity))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One checkpoint under one engine, and what was asked of it."""

    alias: str
    checkpoint: str
    """Digest of the checkpoint."""
    parts: dict[str, str]
    """Digests of weights, config, tokenizer, template, adapter, stop_ids: what exit 12 names."""
    engine: dict[str, str]
    created: str
    """UTC, ISO 8601."""
    updated: str
    tasks: tuple[TaskEntry, ...] = ()
    """Every entry ever written, the latest last; `current` picks."""
    info: dict[str, Any] = field(default_factory=dict)
    """Provenance that is no identity: forgetbench's version, the model's spec, stop ids."""
    notes: tuple[str, ...] = ()
    """Lines of the last plan for a reader: what could not be asked, and why."""
    schema_version: int = SCHEMA_VERSION

    def current(self) -> tuple[TaskEntry, ...]:
        """Per slot the last complete entry, or the last one where none is complete."""
        chosen: dict[Slot, TaskEntry] = {}
        for entry in self.tasks:
            known = chosen.get(entry.slot)
            if known is None or entry.state == "complete" or known.state == "running":
                chosen[entry.slot] = entry
        return tuple(chosen.values())

    def with_entries(self, entries: Iterable[TaskEntry]) -> Manifest:
        """The same manifest with `entries` as its latest ones; an entry of the same key is replaced."""
        new = tuple(entries)
        keys = {e.key for e in new}
        return replace(self, tasks=(*(e for e in self.tasks if e.key not in keys), *new))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "str | None": (str, type(None)),
    "int": int,
    "dict[str, str]": dict,
    "dict[str, Any]": dict,
    "tuple[str, ...]": list,
    "tuple[TaskEntry, ...]": list,
    "TaskIdentity": dict,
    "TaskState": str,
}


def _build(cls: type[_T], raw: Any, where: str, **converted: Any) -> _T:
    """A dataclass from parsed JSON; keys that it does not know (of a later version) are dropped."""
    if not isinstance(raw, Mapping):
        raise TypeError(f"{where} is not an object")
    known = {f.name: str(f.type) for f in fields(cls)}  # type: ignore[arg-type]
    for name, value in raw.items():
        if name in known and not isinstance(value, _TYPES[known[name]]):
            raise TypeError(f"{where}.{name} is {json.dumps(value)[:40]}, not {known[name]}")
    try:
        return cls(**{k: v for k, v in raw.items() if k in known} | converted)
    except TypeError as e:
        raise TypeError(f"{where}: {str(e).partition(' ')[2]}") from e


def _entry(raw: Any, where: str) -> TaskEntry:
    identity = _build(TaskIdentity, raw.get("identity") if isinstance(raw, Mapping) else None, f"{where}.identity")
    entry = _build(TaskEntry, raw, where, identity=identity)
    if entry.state not in ("running", "complete"):
        raise TypeError(f"{where}.state is {entry.state!r}, not running or complete")
    for name in (entry.folder, entry.records or ""):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise TypeError(f"{where} points out of the run: {name!r}")
    return entry


def read_manifest(run: Path) -> Manifest:
    """The manifest of a run folder. Raises UsageError in one line when it is missing, damaged or too new."""
    path = run / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        cure = "give the folder of a run (`forgetbench ls` lists them)"
        raise UsageError(str(run), "no run here: there is no manifest.json", cure) from e
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "not UTF-8 text"
        raise UsageError(str(path), f"cannot be read ({reason})", _CURE) from e
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise TypeError("not an object")
        version = raw.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UsageError(
                str(path),
                f"schema_version {version} is that of a newer forgetbench (this one: {SCHEMA_VERSION})",
                "upgrade forgetbench",
            )
        tasks = raw.get("tasks", [])
        if not isinstance(tasks, list):
            raise TypeError("tasks is not a list")
        notes = raw.get("notes", [])
        return _build(
            Manifest,
            raw,
            "manifest",
            tasks=tuple(_entry(t, f"tasks[{i}]") for i, t in enumerate(tasks)),
            notes=tuple(str(n) for n in notes) if isinstance(notes, list) else (),
        )
    except (ValueError, TypeError, RecursionError) as e:
        problem = " ".join(str(e).split())[:200]
        raise UsageError(str(path), f"damaged manifest ({problem})", _CURE) from e


def write_manifest(run: Path, manifest: Manifest) -> None:
    """Atomically. Raises DiskFullError."""
    blob = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
    atomic_write(run / NAME, (blob + "\n").encode("utf-8", "surrogatepass"))


def update_manifest(run: Path, change: Callable[[Manifest | None], Manifest]) -> Manifest:
    """Read, change, write under a lock between processes; nothing is written when nothing changed.

    `change` gets None when there is no manifest yet.
    """
    with _THREADS, locked(run / "manifest.lock", poll=0.01):
        old = read_manifest(run) if (run / NAME).exists() else None
        new = change(old)
        if new != old:
            new = replace(new, updated=now())
            write_manifest(run, new)
        return new
