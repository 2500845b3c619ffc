"""Later rounds: questions that arise only from a comparison, asked down the same street and kept beside the runs.

A round is a set of requests computed from two runs: fresh samples of flipped items, the same question with a larger
budget, a text to be read token by token. Its answers lie in `rounds/<name>/` of the run of the checkpoint that was
asked: `responses/` as everywhere (append-only, whatever was acknowledged survives a kill), and one `plan-*.json` for
each plan, with the hashes of the records that it was computed from. A response is found by its request's id, which is
made of checkpoint, prompt and body: a later plan that asks the same question finds its answer.

Nothing of a round ever enters the comparison's scores or the gate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from forgetbench import flow
from forgetbench.errors import EngineError, Interrupted
from forgetbench.execute import TRIES
from forgetbench.runs.asking import check_capabilities
from forgetbench.runs.codec import is_final
from forgetbench.runs.files import atomic_write, safe_name
from forgetbench.runs.manifest import digest, now
from forgetbench.runs.segments import SegmentWriter, scan_folder
from forgetbench.runs.signals import sigterm_is_ctrl_c
from forgetbench.runs.spent import Spent
from forgetbench.types import Decode, Item, Judged, Request, Response, View
from forgetbench.workspace import Workspace

if TYPE_CHECKING:
    from forgetbench.checkpoints.checkpoint import Checkpoint
    from forgetbench.engines.pool import EnginePool
    from forgetbench.planning.plan import TaskJob
    from forgetbench.runs.store import Run

FOLDER = "rounds"


@dataclass(frozen=True, slots=True)
class Side:
    """One checkpoint of a comparison as later rounds see it: what it is, what it answered, how it was asked."""

    point: Checkpoint
    run: Run
    jobs: Sequence[TaskJob]

    def job(self, task: str, view: View) -> TaskJob | None:
        """How a task was asked under a view, greedily. None: it was not (chat without a template)."""
        for job in self.jobs:
            if (job.task.name, job.view, job.decode.temperature) == (task, view, 0.0):
                return None if job.style == "chat" and not self.point.has_chat_template else job
        return None


class Asker(Protocol):
    """Answers requests of a round, by request id. What could not be had is not in it."""

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """One item asked again: how, and the request for it."""

    job: TaskJob
    item: Item
    request: Request

    def judged(self, answers: Mapping[str, Response]) -> list[Judged]:
        """What the task makes of each sample; empty where there is no answer, infra errors left out."""
        from forgetbench.runs.assemble import judge
        from forgetbench.types import Generate

        response = answers.get(self.request.request_id)
        if response is None:
            return []
        body = self.request.body
        samples = len(body.seeds) if isinstance(body, Generate) else 1
        return [j for j in judge(self.job.task, self.item, response, samples) if j.outcome != "infra_error"]


def question(
    job: TaskJob,
    item: Item,
    point: Checkpoint,
    *,
    decode: Decode | None = None,
    max_tokens: int | None = None,
    num_fewshot: int | None = None,
    replicate: int = 0,
) -> Question:
    """The item asked as the job asks it but for what is given.

    replicate: of sampling seeds; another one draws fresh samples. Raises UsageError as planning does. Of an item with
    several questions only the first is asked.
    """
    from forgetbench.planning.plan import plan_item

    changed = replace(
        job,
        items=(item,),
        decode=decode or job.decode,
        max_tokens=job.max_tokens if max_tokens is None else max_tokens,
        num_fewshot=job.num_fewshot if num_fewshot is None else num_fewshot,
    )
    return Question(changed, item, plan_item(changed, item, point, replicate=replicate))


class Rounds:
    """Asks rounds, and keeps them. One for each comparison; use as a context manager."""

    def __init__(
        self,
        ws: Workspace,
        loaded: flow.Loaded,
        sides: Sequence[Side],
        say: flow.Say,
        *,
        use_cache: bool = True,
        generate: bool = True,
    ) -> None:
        """generate: False: nothing is asked; only what lies on disk is found (`report`)."""
        from forgetbench.engines.pool import EnginePool

        self._ws, self._loaded, self._say = ws, loaded, say
        self._sides = {side.point.digest: side for side in sides}
        self._use_cache, self._generate = use_cache, generate
        self._pool: EnginePool = EnginePool()
        self.spent: list[tuple[str, Spent]] = []
        """By round, what was asked now; nothing for what was on disk."""

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        """As `Asker`. Raises EngineError, DiskFullError, Interrupted; what was answered stays and is found again."""
        from forgetbench.engines.pool import together

        found: dict[str, Response] = {}
        missing: dict[str, list[Request]] = {}
        wanted: dict[str, list[Request]] = {}
        for request in {r.request_id: r for r in requests}.values():
            wanted.setdefault(request.checkpoint, []).append(request)
        for checkpoint, mine in wanted.items():
            known = self._stored(name, checkpoint, mine)
            found |= known
            missing[checkpoint] = [r for r in mine if r.request_id not in known]
        if not self._generate:
            return found
        left = [self._sides[c].point for c, mine in missing.items() if mine]
        for checkpoint, mine in wanted.items():
            if missing[checkpoint]:
                self._write_plan(name, checkpoint, mine)
        for group in together(left):
            asked = [r for point in group for r in missing[point.digest]]
            found |= self._ask(name, group, asked)
        return found

    def _folder(self, name: str, checkpoint: str) -> Path:
        return self._sides[checkpoint].run.path / FOLDER / safe_name(name)

    def _stored(self, name: str, checkpoint: str, requests: Sequence[Request]) -> dict[str, Response]:
        index = scan_folder(self._folder(name, checkpoint) / "responses")
        with index.reader() as read:
            return {r.request_id: read(r.request_id) for r in requests if index.has_final(r.request_id)}

    def _write_plan(self, name: str, checkpoint: str, requests: Sequence[Request]) -> None:
        parents = sorted(
            {e.records_sha256 for side in self._sides.values() for e in side.run.entries if e.records_sha256}
        )
        ids = sorted(r.request_id for r in requests)
        plan = {"name": name, "checkpoint": checkpoint, "parents": parents, "requests": ids, "made": now()}
        folder = self._folder(name, checkpoint)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"plan-{digest([parents, ids], 12)}.json"
        if not path.exists():
            atomic_write(path, (json.dumps(plan, indent=1) + "\n").encode())

    def _ask(self, name: str, group: Sequence[Checkpoint], requests: Sequence[Request]) -> dict[str, Response]:
        from forgetbench import running

        make = running.engine_maker(self._ws, self._pool, group, self._loaded, self._say, self._use_cache)
        answers: dict[str, Response] = {}
        writer = SegmentWriter(lambda batch: None)
        engine = None
        try:
            with sigterm_is_ctrl_c():
                engine = make()
                check_capabilities(engine.capabilities, requests)
                of = {r.request_id: r.checkpoint for r in requests}
                for _ in range(TRIES):
                    todo = [r for r in requests if r.request_id not in answers]
                    if not todo:
                        break
                    for response in engine.run(todo):
                        checkpoint = of.get(response.request_id)
                        if checkpoint is None:
                            raise EngineError(f"the engine answered {response.request_id!r}, which was not asked")
                        writer.put([self._folder(name, checkpoint) / "responses"], response)
                        if is_final(response):
                            answers[response.request_id] = response
                writer.flush()
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted in round '{name}'; the same command resumes") from None
        finally:
            try:
                writer.close()
            finally:
                if engine is not None:
                    engine.close()
        spent = Spent(tuple(p.alias for p in group), engine.usage, getattr(engine, "hits", 0))
        self.spent.append((name, spent))
        return answers
