"""What makes a training folder trustworthy: a checkpoint counts only with its list of files, written last.

    run.json                  what this folder is a run of: recipe, digests of the base and of the data
    retention.json            suite, items and policy that its checkpoints are judged by, where they are
    metrics.jsonl             a line for each step, evaluation and judgement
    checkpoint-N/complete.json  size and sha256 of every file of it, written after all of them
    final/                    the result, sealed as a checkpoint is
    .lock                     held by the process that trains into the folder
    training.json             the manifest of the finished run, for people and for `compare`

A kill or a full disk while a checkpoint is written leaves a folder without the list, or files that do not match it:
it is named and never loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write

if TYPE_CHECKING:
    from forgetbench.training.recipe import DataFile

COMPLETE = "complete.json"
RUN = "run.json"
RETENTION = "retention.json"
LOCK = ".lock"
TRAINING = "training.json"
METRICS = "metrics.jsonl"
STATELESS = "stateless"
"""Key of a list that `drop_state` shortened."""
_STATE = re.compile(r"optimizer|scheduler|scaler|rng_state|global_step")
"""How files begin that only training goes on from."""
_RECORD = re.compile(r"trainer_state|training_args|complete\b")
"""And those that tell of it: kept with a checkpoint, of no use to who loads the result."""
_LIBRARIES = ("forgetbench", "torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors")


def file_sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Write the list of the folder's files. Call it when all of them are written. Raises DiskFullError."""
    files = {
        str(f.relative_to(folder)): {"bytes": f.stat().st_size, "sha256": file_sha256(f)}
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != COMPLETE
    }
    atomic_write(folder / COMPLETE, json.dumps({"files": files}, indent=1).encode())


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None where every file is as it was sealed."""
    try:
        files = json.loads((folder / COMPLETE).read_bytes())["files"]
        listed = {str(name): (int(f["bytes"]), str(f["sha256"])) for name, f in files.items()}
    except FileNotFoundError:
        return f"it has no {COMPLETE}: it was not written to its end"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its {COMPLETE} cannot be read"
    if not listed:
        return f"its {COMPLETE} names no file"
    for name, (size, digest) in listed.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
        if file_sha256(file) != digest:
            return f"{name} is not what was written"
    return None


def step_of(folder: Path) -> int | None:
    """The step of a checkpoint's folder; None for any other folder."""
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found.group(1)) if found and folder.is_dir() else None


def checkpoints(output: Path) -> list[Path]:
    """Folders of checkpoints, the earliest first, whatever their state."""
    found = [(step, f) for f in output.glob("checkpoint-*") if (step := step_of(f)) is not None]
    return [f for _, f in sorted(found)]


def drop_state(checkpoint: Path) -> int:
    """Remove what only training goes on from (optimizer, scheduler, random states) and return its bytes.

    What is left is a whole checkpoint that loads, and that no run goes on from. The list is written first: after a kill
    in between files are there that it does not name, which the next call removes. A damaged checkpoint is left alone.
    """
    if damage(checkpoint) is not None:
        return 0
    told = json.loads((checkpoint / COMPLETE).read_bytes())
    kept = {name: f for name, f in told["files"].items() if not _STATE.match(name)}
    if kept != told["files"]:
        atomic_write(checkpoint / COMPLETE, json.dumps({"files": kept, STATELESS: True}, indent=1).encode())
    freed = 0
    for file in [f for f in checkpoint.rglob("*") if f.is_file() and _STATE.match(str(f.relative_to(checkpoint)))]:
        freed += file.stat().st_size
        file.unlink()
    return freed


def newest_complete(output: Path) -> tuple[Path | None, list[str]]:
    """The latest checkpoint that a run can go on from, and a line for each later one that it cannot."""
    notes: list[str] = []
    for folder in reversed(checkpoints(output)):
        wrong = damage(folder)
        if wrong is None and STATELESS in json.loads((folder / COMPLETE).read_bytes()):
            wrong = "its optimizer was removed to save room"
        if wrong is None:
            return folder, notes
        notes.append(f"{folder.name} is not used: {wrong}")
    return None, notes


def set_aside(output: Path, after: int) -> None:
    """Rename checkpoints later than step `after`, which a run that goes on from there does not use: else they would
    count among the newest, and the good ones be removed for them."""
    for folder in checkpoints(output):
        step = step_of(folder)
        if step is not None and step > after:
            place = folder.with_name(f"unused-{folder.name}")
            shutil.rmtree(place, ignore_errors=True)
            folder.rename(place)


