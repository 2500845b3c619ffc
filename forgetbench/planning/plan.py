"""From tasks to requests: rendered, named by their content, deduplicated, ordered by shared prefix."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.order import in_order
from forgetbench.planning.render import prompt_text, render
from forgetbench.tasks.base import Task
from forgetbench.types import (
    GREEDY,
    Decode,
    Generate,
    Item,
    ItemKey,
    Origin,
    Plan,
    Prompt,
    PromptSpec,
    Read,
    Request,
    Score,
    Style,
    View,
)


@dataclass(frozen=True, slots=True)
class TaskJob:
    """One task under one view: which items, in which style, decoded how."""

    task: Task
    items: Sequence[Item]
    view: View
    style: Style
    num_fewshot: int = 0
    decode: Decode = field(default_factory=Decode)
    max_tokens: int | None = None
    """Overrides the task's own limit."""
    stop: tuple[str, ...] | None = None
    """Overrides the task's own stop strings."""


def build_plan(jobs: Sequence[TaskJob], checkpoint: Checkpoint, *, replicate: int = 0) -> Plan:
    """Everything to ask one checkpoint.

    A request's id depends on the checkpoint, the prompt and the decoding alone, never on the suite, a limit
    or the order of jobs. Items with the same prompt share one greedy request; samples are drawn for each
    item. What cannot be asked (chat style without a template) becomes a line in `skipped`.
    """
    requests: dict[str, Request] = {}
    # A mapping as an ordered set: thousands of items may share one question (the likelihood of a bare " A").
    origins: dict[str, dict[Origin, None]] = {}
    skipped: list[str] = []
    unasked: Counter[View] = Counter()
    for job in jobs:
        if job.style == "chat" and not checkpoint.has_chat_template:
            unasked[job.view] += len(job.items)
            continue
        failures: Counter[str] = Counter()
        for item in job.items:
            spec = job.task.prompt(item, job.num_fewshot)
            try:
                parts = _plan_parts(job, item, spec, checkpoint, replicate)
            except UsageError as error:
                failures[str(error)] += 1
                continue
            for request, origin in parts:
                requests.setdefault(request.request_id, request)
                origins.setdefault(request.request_id, {})[origin] = None
        skipped += [
            f"{checkpoint.alias}: {job.task.name} in the {job.view} view: {line} ({count} items not asked)"
            for line, count in failures.items()
        ]
    skipped = [
        f"{checkpoint.alias}: the {view} view needs a chat template and {checkpoint.alias} has none: "
        f"{count:,} items not asked"
        for view, count in unasked.items()
    ] + skipped
    ordered = in_order(requests.values())
    return Plan(
        requests=tuple(ordered),
        origins={r.request_id: tuple(origins[r.request_id]) for r in ordered},
        skipped=tuple(skipped),
    )


def _plan_parts(
    job: TaskJob, item: Item, spec: PromptSpec, checkpoint: Checkpoint, replicate: int
) -> list[tuple[Request, Origin]]:
    """One request for each question of the item: all of them, or a UsageError."""
    specs = (spec, *spec.also)
    if job.decode.temperature > 0 and len({s.form == "rank" for s in specs}) > 1:
        problem = "its items both rank and generate, and only the one can be sampled"
        raise UsageError(f"task {job.task.name}", problem, "decode it greedily")
    return [_plan_item(job, item, s, part, checkpoint, replicate) for part, s in enumerate(specs)]


def plan_item(job: TaskJob, item: Item, checkpoint: Checkpoint, *, replicate: int = 0) -> Request:
    """The request for an item (of several questions the first) as a job asks it. Raises UsageError."""
    return _plan_item(job, item, job.task.prompt(item, job.num_fewshot), 0, checkpoint, replicate)[0]


def _plan_item(
    job: TaskJob, item: Item, spec: PromptSpec, part: int, checkpoint: Checkpoint, replicate: int
) -> tuple[Request, Origin]:
    prompt, continuations = render(spec, job.style, checkpoint)
    prompt_hash = _sha(prompt_text(prompt))[:16]
    if spec.form == "rank":
        body: Generate | Score = Score(continuations=continuations)
        decode_id = GREEDY
    else:
        body = Generate(
            max_tokens=job.max_tokens if job.max_tokens is not None else spec.max_tokens,
            stop=job.stop if job.stop is not None else spec.stop,
            temperature=job.decode.temperature,
            top_p=job.decode.top_p if job.decode.temperature > 0 else 1.0,
        )
        decode_id = job.decode.decode_id
        if job.decode.temperature > 0:
            seeds = tuple(
                sampling_seed(item.key, prompt_hash, job.decode, sample, replicate, checkpoint.digest)
                for sample in range(job.decode.n)
            )
            body = replace(body, seeds=seeds)
    origin = Origin(
        item=item.key,
        view=job.view,
        style=job.style,
        decode_id=decode_id,
        replicate=replicate,
        prompt_text_hash=prompt_hash,
        part=part,
    )
    return Request(request_id(checkpoint.digest, prompt, body), checkpoint.digest, prompt, body), origin


def request_id(checkpoint: str, prompt: Prompt, body: Generate | Score | Read) -> str:
    """24 hex digits over checkpoint digest, prompt and body: the same question has the same id anywhere."""
    kind = "score" if isinstance(body, Score) else "read" if isinstance(body, Read) else "generate"
    return _sha(
        json.dumps(
            [checkpoint, prompt, kind, body],
            sort_keys=True,
            ensure_ascii=False,
            separators=(",", ":"),
            default=_fields_of,
        )
    )[:24]


def _fields_of(value: Any) -> dict[str, Any]:
    """A dataclass for json, which asks again for those inside it. asdict copies deeply: 10 times slower."""
    return {f.name: getattr(value, f.name) for f in fields(value)}


def sampling_seed(item: ItemKey, prompt_hash: str, decode: Decode, sample: int, replicate: int, checkpoint: str) -> int:
    """A 63-bit seed of one sample. It differs between checkpoints, so that their draws are independent, and not with
    the number of samples, so that 16 begin with the same 8 (`--resolve` asks only for the rest)."""
    parts = [
        item.task,
        item.content_hash,
        item.occurrence,
        prompt_hash,
        f"T{decode.temperature:g}/p{decode.top_p:g}",
        sample,
        replicate,
        checkpoint,
    ]
    return int(_sha(json.dumps(parts, separators=(",", ":")))[:16], 16) >> 1


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
