"""`forgetbench validate`: config, suite, policy, sets and model folders, checked without running anything."""

from __future__ import annotations

from pathlib import Path

from forgetbench import flow
from forgetbench.cli.output import print_json, say
from forgetbench.errors import ManyUsageErrors, UsageError, combined
from forgetbench.workspace import open_workspace


def validate(
    config: Path | None,
    *,
    suite: str | None,
    policy: str | None,
    waivers: Path | None,
    data_dir: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    ws = open_workspace(config, suite=suite, policy=policy, waivers=waivers, data_dir=data_dir, offline=offline)
    errors: list[UsageError] = []
    points = []
    for alias in ws.config.models:
        try:
            points.append(flow.checkpoint(ws, alias))
        except UsageError as e:
            errors.append(e)
    loaded = []
    try:
        loaded = ws.tasks()
        flow.check_policy(ws, loaded)
    except ManyUsageErrors as e:
        errors.extend(e.errors)
    except UsageError as e:
        errors.append(e)
    if errors:
        raise combined(errors)
    items = {task.name: len(task.load()) for _, task in loaded}
    if as_json:
        print_json({"valid": True, "models": {p.alias: p.digest for p in points}, "items": items})
        return
    for point in points:
        template = "chat template" if point.has_chat_template else "no chat template"
        say(f"model {point.alias}: {point.digest}, {template}")
    for name, n in items.items():
        say(f"task {name}: {n:,} items")
    say("all good")
