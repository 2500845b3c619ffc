"""A folder that is there whole or not at all, and what is copied into it from a checkpoint."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import forgetbench
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.files import TOKENIZER_FILES, one_line, read_json
from forgetbench.errors import UsageError
from forgetbench.runs.files import fsync_dir

TOLD = "merge.json"
_MODEL = ("config.json", "generation_config.json", "*.py")
_TOKENIZER = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "*.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_LIBRARIES = ("torch", "numpy", "safetensors", "transformers", "peft")


@contextmanager
def whole(out: Path, size: int) -> Iterator[Path]:
    """A folder beside `out` to fill, which gets its name at the end; on any error nothing is left.

    `size`: bytes that will be written. Raises UsageError where `out` is there already, or the disk is too small, full
    or not to be written to.
    """
    refuse(out)
    work = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if free < size:
            raise UsageError(
                str(out),
                f"needs {size / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free",
                "free some, or name another",
            )
        work.mkdir()
        yield work
        for file in work.rglob("*"):
            _sync(file)
        work.rename(out)
        fsync_dir(out.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise UsageError(
                str(out),
                "no space left on the disk",
                "free some and run the same command again: nothing is left of this",
            ) from None
        raise UsageError(str(out), f"cannot be written ({one_line(error)})", "name another folder") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def refuse(out: Path) -> None:
    """Raise UsageError where something has the name already."""
    if out.exists() or out.is_symlink():
        raise UsageError(str(out), "is there already", "name another folder, or remove it")


def leftovers(out: Path) -> list[Path]:
    """What merges into `out` that were killed left beside it."""
    return sorted(out.parent.glob(f".{out.name}.*.tmp")) if out.parent.is_dir() else []


def copy_beside(work: Path, point: Checkpoint, dtype: str | None) -> None:
    """Config, generation config, tokenizer and chat template of a checkpoint, as it is used: with the tokenizer and
    the template that its entry in forgetbench.yaml names. `dtype`: torch's name of a type for config.json to state."""
    _copy(point.folder, work, _MODEL)
    if point.tokenizer_folder is not None:
        _copy(point.tokenizer_folder, work, _TOKENIZER)
    if point.spec.chat_template is not None and point.template is not None:
        (work / "chat_template.jinja").write_text(point.template, encoding="utf-8")
    if dtype is not None:
        config = read_json(work / "config.json", "save the checkpoint again")
        config.pop("torch_dtype", None)
        write_json(work / "config.json", {**config, "dtype": dtype})


def write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Of forgetbench and of the libraries that a merge goes through, where they are installed."""
    found = {"forgetbench": forgetbench.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
