"""What `run` and `compare` share: the flags that say how checkpoints are run, and running them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench import devices, flow, imported, running
from forgetbench.cli.children import run_children
from forgetbench.cli.output import say
from forgetbench.cli.progress import bars
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.runs.store import Run


@dataclass(frozen=True)
class How:
    """As the command line says it; what a child process has to be told too is in `flags`."""

    names: tuple[str, ...]
    """The models as they were typed: a folder's alias depends on the names before it."""
    flags: tuple[str, ...] = ()
    devices: str = devices.AUTO
    use_cache: bool = True

    def child(self, ws: Workspace, aliases: Sequence[str]) -> list[str]:
        """The arguments of a process that runs `aliases` alone, and calls them as this one does."""
        only = [argument for alias in aliases for argument in ("--only", alias)]
        cache = [] if self.use_cache else ["--no-cache"]
        unnamed = [alias for alias in aliases if alias not in ws.chosen]  # the locked release
        return ["run", *self.flags, *cache, *only, "--", *self.names, *unnamed]


def flags(
    *,
    config: Path | None,
    suite: str | None,
    data_dir: Path | None,
    offline: bool,
    limit: int | None,
    samples: int | None,
    temperatures: Sequence[float],
    unsafe_exec: bool,
    engine: str | None,
) -> tuple[str, ...]:
    """The flags of `forgetbench run` that were given, as text again."""
    valued = {"--config": config, "--suite": suite, "--data-dir": data_dir, "--limit": limit, "--engine": engine}
    valued |= {"--samples": samples}
    given = [text for name, value in valued.items() if value is not None for text in (name, str(value))]
    given += [text for temperature in temperatures for text in ("--temperature", str(temperature))]
    switches = {"--offline": offline, "--unsafe-exec": unsafe_exec}
    return (*given, *(name for name, is_on in switches.items() if is_on))


def run_points(ws: Workspace, points: Sequence[Checkpoint], loaded: flow.Loaded, how: How) -> dict[str, Run]:
    """The runs by alias. Where there are devices for several at once, children run them; else all go in turn."""
    from forgetbench.engines.pool import together

    named = devices.parse(how.devices)
    if named is not None:
        # Before any engine is made: what an engine calls itself depends on what it sees.
        os.environ[devices.VARIABLE] = ",".join(named)
    own = [point for point in points if not imported.is_imported(ws, point.alias)]
    on = devices.side_by_side(own, named)
    settled: list[str] = []
    if len(on) > 1 and len(together(own)) > 1:
        groups = [[p.alias for p in group] for group in together(running.unfinished(ws, own, loaded))]
        if len(groups) > 1:
            run_children(groups, on, lambda aliases: how.child(ws, aliases))
            settled = [alias for group in groups for alias in group]
    return running.run_all(ws, points, loaded, say, bars=bars, use_cache=how.use_cache, settled=settled)
