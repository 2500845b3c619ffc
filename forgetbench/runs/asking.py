"""Asking an engine: in which order, whether it can, and that it answers what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from forgetbench.engines.base import Capabilities, Engine
from forgetbench.errors import EngineError, UsageError
from forgetbench.runs.codec import is_final
from forgetbench.runs.segments import SegmentWriter
from forgetbench.runs.work import Work
from forgetbench.types import Generate, Prompt, Read, Request, Response, Score


def merge(orders: Iterable[Sequence[Request]]) -> list[Request]:
    """One order out of those of several plans: the same prompt for different checkpoints stands side by side.

    The first plan's order stays as it is. A later plan's request joins the place of the same question, or, where
    no plan before had that question, follows the request that it follows in its own plan. So each plan keeps
    the neighbourhoods that it was ordered for. A request that several plans have (two names of one checkpoint)
    comes once.
    """
    places: list[list[Request]] = []
    for order in orders:
        known = {_question(place[0]): i for i, place in enumerate(places)}
        added: dict[int, list[list[Request]]] = {}
        at = -1
        for request in order:
            found = known.get(_question(request))
            if found is None:
                added.setdefault(at, []).append([request])
            else:
                places[found].append(request)
                at = found
        merged = list(added.get(-1, ()))
        for i, place in enumerate(places):
            merged += [place, *added.get(i, ())]
        places = merged
    return list({r.request_id: r for place in places for r in place}.values())


def _question(request: Request) -> tuple[Prompt, bool | tuple[int, ...]]:
    body = request.body
    # Many texts are read after one and the same (empty) prompt.
    return request.prompt, body.token_ids if isinstance(body, Read) else isinstance(body, Generate)


def check_capabilities(have: Capabilities, requests: Sequence[Request]) -> None:
    """Refuse a plan that the engine cannot serve before anything runs."""
    lacking = set()
    for r in requests:
        if isinstance(r.body, Generate) and not have.generate:
            lacking.add("generate text")
        if isinstance(r.body, Score) and not have.score:
            lacking.add("score continuations")
        if isinstance(r.body, Read) and not have.read:
            lacking.add("read given tokens")
        if r.prompt.messages is not None and not have.accepts_messages:
            lacking.add("take messages")
    if lacking:
        problem = f"cannot {' or '.join(sorted(lacking))}, which the suite asks for"
        raise UsageError("engine", problem, "choose another engine for this model")


def _check_answer(request: Request, response: Response) -> None:
    """An engine that answers with another number of samples than asked would shift results silently."""
    reading = response.reading
    if response.error is not None or not (response.generations or response.scores or reading):
        return
    body = request.body
    if isinstance(body, Generate):
        got, expected = len(response.generations), len(body.seeds)
    elif isinstance(body, Read):
        got, expected = 0 if reading is None else len(reading.logprobs), len(body.token_ids)
    else:
        got, expected = len(response.scores), len(body.continuations)
    if got != expected:
        raise EngineError(f"the engine gave {got} answers to request {request.request_id}, {expected} were asked")


def ask(
    engine: Engine,
    requests: Sequence[Request],
    works: Sequence[Work],
    writer: SegmentWriter,
    finish_complete: Callable[[], None],
) -> None:
    """Ask each request once, store its answer in every unit that wants it, score complete units."""
    unanswered = {r.request_id: r for r in requests}
    # Copies: the writer's thread takes away from `missing`. By position, as two names of one checkpoint make
    # units with equal digests.
    left = [set(w.missing) for w in works]
    wanted_by: dict[str, list[int]] = {}
    for i, ids in enumerate(left):
        for request_id in ids:
            wanted_by.setdefault(request_id, []).append(i)
    for response in engine.run(requests):
        request = unanswered.pop(response.request_id, None)
        if request is None:
            raise EngineError(f"the engine answered {response.request_id!r}, which was not asked or was answered")
        _check_answer(request, response)
        wanting = wanted_by[response.request_id]
        writer.put([works[i].responses for i in wanting], response)
        if is_final(response):
            for i in wanting:
                left[i].discard(response.request_id)
            if any(not left[i] for i in wanting):
                writer.flush()
                finish_complete()
    writer.flush()
    if unanswered:
        raise EngineError(f"the engine ended with {len(unanswered)} of {len(requests)} requests unanswered")
