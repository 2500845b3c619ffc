"""A base and a candidate that are a table of probabilities each: countries, and the towns they take for capitals."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from forgetbench.analysis.types import Comparison, SideInfo
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.errors import UsageError
from forgetbench.planning.plan import TaskJob
from forgetbench.rounds import Side
from forgetbench.tasks.custom import CustomSet, RawFormat, SetSpec, load_set
from forgetbench.types import (
    ContinuationScore,
    Generate,
    Generation,
    Read,
    Reading,
    Request,
    Response,
    Score,
)

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
Table = Mapping[str, Mapping[str, float]]
"""Country -> town -> probability."""


def write_towns(folder: Path, countries: Sequence[str], shots: int = 8) -> CustomSet:
    def line(country: str, town: str) -> dict[str, Any]:
        return {
            "task_type": "knowledge/capital",
            "prompt": f"Capital of {country}?",
            "statement": f"The capital of {country} is",
            "references": [town],
            "cluster": country,
        }

    lines = [line(c, f"True{c}") for c in countries]
    examples = [line(f"shot{n}", f"Town{n}") for n in range(shots)]
    for name, rows in (("towns.jsonl", lines), ("towns.shots.jsonl", examples)):
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    spec = SetSpec(
        name="towns",
        path=folder / "towns.jsonl",
        fewshot=folder / "towns.shots.jsonl",
        raw=RawFormat(num_fewshot=2),
        stop=("\n",),
        max_tokens=8,
    )
    return load_set(spec)


class Words:
    """A tokenizer of one token a word."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[i] for i in ids)


def side(name: str, task: CustomSet, *, chat: bool = False) -> Side:
    point = Checkpoint(
        alias=name,
        spec=ModelSpec(alias=name, path=name),
        folder=Path(name),
        digest=name,
        parts={},
        has_chat_template=chat,
        stop_ids=(),
        template=TEMPLATE if chat else None,
    )
    point.__dict__["_tokenizer"] = Words()
    items = task.load()
    jobs = [TaskJob(task, items, "ability", "raw", 2), TaskJob(task, items, "chat", "chat", 0)]
    return Side(point, cast("Any", None), jobs)


def comparison() -> Comparison:
    info = SideInfo("a", "a", "a")
    return Comparison(base=info, candidate=info, suite="s", changes=(), pairs=())


@dataclass
class Towns:
    """Answers requests of both checkpoints; the fake `Asker`."""

    tables: Mapping[str, Table]
    """By the checkpoint's digest."""
    tokenizers: Mapping[str, Words] = field(default_factory=dict)
    cannot: tuple[type, ...] = ()
    in_statements: Table = field(default_factory=dict)
    """What any checkpoint says where a statement is continued, if it differs."""
    in_ranking: Table = field(default_factory=dict)
    """How any checkpoint ranks given answers, if it differs."""
    asked: list[tuple[str, Request]] = field(default_factory=list)

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        if any(isinstance(r.body, self.cannot) for r in requests):
            raise UsageError("engine", "cannot do that", "choose another engine")
        self.asked += [(name, r) for r in requests]
        return {r.request_id: self._answer(r) for r in requests}

    def _answer(self, request: Request) -> Response:
        text = request.prompt.text or ""
        is_statement = text.startswith("The capital of ")
        country = text.rsplit("apital of ", 1)[1].split("?")[0].split(" is")[0].strip()
        table = self.tables[request.checkpoint].get(country, {"Nowhere": 1.0})
        if is_statement:
            table = self.in_statements.get(country, table)
        body = request.body
        if isinstance(body, Generate):
            return Response(request.request_id, tuple(self._one(table, body, s) for s in body.seeds), prompt_tokens=9)
        if isinstance(body, Score):
            table = self.in_ranking.get(country, table)
            scores = (ContinuationScore(_log(table, c.strip()), False, 1) for c in body.continuations)
            return Response(request.request_id, scores=tuple(scores), prompt_tokens=9)
        return Response(request.request_id, prompt_tokens=9, reading=self._read(table, body, request.checkpoint))

    def _one(self, table: Mapping[str, float], body: Generate, seed: int) -> Generation:
        town = max(table, key=lambda t: table[t])
        if body.temperature > 0:
            town = random.Random(seed).choices(list(table), list(table.values()))[0]
        return Generation(f" {town}" if town else "", (1, 2), "stop")

    def _read(self, table: Mapping[str, float], body: Read, checkpoint: str) -> Reading:
        words = self.tokenizers[checkpoint]
        best = words.encode(max(table, key=lambda t: table[t]))[0]
        logprobs = tuple(_log(table, words.decode([i])) for i in body.token_ids)
        n = len(body.token_ids)
        return Reading(logprobs, (0.0,) * n, (1,) * n, (best,) * n)


def _log(table: Mapping[str, float], town: str) -> float:
    return math.log(table.get(town, 1e-6))
