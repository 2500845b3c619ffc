"""Checkpoints of training runs judged by our own gate: what `ab`, `sweep` and the retention set of `train` share.

They go down the same street as those of `compare`: the same suite, pairing, statistics and policy, runs that are kept
and never asked twice. Nothing is scored differently because we trained it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench import flow, running
from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace, model_of, open_workspace

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.runs.store import Run


@dataclass(frozen=True)
class Grader:
    """A suite and policy, opened once, and the base that every checkpoint is compared with."""

    ws: Workspace
    base: str
    loaded: flow.Loaded
    use_cache: bool = True

    def point(self, alias: str, folder: Path) -> tuple[Workspace, Checkpoint]:
        """The workspace that knows `folder` as `alias`, and the checkpoint. A LoRA adapter is put on the base."""
        known = self.ws.config.models
        if alias in known:
            raise UsageError(f"model '{alias}'", "is a model of the config already", "give it another name")
        base = known[self.base]
        model = model_of(folder.resolve(), base)
        if model.adapter is None:
            model = model.model_copy(
                update={"dtype": base.dtype, "engine": base.engine, "engine_args": base.engine_args}
            )
        ws = replace(self.ws, config=self.ws.config.model_copy(update={"models": {**known, alias: model}}))
        return ws, flow.checkpoint(ws, alias, to_run=True)

    @cached_property
    def context(self) -> str:
        """16 hex digits over all that a verdict is made with, the checkpoint aside: suite, policy, waivers, items,
        scorer, and of the base (and the locked release) the digest, the settings, and what it is asked, word for word.

        Prompts are rendered for it; no model is loaded.
        """
        from forgetbench.checkpoints.fingerprint import digest_json
        from forgetbench.runs.rescore import current_scorer_version

        chosen = [(task.name, flow.selected(self.ws, entry, task)) for entry, task in self.loaded]
        items = [[name, [[str(i.key), i.task_type, i.gold_hash] for i in found]] for name, found in chosen]
        parts = {
            "suite": self.ws.suite.model_dump(mode="json"),
            "policy": self.ws.policy.model_dump(mode="json"),
            "waivers": [repr(waiver) for waiver in self.ws.waivers],
            "items": items,
            "scorer": current_scorer_version(),
            "compared": {alias: self._asked(alias) for alias in flow.aliases(self.ws, self.base, [])},
        }
        return digest_json(parts)

    def _asked(self, alias: str) -> Any:
        """Digest and settings of a checkpoint, and what the suite asks it: few-shot examples, templates and limits lie
        in files that no name of a task tells apart."""
        from forgetbench import imported
        from forgetbench.planning.plan import build_plan

        point = flow.checkpoint(self.ws, alias, to_run=True)
        if imported.is_imported(self.ws, alias):
            return point.digest
        settings = self.ws.config.models[alias].model_dump(mode="json", include={"dtype", "engine", "engine_args"})
        plan = build_plan(flow.jobs(self.ws, self.loaded, point), point)
        requests = [[r, sorted({(o.view, o.item.task) for o in found})] for r, found in sorted(plan.origins.items())]
        return [point.digest, settings, requests]

    def prepare(self, say: flow.Say) -> Run:
        """Run the base now, so that a suite that cannot be asked is known before anything is trained."""
        point = flow.checkpoint(self.ws, self.base, to_run=True)
        flow.policies(self.ws, self.loaded, {self.base: point}, self.base, [self.base])
        return running.run_all(self.ws, [point], self.loaded, say, use_cache=self.use_cache)[self.base]

    def grade(self, alias: str, folder: Path, say: flow.Say) -> flow.Judgement:
        """Run what is missing of the checkpoint in `folder` (and of the base), compare, judge."""
        ws, point = self.point(alias, folder)
        names = flow.aliases(ws, self.base, [alias])
        points = {name: point if name == alias else flow.checkpoint(ws, name, to_run=True) for name in names}
        policies = flow.policies(ws, self.loaded, points, self.base, [alias])
        runs = running.run_all(ws, list(points.values()), self.loaded, say, use_cache=self.use_cache)
        (judged,) = flow.judge(ws, self.loaded, runs, policies, self.base, [alias])
        return judged


def open_grader(
    base: str,
    *,
    config: Path | None = None,
    suite: str | None = None,
    policy: str | None = None,
    data_dir: Path | None = None,
    offline: bool = False,
    limit: int | None = None,
    use_cache: bool = True,
) -> Grader:
    """`base`: an alias of forgetbench.yaml, or a folder. Suite and policy as `compare` takes them: a preset's name or
    a file, relative to the working directory. Raises UsageError, ManyUsageErrors."""
    ws = open_workspace(
        config, models=[base], suite=suite, policy=policy, data_dir=data_dir, offline=offline, limit=limit
    )
    return Grader(ws, ws.chosen[0], ws.tasks(), use_cache)
