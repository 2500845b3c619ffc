"""`forgetbench baseline set`: the lock file of a run on disk."""

from __future__ import annotations

from pathlib import Path

from forgetbench import flow, imported
from forgetbench.cli.output import print_json, say
from forgetbench.errors import UsageError
from forgetbench.gate.baseline import lock_of, write_lock
from forgetbench.workspace import Workspace


def set_baseline(ws: Workspace, *, out: Path, as_json: bool) -> None:
    (alias,) = ws.chosen
    ws, loaded = imported.tasks(ws, [alias])
    run = flow.run(ws, alias, loaded, say=say, generate=False)
    lock = lock_of(run, ws.suite.name)
    try:
        write_lock(lock, out)
    except OSError as e:
        raise UsageError(str(out), f"cannot be written ({e.strerror})", "choose another path with --out") from None
    if as_json:
        print_json({"baseline": str(out), **lock.model_dump(mode="json")})
    else:
        say(f"{out}: {alias}, {lock.checkpoint}, {len(lock.tasks)} tasks of suite {lock.suite}; commit it")
