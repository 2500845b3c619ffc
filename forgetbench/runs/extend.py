"""K samples of a question made of fewer that lie on disk, and the rest.

Seeds do not depend on K (planning.plan.sampling_seed), so that 16 samples begin with the same 8. Both answers joined
are what the engine would have said to the larger question: samples are independent draws, each from its own seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forgetbench.planning.plan import request_id
from forgetbench.runs.segments import Location, ResponseIndex, SegmentWriter, scan_folder
from forgetbench.runs.target import Target
from forgetbench.runs.units import build_units
from forgetbench.types import Generate, Request, Response


@dataclass(frozen=True, slots=True)
class Rest:
    """What is missing of a larger question."""

    whole: str
    """Id of the larger request."""
    folder: str
    """Of the unit that wants it, relative to the run."""
    known: str
    """Id of the smaller request, which is answered."""
    answer: Location
    """Where its answer lies."""
    request: Request
    """The samples that are missing."""


def missing_rests(target: Target) -> list[Rest]:
    """The sampled requests of a target that are unanswered while fewer samples of the same question are answered."""
    assert target.engine_identity is not None
    units = build_units(target.plan, target.jobs, target.checkpoint, target.engine_identity)
    index = _index(target)
    found: list[Rest] = []
    for unit in units:
        for asked in unit.asked:
            for request in asked.requests:
                body = request.body
                if not isinstance(body, Generate) or len(body.seeds) < 2 or index.has_final(request.request_id):
                    continue
                smaller = _largest_known(request, body, index)
                if smaller is not None:
                    rest = replace(body, seeds=body.seeds[smaller[0] :])
                    new = replace(request, request_id=request_id(request.checkpoint, request.prompt, rest), body=rest)
                    where = index.locations[smaller[1]]
                    found.append(Rest(request.request_id, unit.folder, smaller[1], where, new))
    return found


def _largest_known(request: Request, body: Generate, index: ResponseIndex) -> tuple[int, str] | None:
    for count in range(len(body.seeds) - 1, 0, -1):
        name = request_id(request.checkpoint, request.prompt, replace(body, seeds=body.seeds[:count]))
        if index.has_final(name):
            return count, name
    return None


def _index(target: Target) -> ResponseIndex:
    """Every answer of the run, whatever task it was stored under."""
    whole = ResponseIndex()
    for folder in sorted((target.run_dir / "tasks").glob("*/responses")):
        part = scan_folder(folder)
        for name, where in part.locations.items():
            whole.add(name, where)
    return whole


def store_joined(target: Target, rests: Sequence[Rest], answers: Mapping[str, Response]) -> None:
    """Store the larger questions' answers where the target looks for them. What has no answer yet is left out."""
    index = ResponseIndex({rest.known: rest.answer for rest in rests})
    writer = SegmentWriter(lambda batch: None)
    try:
        with index.reader() as read:
            for rest in rests:
                answer = answers.get(rest.request.request_id)
                if answer is not None and answer.error is None:
                    whole = _joined(rest.whole, read(rest.known), answer)
                    writer.put([target.run_dir / rest.folder / "responses"], whole)
    finally:
        writer.close()


def _joined(name: str, first: Response, rest: Response) -> Response:
    seconds = None if first.seconds is None or rest.seconds is None else first.seconds + rest.seconds
    return replace(
        first,
        request_id=name,
        generations=(*first.generations, *rest.generations),
        seconds=seconds,
    )
