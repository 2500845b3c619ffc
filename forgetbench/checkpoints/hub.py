"""Find a model named by hub id: in the hub's cache on this disk, or fetched into it. Offline never asks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from forgetbench.errors import UsageError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WANTED = ["*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "*.tiktoken", "*.py", "*.bin"]
_UNWANTED = ["original/*", "*/*", "consolidated*", "training_args.bin", "optimizer.bin", "scheduler.bin"]


def is_offline() -> bool:
    """Whether the user has forbidden look-ups (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE or
    FORGETBENCH_OFFLINE)."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "FORGETBENCH_OFFLINE")
    return any(os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on") for name in names)


def go_offline() -> None:
    """Forbid look-ups for this process: the hub's and transformers' own heed only this word."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def locate(name: str, revision: str | None, where: str) -> Path:
    """The folder of `name`: itself where it is a folder, else a snapshot in the hub's cache.

    `where` names the config key, for errors. Raises UsageError when there is neither.
    """
    shown = f"{where}: {' '.join(name.split())[:300]}"
    try:
        folder = Path(name).expanduser()
        is_folder, exists = folder.is_dir(), folder.exists()
    except (OSError, ValueError, RuntimeError):  # too long a name, a NUL in it, an unknown ~user
        is_folder = exists = False
    if name.strip() and is_folder:
        return folder
    if name.strip() and exists:
        raise UsageError(shown, "is a file, not a folder", "name the folder that holds it")
    if not _HUB_ID.fullmatch(name) or len(name) > 200:
        raise UsageError(shown, "there is no such folder", "check the path")
    return _snapshot(name, revision, where)


def _snapshot(name: str, revision: str | None, where: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise UsageError(
            f"{where}: {name}",
            "there is no such folder, and the hub cannot be asked",
            "install forgetbench[hub]",
        ) from None
    # A pinned commit never changes, so a cached one needs no look-up.
    pinned = revision is not None and _COMMIT.fullmatch(revision) is not None
    if pinned or is_offline():
        try:
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
        except (LocalEntryNotFoundError, OSError, ValueError):
            if is_offline():
                raise UsageError(
                    f"{where}: {name}",
                    f"there is no such folder, nor revision '{revision or 'main'}' of it in the hub's cache, "
                    "and look-ups are off (offline)",
                    "check the path, or fetch the model once while online",
                ) from None
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except Exception as error:  # the hub's client raises its own, httpx's and OSError
        raise UsageError(
            f"{where}: {name}",
            f"there is no such folder, and the hub does not give revision '{revision or 'main'}' "
            f"({type(error).__name__})",
            "check the path, the id and the network; set HF_HUB_OFFLINE=1 to use cached models only",
        ) from None
