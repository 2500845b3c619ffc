"""The command line whole: importing a module of commands registers them, in the order of --help."""

from __future__ import annotations

from forgetbench.cli import street, study, training, upkeep
from forgetbench.cli.root import app

__all__ = ["app", "street", "study", "training", "upkeep"]
