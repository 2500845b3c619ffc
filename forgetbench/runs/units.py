"""A plan cut into what is stored apart: one task under one view and decoding rule, with its identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.runs.assemble import Asked
from forgetbench.runs.files import safe_name
from forgetbench.runs.manifest import digest, identity_digest
from forgetbench.runs.types import TaskIdentity
from forgetbench.types import GREEDY, Decode, Item, Origin, Plan, Request

if TYPE_CHECKING:
    from forgetbench.planning.plan import TaskJob


class CheckpointLike(Protocol):
    """What running needs to know of a checkpoint."""

    @property
    def alias(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def parts(self) -> Mapping[str, str]: ...
    @property
    def stop_ids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Unit:
    """What one entry of a manifest is about."""

    job: TaskJob
    identity: TaskIdentity
    digest: str
    asked: tuple[Asked, ...]
    """In the order of the job's items, which is the order of the records."""

    @property
    def folder(self) -> str:
        """Relative to the run."""
        return f"tasks/{safe_name(self.identity.task)}@{self.digest}"

    @property
    def label(self) -> str:
        """For people."""
        decode_id = self.identity.decode["decode_id"]
        sampled = "" if decode_id == GREEDY else f", {decode_id}"
        return f"{self.identity.task} ({self.identity.view}{sampled})"

    @property
    def request_ids(self) -> frozenset[str]:
        return frozenset(r.request_id for a in self.asked for r in a.requests)

    @property
    def items_hash(self) -> str:
        return hash_items(a.item for a in self.asked)

    @property
    def requests_hash(self) -> str:
        return digest(sorted(self.request_ids), 16)


def hash_items(items: Iterable[Item]) -> str:
    """16 hex digits over what records hold of the items beside the answers, in any order.

    A corrected reference or a task_type that moved leaves the requests as they were; without this the records
    scored with the old one would be taken for current.
    """
    parts = [[str(i.key), i.gold_hash, i.task_type, i.cluster, i.stratum] for i in items]
    return digest(sorted(parts, key=str), 16)


def _identity(
    job: TaskJob,
    decode_id: str,
    checkpoint: CheckpointLike,
    engine: Mapping[str, str],
    replicate: int,
    plan: Plan,
) -> TaskIdentity:
    decode: dict[str, Any] = {
        "decode_id": decode_id,
        # Under temperature 0 the rest of the rule decides nothing, so it must not tell results apart.
        **asdict(Decode() if decode_id == GREEDY else job.decode),
        "style": job.style,
        "num_fewshot": job.num_fewshot,
        "max_tokens": job.max_tokens,
        "stop": None if job.stop is None else list(job.stop),
    }
    if plan.round:
        decode |= {"round": plan.round, "parents": list(plan.parents)}
    return TaskIdentity(
        task=job.task.name,
        task_version=job.task.version,
        view=job.view,
        checkpoint=checkpoint.digest,
        engine=dict(engine),
        decode=decode,
        replicate=replicate,
    )


class _Jobs:
    """Finds the job that an origin came from."""

    def __init__(self, jobs: Sequence[TaskJob]) -> None:
        self.positions = [{item.key: n for n, item in enumerate(job.items)} for job in jobs]
        self.by_decode: dict[tuple[str, str, str, str], int] = {}
        self.by_style: dict[tuple[str, str, str], list[int]] = {}
        for i, job in enumerate(jobs):
            key = (job.task.name, job.view, job.style)
            if self.by_decode.setdefault((*key, job.decode.decode_id), i) != i:
                raise UsageError(
                    f"task {job.task.name}",
                    f"is asked twice in view {job.view}, style {job.style}, decoding {job.decode.decode_id}",
                    "remove one of the two from the suite, or give a custom set another name",
                )
            self.by_style.setdefault(key, []).append(i)

    def find(self, origin: Origin) -> tuple[int, int]:
        """(index of the job, position of the item in it)."""
        key = (origin.item.task, origin.view, origin.style)
        exact = self.by_decode.get((*key, origin.decode_id))
        # A rank item has nothing to sample: it is greedy also in a job that samples.
        others = self.by_style.get(key, []) if origin.decode_id == GREEDY else []
        for index in [*([] if exact is None else [exact]), *others]:
            position = self.positions[index].get(origin.item)
            if position is not None:
                return index, position
        raise ForgetbenchError(f"the plan asks for {origin.item} ({origin.view}), which no job has")


def _asked(item: Item, parts: Mapping[int, tuple[Origin, Request]]) -> Asked:
    """An item with all of its questions, in their order. Raises ForgetbenchError when one is missing."""
    if sorted(parts) != [*range(len(parts))]:
        raise ForgetbenchError(f"the plan asks questions {sorted(parts)} of {item.key} and not those between")
    first, *rest = (parts[n] for n in range(len(parts)))
    return Asked(item, first[0], first[1], tuple(request for _, request in rest))


def build_units(
    plan: Plan, jobs: Sequence[TaskJob], checkpoint: CheckpointLike, engine: Mapping[str, str]
) -> list[Unit]:
    """Group the plan's origins by job, in the order of the jobs; a job without any origin is left out.

    Raises UsageError when two jobs cannot be told apart, ForgetbenchError when plan and jobs do not fit.
    """
    finder = _Jobs(jobs)
    found: dict[tuple[int, str, int], dict[int, dict[int, tuple[Origin, Request]]]] = {}
    for request in plan.requests:
        for origin in plan.origins[request.request_id]:
            index, position = finder.find(origin)
            mine = found.setdefault((index, origin.decode_id, origin.replicate), {})
            parts = mine.setdefault(position, {})
            if origin.part in parts:
                raise ForgetbenchError(f"the plan asks {origin.item} ({origin.view}) twice")
            parts[origin.part] = origin, request

    units = []
    for (index, decode_id, replicate), mine in sorted(found.items()):
        identity = _identity(jobs[index], decode_id, checkpoint, engine, replicate, plan)
        asked = tuple(_asked(jobs[index].items[p], mine[p]) for p in sorted(mine))
        units.append(Unit(jobs[index], identity, identity_digest(identity), asked))
    return units
