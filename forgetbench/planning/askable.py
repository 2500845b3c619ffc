"""What of a plan a server can be asked: the rest falls out before anything runs, and is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.endpoint_state import Limits, known_limits, remember_limits
from forgetbench.errors import UsageError
from forgetbench.types import Plan, Read, Request, Score


def askable(plan: Plan, checkpoint: Checkpoint, cache_dir: Path, ask: Callable[[], Limits] | None) -> Plan:
    """The plan without what the checkpoint's endpoint refuses; plans for other engines come back as they are.

    `ask` asks the server (the engine's `limits`); what it says is remembered. With None, or where a server that
    was asked before does not answer now, what it said last counts: a run that lies on disk needs no server.
    """
    if checkpoint.spec.engine != "openai":
        return plan
    known = known_limits(checkpoint.spec, cache_dir)
    limits = known or Limits()
    if ask is not None:
        try:
            limits = ask()
        except UsageError:
            if known is None or not checkpoint.reusable:
                raise
        else:
            remember_limits(checkpoint.spec, limits, cache_dir)
    return within(plan, limits, checkpoint.alias)


def within(plan: Plan, limits: Limits, alias: str) -> Plan:
    """The plan without the requests that would be refused, and a line for each kind of them that names the tasks.

    Raises UsageError where nothing is left.
    """
    kept: list[Request] = []
    fallen: dict[str, set[str]] = {}
    for request in plan.requests:
        reason = _reason(request, limits)
        if not reason:
            kept.append(request)
            continue
        fallen.setdefault(reason, set()).update(
            o.item.task if o.style == "raw" else f"{o.item.task} (chat)" for o in plan.origins[request.request_id]
        )
    if not fallen:
        return plan
    lines = [f"{alias}: {reason}: {', '.join(sorted(tasks))} not asked" for reason, tasks in fallen.items()]
    if not kept:
        first = lines[0].removeprefix(f"{alias}: ")
        raise UsageError(
            f"models.{alias}", f"nothing of the suite can be asked: {first}", "use a suite that it can serve"
        )
    return replace(
        plan,
        requests=tuple(kept),
        origins={r.request_id: plan.origins[r.request_id] for r in kept},
        skipped=(*plan.skipped, *lines),
    )


def _reason(request: Request, limits: Limits) -> str:
    """Why the server would refuse it, "" where it would not."""
    if isinstance(request.body, Read):
        return ""  # no server reads: the engine's capabilities refuse the whole plan
    if isinstance(request.body, Score):
        return limits.score and f"cannot score continuations ({limits.score})"
    if request.prompt.messages is not None:
        return limits.chat and f"cannot chat ({limits.chat})"
    return limits.complete and f"cannot continue text ({limits.complete})"
