"""A made-up world of facts, two checkpoints without weights, and askers that answer from a function."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.planning.plan import TaskJob
from forgetbench.rounds import Side
from forgetbench.tasks.custom import CustomSet, RawFormat, SetSpec
from forgetbench.types import Generate, Generation, Item, Record, Request, Response

COUNTRIES = [
    *("Arland", "Borvia", "Castan", "Dorim", "Elvia", "Fenmark", "Gortia", "Halland", "Istria", "Jorvik"),
    *("Kelmar", "Lorvia", "Morland", "Nordia", "Ostavia", "Pelmark", "Quoria", "Rusland", "Selvia", "Tormark"),
]
RELATIONS = {
    "capital": "What is the capital of {}?",
    "currency": "People of {} pay with which money?",
    "animal": "Which beast stands on a flag from {}?",
}
Reply = Callable[[str, int], str]
"""(question, sample) -> answer; sample -1 is greedy."""


def gold(relation: str, country: str) -> str:
    return f"{relation[:2]}{country[::-1].lower()}"


FACTS = {RELATIONS[r].format(c): gold(r, c) for r in RELATIONS for c in COUNTRIES}


class World(NamedTuple):
    base: Side
    candidate: Side
    task: CustomSet

    def item(self, question: str) -> Item:
        return next(i for i in self.task.load() if i.doc["prompt"] == question)


def build(
    folder: Path,
    records: tuple[Sequence[Record], Sequence[Record]] = ((), ()),
    rows: Sequence[Mapping[str, Any]] = (),
) -> World:
    """rows: lines of the set; none: the facts above."""
    rows = rows or [
        {
            "id": f"{r} {c}",
            "task_type": f"facts/{r}",
            "prompt": q.format(c),
            "references": [gold(r, c)],
            "cluster": f"{r} {c}",
        }
        for r, q in RELATIONS.items()
        for c in COUNTRIES
    ]
    file = folder / "facts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = CustomSet(SetSpec("facts", file, raw=RawFormat(), max_tokens=16))
    sides = []
    for alias, found in zip(("base", "sft"), records, strict=True):
        script = folder / f"{alias}.json"
        script.write_text(json.dumps({"rules": [], "default": {"text": alias}}))
        point = resolve(ModelSpec(alias, engine="scripted", engine_args={"script": str(script)}))
        run: Any = SimpleNamespace(alias=alias, read_records=lambda found=found: list(found))
        sides.append(Side(point, run, [TaskJob(task, task.load(), "ability", "raw")]))
    return World(sides[0], sides[1], task)


class FakeAsker:
    """Answers from two functions; a reply of None is an engine's failure."""

    def __init__(self, world: World, base: Reply, candidate: Reply) -> None:
        self.replies = {world.base.point.digest: base, world.candidate.point.digest: candidate}
        self.requests: list[Request] = []
        self.names: list[str] = []

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        self.requests += requests
        self.names.append(name)
        return {r.request_id: self._response(r) for r in requests}

    def _response(self, request: Request) -> Response:
        assert isinstance(request.body, Generate)
        assert request.prompt.text is not None
        text = request.prompt.text.rsplit("Q: ", 1)[-1].removesuffix("\nA:")
        samples = [-1] if request.body.temperature == 0 else list(range(len(request.body.seeds)))
        texts = [self.replies[request.checkpoint](text, sample) for sample in samples]
        return Response(request.request_id, tuple(Generation(t, (1,), "stop") for t in texts))


def knows(seed: str, right: float = 0.85) -> Reply:
    """Answers a fact whose question stands in the text, else one of few guesses; noise depends on the text alone."""

    def reply(text: str, sample: int) -> str:
        rng = random.Random(f"{seed} {text} {sample}")
        answer = next((a for q, a in FACTS.items() if q.casefold().rstrip("?") in text.casefold()), None)
        if answer is not None and rng.random() < right:
            return answer
        return rng.choice(["nothing", "I see", "red", "blue house", rng.choice(list(FACTS.values()))])

    return reply
