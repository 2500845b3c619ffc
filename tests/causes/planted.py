"""A made-up task whose two checkpoints are functions: every cause planted, by what they answer to which request."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetbench.analysis.types import Comparison, Pair, SideInfo
from forgetbench.analysis.types import Side as Answered
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.planning.plan import TaskJob
from forgetbench.rounds import Side, question
from forgetbench.tasks.custom import ChatFormat, RawFormat, SetSpec, load_set
from forgetbench.tasks.questions import question_of
from forgetbench.types import Generate, Generation, Item, Judged, Request, Response, View

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"
BUDGET = 12
LOOP = "and-so-on-and-so-on-and-so-forth " * 60
CHINESE = "秘鲁这个国家的首都是一座很大很美的城市，那里有很多人。"
REFUSAL = "I'm sorry, but I can't help with that."

Answer = Callable[["Asked", random.Random], str]
"""(request as a task sees it, a generator of the sample) -> the text before any cut."""


class Asked:
    """What can be read off a request."""

    def __init__(self, request: Request) -> None:
        text = request.prompt.text or ""
        self.checkpoint = request.checkpoint
        self.style = "chat" if "<assistant>" in text else "raw"
        self.statement = "The seat of" in text
        last = text.rsplit("country number ", 1)[1]
        self.number = int("".join(c for c in last[:5] if c.isdigit()))
        self.shots = text.count("country number ") - 1
        assert isinstance(request.body, Generate)
        self.body = request.body


def town(number: int) -> str:
    return f"Town{number}ville"


def write_set(folder: Path, count: int, *, statements: bool = False) -> Path:
    lines = []
    for i in range(count):
        entry: dict[str, Any] = {
            "task_type": "knowledge/capital",
            "prompt": f"What is the capital city of country number {i}?",
            "references": [town(i)],
        }
        if statements:
            entry["statement"] = f"The seat of country number {i} is"
        lines.append(entry)
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    shots = [
        {"task_type": "knowledge/capital", "prompt": f"Capital of country number {900 + i}?", "answer": town(900 + i),
         "references": [town(900 + i)]}
        for i in range(6)
    ]  # fmt: skip
    (folder / "facts.shots.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in shots))
    return path


def point(alias: str, *, template: bool = True, engine: str = "transformers") -> Checkpoint:
    spec = ModelSpec(alias, path="m", engine=engine)
    return Checkpoint(alias, spec, Path("m"), alias * 4, {}, template, (0,), TEMPLATE if template else None)


class World:
    """Both sides, their greedy comparison under some views, and an asker that counts."""

    def __init__(
        self,
        folder: Path,
        base: Answer,
        candidate: Answer,
        *,
        count: int = 200,
        views: Sequence[View] = ("ability", "chat"),
        template: bool = True,
        engine: str = "transformers",
        statements: bool = False,
    ) -> None:
        spec = SetSpec(
            "facts",
            write_set(folder, count, statements=statements),
            fewshot=folder / "facts.shots.jsonl",
            raw=RawFormat(num_fewshot=2),
            chat=ChatFormat(),
            max_tokens=BUDGET,
            extract=r"^(?:.*Answer: )?(\S+)$",
        )
        self.task = load_set(spec)
        items = self.task.load()
        self.points = point("base", template=template, engine=engine), point("sft", engine=engine)
        self.answers: Mapping[str, Answer] = {
            self.points[0].digest: base,
            self.points[1].digest: candidate,
        }
        self.sides = [
            Side(
                p,
                None,  # type: ignore[arg-type]
                [
                    TaskJob(self.task, items, v, "chat" if v == "chat" else "raw", 0 if v == "chat" else 2)
                    for v in views
                ],
            )
            for p in self.points
        ]
        self.rounds: list[tuple[str, tuple[Request, ...]]] = []
        self.views = views
        self.comparison = Comparison(
            SideInfo("base", "", ""), SideInfo("sft", "", ""), "made", (), tuple(self._pairs(items))
        )

    def __call__(self, name: str, requests: Sequence[Request]) -> dict[str, Response]:
        self.rounds.append((name, tuple(requests)))
        return {r.request_id: self.respond(r) for r in requests}

    def respond(self, request: Request) -> Response:
        asked = Asked(request)
        answer = self.answers[request.checkpoint]
        generations = []
        for seed in asked.body.seeds if asked.body.temperature else ("greedy",):
            words = answer(asked, random.Random(f"{seed} {request.checkpoint}")).split()
            cut = len(words) > asked.body.max_tokens
            text = " ".join(words[: asked.body.max_tokens])
            generations.append(Generation(text, tuple(range(len(words))), "length" if cut else "stop"))
        return Response(request.request_id, tuple(generations), prompt_tokens=5)

    def _pairs(self, items: Sequence[Item]) -> list[Pair]:
        made = []
        for view in self.views:
            for item in items:
                sides = []
                for side in self.sides:
                    job = next(j for j in side.jobs if j.view == view)
                    if job.style == "chat" and not side.point.has_chat_template:
                        continue
                    asked = question(job, item, side.point)
                    judged = asked.judged({asked.request.request_id: self.respond(asked.request)})[0]
                    sides.append(_side(judged))
                if len(sides) == 2:
                    made.append(_pair(item, view, *sides))
        return made


def _side(j: Judged) -> Answered:
    score = j.scores["correct"]
    return Answered(score, j.outcome, j.output, j.extracted, j.why, None, None, None, None, None, None)


def _pair(item: Item, view: View, base: Answered, candidate: Answered) -> Pair:
    flip = {(1.0, 0.0): "lost", (0.0, 1.0): "gained"}.get((base.score or 0.0, candidate.score or 0.0), "same")
    key = item.key
    return Pair(
        key.task, key.content_hash, key.occurrence, item.task_type, view, "correct", "greedy", item.gold, "", flip,
        base, candidate,
    )  # fmt: skip


def number_of(world: World, item: Item) -> int:
    return int("".join(c for c in question_of(world.task, item).text if c.isdigit()))


PLAN = {
    "format": range(10),
    "refused": range(10, 20),
    "truncated": range(20, 30),
    "style": range(30, 40),
    "access": range(40, 50),
    "overwritten": range(50, 60),
    "weakened": range(60, 80),
    "flicker": range(80, 110),
    "loop": range(110, 115),
    "wrong_language": range(115, 120),
    "right": range(120, 160),
    "wrong": range(160, 200),
}
CAUSE_OF = {number: cause for cause, numbers in PLAN.items() for number in numbers}


def mixed_base(asked: Asked, rng: random.Random) -> str:
    cause = CAUSE_OF[asked.number]
    if cause == "wrong":
        return town(rng.randrange(200, 900))
    if cause == "flicker":
        return _coin(asked, rng, 0.5, asked.number % 2 == 0)
    return _coin(asked, rng, 0.95, True)


def mixed_sft(asked: Asked, rng: random.Random) -> str:
    cause, right = CAUSE_OF[asked.number], town(asked.number)
    elsewhere = town(rng.randrange(200, 900))
    if asked.style == "raw" and cause in ("format", "refused", "truncated", "style", "loop", "wrong_language"):
        return right
    if cause == "access":
        return right if asked.style == "chat" and asked.shots > 1 else elsewhere
    texts = {
        "format": f"{{capital: {right}}} is it !",
        "refused": REFUSAL,
        "truncated": "I will first look at the big book of all people and then tell you . Answer: " + right,
        "style": elsewhere,
        "overwritten": "Wrongtown",
        "loop": LOOP,
        "wrong_language": CHINESE,
        "wrong": elsewhere,
    }
    if cause == "flicker":
        return _coin(asked, rng, 0.5, asked.number // 2 % 2 == 0)
    if cause == "weakened":
        return _coin(asked, rng, 0.45, False)
    return texts.get(cause) or _coin(asked, rng, 0.95, True)


def _coin(asked: Asked, rng: random.Random, rate: float, greedy: bool) -> str:
    right = rng.random() < rate if asked.body.temperature else greedy
    return town(asked.number) if right else town(899)
