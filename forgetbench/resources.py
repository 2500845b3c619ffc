"""Where the shipped folders lie: suites, judges, reports, configs.

In a checkout they are top-level folders beside the package; in a wheel they are inside it under `_data`. One
resolver, so that every command works from any working directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Folder = Literal["suites", "judges", "reports", "configs"]

_PACKAGE = Path(__file__).resolve().parent


def path(folder: Folder, *parts: str) -> Path:
    """The shipped folder (or a file in it). Raises FileNotFoundError when the installation is broken."""
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        if (root / folder).is_dir():
            return root.joinpath(folder, *parts)
    raise FileNotFoundError(f"forgetbench is installed without its folder '{folder}'; reinstall it")
