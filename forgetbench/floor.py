"""The noise floor on the street: a checkpoint run a second time, kept beside its run, and shown by `compare`.

Replicate 1 asks the same questions with other sampling seeds and through batches of another shape. Its records lie in
the same run, under an identity of their own; `floor.json` beside the manifest holds the rates with the hashes of the
records on both sides, so that a floor of other answers is never shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from forgetbench.runs.files import atomic_write

if TYPE_CHECKING:
    from forgetbench.analysis.floor import Floor
    from forgetbench.analysis.types import Comparison
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.runs.store import Run

NAME = "floor.json"
REPLICATE = 1
SCHEMA_VERSION = 1
_ROWS = {"transformers": ("batch_rows", 24), "vllm": ("max_num_seqs", 48)}
"""By engine the argument that sets how many requests share a batch, and a value that is no engine's default."""


def other_shapes(point: Checkpoint) -> Checkpoint:
    """The same checkpoint, asked through batches of another shape; nothing that is part of a run's identity changes.

    An endpoint or a scripted engine has no shape to set.
    """
    spec = point.spec
    if spec.engine == "ray":
        inner = dict(spec.engine_args.get("engine_args") or {})
        changed = _reshaped(str(spec.engine_args.get("engine") or "transformers"), inner)
        arguments: dict[str, Any] = {**spec.engine_args, **({"engine_args": changed} if changed else {})}
    else:
        arguments = _reshaped(spec.engine, spec.engine_args)
    return replace(point, spec=replace(spec, engine_args=arguments))


def _reshaped(engine: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if engine not in _ROWS:
        return dict(arguments)
    name, rows = _ROWS[engine]
    given = arguments.get(name)
    return {**arguments, name: rows if given is None else given // 2 if given > 1 else 2}


def measure(first: Run, second: Run, *, suite: str, metrics: Mapping[str, str]) -> list[Floor]:
    """The floor out of both replicates of one run. Raises IncomparableError where they do not fit."""
    from forgetbench.analysis.compare import compare_runs
    from forgetbench.analysis.floor import floors
    from forgetbench.analysis.pairing import Selection

    selection = Selection(tasks=frozenset(metrics), replicates=(0, REPLICATE))
    # Its intervals are not used: few draws.
    return floors(compare_runs(first, second, suite=suite, selection=selection, metrics=metrics, bootstrap=50))


def store(first: Run, second: Run, rows: Sequence[Floor]) -> None:
    hashes = _hashes(first), _hashes(second)
    document = {
        "schema_version": SCHEMA_VERSION,
        "floors": [
            {**asdict(row), "records_sha256": [side.get((row.task, row.view, row.decode_id)) for side in hashes]}
            for row in rows
        ],
    }
    blob = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write(first.path / NAME, (blob + "\n").encode())


def _hashes(run: Run) -> dict[tuple[str, str, str], str | None]:
    """sha256 of the records by (task, view, decode_id)."""
    return {
        (e.identity.task, e.identity.view, str(e.identity.decode.get("decode_id", ""))): e.records_sha256
        for e in run.entries
    }


def load(run: Run) -> dict[tuple[str, str, str], Floor]:
    """The floors that were measured on exactly these records; none where there is no file or it is damaged."""
    from pydantic import TypeAdapter

    from forgetbench.analysis.floor import Floor

    try:
        document = json.loads((run.path / NAME).read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            return {}
        known = _hashes(run)
        found = {}
        for raw in document["floors"]:
            row = TypeAdapter(Floor).validate_python({k: v for k, v in raw.items() if k != "records_sha256"})
            key = (row.task, row.view, row.decode_id)
            first = raw["records_sha256"][0]
            if first is not None and known.get(key) == first:
                found[key] = row
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def beside_floor(run: Run, comparison: Comparison) -> Comparison:
    """The comparison with a note that holds its flip rates against the floor of its base, where one is on disk."""
    known = load(run)
    if not known:
        return comparison
    from forgetbench.analysis.floor import floors

    told = []
    for row in floors(comparison):
        floor = known.get((row.task, row.view, row.decode_id))
        if floor is not None and floor.metric == row.metric:
            name = row.task if row.view == "ability" else f"{row.task} ({row.view})"
            above = "" if row.interval.low > floor.interval.high else ", not above the floor"
            told.append(
                f"{name} {100 * row.flips:.1f} % here, {100 * floor.flips:.1f} % floor "
                f"(95 % up to {100 * floor.interval.high:.1f}, n={floor.n:,}){above}"
            )
    if not told:
        return comparison
    note = f"items that flip, held against {run.alias} run twice: {'; '.join(told)}"
    return replace(comparison, notes=(*comparison.notes, note))