def keep_newest(output: Path, limit: int, always: Sequence[Path] = ()) -> None:
    """Remove all but the latest `limit` complete checkpoints and those of `always`. Damaged ones do not count."""
    whole = [f for f in checkpoints(output) if (f / COMPLETE).is_file()]
    for folder in whole[:-limit]:
        if folder not in always:
            shutil.rmtree(folder)


def copy_weights(checkpoint: Path, final: Path) -> None:
    """The files of a whole checkpoint that a user loads, without the optimizer's and the trainer's, into `final`.

    Raises UsageError where the checkpoint is not whole, or holds its weights in shards of FSDP or DeepSpeed.
    """
    wrong = damage(checkpoint)
    if wrong is not None:
        raise UsageError(str(checkpoint), f"is the result, and {wrong}", "train again in an empty output folder")
    final.mkdir(parents=True)
    for file in sorted(checkpoint.iterdir()):
        if file.is_file() and not _STATE.match(file.name) and not _RECORD.match(file.name):
            shutil.copy2(file, final / file.name)
    if not any(final.glob("*.safetensors")):
        shutil.rmtree(final)
        cure = "save whole weights (FSDP: FULL_STATE_DICT; DeepSpeed: stage3_gather_16bit_weights_on_model_save)"
        raise UsageError(str(checkpoint), "has no weights in one piece", cure)


def versions() -> dict[str, str]:
    """Versions of the libraries that a run depends on; those that are not installed are left out."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def claim(output: Path, identity: Mapping[str, Any], name: str = RUN) -> None:
    """Make `output` the folder of this run, or see that it already is. `name`: of the file that says so.

    A folder in which nothing else was made yet is claimed anew: a mended line of data is no other run.

    Raises UsageError where the folder belongs to a run of something else: its checkpoints must not be continued.
    """
    file = output / name
    wanted = json.loads(json.dumps(identity))
    if file.is_file() and all(f.name in (RUN, RETENTION, LOCK) or f.name.endswith(".tmp") for f in output.iterdir()):
        file.unlink(missing_ok=True)  # another rank may have been quicker
    if not file.is_file():
        if checkpoints(output):
            raise UsageError(str(output), f"has checkpoints and no {name}", "give another output folder")
        atomic_write(file, json.dumps(wanted, indent=1, ensure_ascii=False).encode())
        return
    try:
        had = json.loads(file.read_bytes())
    except (OSError, ValueError):
        raise UsageError(str(file), "cannot be read", "give another output folder") from None
    if had != wanted:
        keys = sorted(k for k in {*wanted, *(had if isinstance(had, dict) else ())} if _get(had, k) != wanted.get(k))
        raise UsageError(
            str(output), f"holds a run that differs in {', '.join(keys)}", "give another output folder, or empty it"
        )


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def counts(samples: Sequence[tuple[str | None, int, int]]) -> dict[str, dict[str, float]]:
    """By task_type: samples, tokens, supervised tokens, and the share of all tokens.

    `samples`: (task_type, tokens, supervised tokens) of each; a sample without task_type counts as "(none)".
    """
    total = sum(tokens for _, tokens, _ in samples) or 1
    table: dict[str, dict[str, float]] = {}
    for task_type, tokens, supervised in samples:
        row = table.setdefault(task_type or "(none)", {"samples": 0, "tokens": 0, "supervised": 0})
        row["samples"] += 1
        row["tokens"] += tokens
        row["supervised"] += supervised
    return {name: {**row, "share": row["tokens"] / total} for name, row in sorted(table.items())}


def digests(root: Path, files: Sequence[DataFile]) -> dict[str, str]:
    """sha256 of each data file by its name in the recipe. Raises UsageError for one that cannot be read."""
    found = {}
    for data in files:
        try:
            found[data.path] = file_sha256(root / data.path)
        except OSError as error:
            raise UsageError(str(root / data.path), f"cannot be read ({error.strerror})", "check the path") from None
    return found


def write_training(
    output: Path,
    identity: Mapping[str, Any],
    by_task_type: Mapping[str, Mapping[str, float]],
    steps: int,
    result: Mapping[str, Any],
) -> None:
    """Write training.json: what was trained on what, with which libraries, how it ended; its curves are metrics.jsonl.

    by_task_type: `counts` of what was read up to the result's step; steps: that were made.
    """
    content = {
        **identity,
        "steps": steps,
        "result": result,
        "task_types": by_task_type,
        "tokens": int(sum(row["tokens"] for row in by_task_type.values())),
        "versions": versions(),
        "curves": METRICS,
    }
    atomic_write(output / TRAINING, json.dumps(content, indent=1, ensure_ascii=False).encode())
