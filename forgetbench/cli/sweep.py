"""`forgetbench sweep`: how far a number of a recipe may go before too much is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.cli.output import console, print_json, say
from forgetbench.errors import Exit, Interrupted, UsageError
from forgetbench.runs.files import atomic_write

if TYPE_CHECKING:
    from forgetbench.training.recipe import Recipe

TOLD = "sweep.json"


def sweep(
    file: Path,
    *,
    config: Path | None = None,
    out: Path | None = None,
    as_json: bool = False,
    data_dir: Path | None = None,
    offline: bool = False,
) -> None:
    """Train and judge value after value into `out` (default: a folder beside the file, its name and `-sweep`).

    Leaves with 0 where a value is within the margin, else with the exit code of the safe end's verdict: 10 or 11.
    Raises UsageError (exit 2).
    """
    from forgetbench.runs.signals import sigterm_is_ctrl_c
    from forgetbench.sweeping.config import load_sweep
    from forgetbench.sweeping.run import open_for, run_sweep, where_of
    from forgetbench.sweeping.show import document, sentences, table
    from forgetbench.training.base import weights_of

    wanted = load_sweep(file)
    out = file.with_name(f"{file.stem}-sweep") if out is None else out
    if out.is_file():
        raise UsageError(str(out), "is a file", "name a folder with --out")
    grader = open_for(wanted, config=config, data_dir=data_dir, offline=offline)
    base = str(weights_of(grader.ws, grader.base))
    where = where_of(wanted, config=config, data_dir=data_dir, offline=offline)

    def train(recipe: Recipe, folder: Path) -> Path:
        from transformers.utils import logging

        from forgetbench.training import fit

        logging.disable_progress_bar()
        return fit.run(recipe, wanted.root, base, folder, where=where)

    try:
        with sigterm_is_ctrl_c():
            found = run_sweep(wanted, grader, out, train, say)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: the same command goes on with what is in {out}") from None
    exits = {"PASS": Exit.PASS, "FAIL": Exit.REGRESSION, "INCONCLUSIVE": Exit.INCONCLUSIVE}
    code = int(exits[found.state])
    told = document(found, code)
    atomic_write(out / TOLD, json.dumps(told, ensure_ascii=False, indent=1).encode())
    if as_json:
        print_json(told)
    else:
        console().print(table(found))
        for line in sentences(found):
            print(line)
    if code:
        sys.exit(code)
