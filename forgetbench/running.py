"""From checkpoints to their runs on disk: what is missing is planned, grouped by engine, and asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from forgetbench import flow
from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.engines.base import Engine
    from forgetbench.engines.pool import EnginePool
    from forgetbench.execute import Progress, Target
    from forgetbench.runs.store import Run

CACHE = "responses.sqlite"
"""The response cache, in the folder of caches."""
ProgressOf = Callable[[str], "Progress | None"]
"""The progress of a checkpoint, by alias."""
Bars = Callable[[], AbstractContextManager[ProgressOf]]


def _no_bars() -> AbstractContextManager[ProgressOf]:
    return nullcontext(lambda alias: None)


def target(ws: Workspace, point: Checkpoint, loaded: flow.Loaded, *, ask: bool = True, replicate: int = 0) -> Target:
    """Everything that the suite asks of a checkpoint, and the folder that its answers go to.

    replicate: 1 for the noise floor: the same questions with other seeds, stored apart. What an endpoint refuses is
    left out and named: it is asked what that is, unless `ask` is False.
    """
    from forgetbench.engines.openai_engine import OpenAIEngine
    from forgetbench.engines.registry import make_engine
    from forgetbench.execute import Target
    from forgetbench.planning.askable import askable
    from forgetbench.planning.plan import build_plan
    from forgetbench.runs.store import run_folder
    from forgetbench.tasks.base import warnings_of

    engine = make_engine(point)
    identity = engine.identity
    work = flow.jobs(ws, loaded, point)
    limits = (lambda: engine.limits) if ask and isinstance(engine, OpenAIEngine) else None
    plan = askable(build_plan(work, point, replicate=replicate), point, ws.cache, limits)
    plan = replace(plan, skipped=(*plan.skipped, *warnings_of(task for _, task in loaded)))
    folder = run_folder(ws.runs, point.spec.alias, point.digest, identity)
    return Target(plan, work, point, folder, identity)


def unfinished(ws: Workspace, points: Sequence[Checkpoint], loaded: flow.Loaded) -> list[Checkpoint]:
    """Those of which something would have to be asked or scored. Planned one by one, as plans are large."""
    from forgetbench.execute import complete

    return [point for point in points if not complete(target(ws, point, loaded))]


def stored(ws: Workspace, point: Checkpoint, loaded: flow.Loaded, say: flow.Say) -> Run:
    """The run as it lies on disk, no engine asked. A UsageError says what is missing and the cure."""
    from forgetbench import imported
    from forgetbench.execute import execute_together

    if imported.is_imported(ws, point.alias):
        return imported.run_of(ws, point.alias)

    def refuse() -> Engine:
        raise UsageError(
            f"model '{point.alias}'",
            f"has no complete run of this checkpoint on suite {ws.suite.name} in {ws.runs}",
            f"run it first: forgetbench run {point.alias}",
        )

    found = target(ws, point, loaded, ask=False)
    if not (found.run_dir / "manifest.json").is_file():
        refuse()
    (run,) = execute_together([found], refuse, on_note=say)
    return run


def run_all(
    ws: Workspace,
    points: Sequence[Checkpoint],
    loaded: flow.Loaded,
    say: flow.Say = print,
    *,
    bars: Bars = _no_bars,
    use_cache: bool = True,
    settled: Collection[str] = (),
    replicate: int = 0,
) -> dict[str, Run]:
    """The runs by alias, whatever is missing of them run first: group after group, one engine at a time.

    `settled` names checkpoints that were just run (by other processes): their failures are not tried again and
    what there is to say of them has been said. After each group that was asked something, one line is said
    about what it took.
    """
    from forgetbench import imported
    from forgetbench.checkpoints.endpoint_state import mark_complete
    from forgetbench.engines.pool import EnginePool, together
    from forgetbench.execute import complete

    runs = {p.alias: imported.run_of(ws, p.alias) for p in points if imported.is_imported(ws, p.alias)}
    with EnginePool() as pool:
        for group in together([p for p in points if p.alias not in runs]):
            targets = []
            for point in group:
                was_run = point.alias in settled
                made = replace(target(ws, point, loaded, replicate=replicate), settled=was_run)
                targets.append(made)
                for line in () if was_run else made.plan.skipped:
                    say(line)
            done = _run_group(targets, engine_maker(ws, pool, group, loaded, say, use_cache, replicate), say, bars)
            runs |= {point.alias: run for point, run in zip(group, done, strict=True)}
            for point, made in zip(group, targets, strict=True):
                if not point.reusable and complete(made):
                    mark_complete(point.spec, ws.cache)
    return {point.alias: runs[point.alias] for point in points}


def _run_group(targets: Sequence[Target], make: Callable[[], Engine], say: flow.Say, bars: Bars) -> list[Run]:
    from forgetbench.execute import Spent, execute_together

    spent: list[Spent] = []
    with bars() as progress_of:
        shown = [replace(t, progress=None if t.settled else progress_of(t.checkpoint.alias)) for t in targets]
        runs = execute_together(shown, make, on_note=say, on_spent=spent.append)
    for line in (one.line() for one in spent):
        if line is not None:
            say(line)
    return runs


def engine_maker(
    ws: Workspace,
    pool: EnginePool,
    group: Sequence[Checkpoint],
    loaded: flow.Loaded,
    say: flow.Say,
    use_cache: bool,
    replicate: int = 0,
) -> Callable[[], Engine]:
    """What is called when something has to be asked: the only place where an engine is made and wrapped."""
    from forgetbench.engines.cache import cached_many
    from forgetbench.execute import identity_of
    from forgetbench.tasks.base import check_ready

    def make() -> Engine:
        check_ready(task for _, task in loaded)  # before anything is asked
        engine = pool.engine(group)
        if not use_cache:
            return engine
        # The engine's own account of itself and not the announced one, so that `execute_together` still sees
        # whether the two are the same.
        served = {p.digest: (p, identity_of(engine, p)) for p in group}
        return cached_many(engine, served, ws.cache / CACHE, replicate, on_note=say)

    return make
