"""Two small tasks and an engine whose answers are a function of the request. No torch, no pandas."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from forgetbench.engines.base import Capabilities, Usage
from forgetbench.errors import EngineError
from forgetbench.planning.plan import TaskJob, build_plan
from forgetbench.tasks.base import content_hash
from forgetbench.types import (
    ContinuationScore,
    Decode,
    Generate,
    Generation,
    Item,
    ItemKey,
    Judged,
    Plan,
    PromptSpec,
    Request,
    Response,
    View,
)

IDENTITY = {"name": "fake", "version": "1", "dtype": "float32"}


def checkpoint(digest: str = "c0ffee0123456789", alias: str = "base", template: bool = True) -> SimpleNamespace:
    return SimpleNamespace(
        alias=alias,
        digest=digest,
        parts={"weights": "aa", "tokenizer": "bb"},
        stop_ids=(0,),
        has_chat_template=template,
        sends_messages=False,
        render_chat=lambda messages, prefill="": "".join(f"<{m.role}>{m.content}" for m in messages) + prefill,
    )


class FakeTask:
    """`form` rank: three choices; generate: a number. The items' texts are numbered by `name`."""

    binary = True

    def __init__(self, name: str, n: int, form: str = "generate", version: str = "1") -> None:
        self.name, self.n, self.form, self.version = name, n, form, version
        self.metrics = ("acc",) if form == "rank" else ("exact", "length")
        self.scored: list[str] = []
        self.bonus = 0.0

    def load(self) -> list[Item]:
        items = []
        for i in range(self.n):
            doc = {"question": f"{self.name} {i}?"}
            key = ItemKey(self.name, content_hash(doc), 0)
            items.append(
                Item(
                    key=key,
                    task_type=f"toy/{self.form}",
                    doc=doc,
                    gold=str(i % 3),
                    gold_hash=content_hash({"gold": i % 3}),
                    stratum=None if i % 2 else "even",
                    n_choices=3 if self.form == "rank" else None,
                    source=f"{self.name}.jsonl:{i + 1}",
                )
            )
        return items

    def prompt(self, item: Item, num_fewshot: int) -> PromptSpec:
        question = item.doc["question"]
        if self.form == "rank":
            return PromptSpec(form="rank", question=question, choices=("a", "b", "c"))
        return PromptSpec(form="generate", question=question, max_tokens=8)

    def score(self, item: Item, response: Response) -> list[Judged]:
        self.scored.append(response.request_id)
        if self.form == "rank":
            best = max(range(3), key=lambda c: response.scores[c].logprob)
            right = float(str(best) == item.gold) + self.bonus
            return [Judged({"acc": right}, "ok", str(best), str(best), "highest log-probability")]
        judged = []
        for g in response.generations:
            number = g.text.rpartition(" ")[2]
            parsed = number if number.isdigit() else None
            scores = {"exact": float(parsed == item.gold) + self.bonus, "length": len(g.text) / 7}
            judged.append(Judged(scores, "ok" if parsed else "unparsed", g.text, parsed, "last word"))
        return judged

    def canonical(self, doc: Mapping[str, Any]) -> ItemKey | None:
        return None


def answer(request: Request) -> Response:
    """The same answer to the same request, whatever the order."""
    rng = random.Random(request.request_id)
    if not isinstance(request.body, Generate):
        scores = tuple(
            ContinuationScore(rng.uniform(-9, 0), rng.random() < 0.5, rng.randint(1, 4))
            for _ in request.body.continuations
        )
        return Response(request.request_id, scores=scores, prompt_tokens=11, prompt_token_hash="t" * 16)
    generations = []
    for _ in request.body.seeds:
        n = rng.randint(1, 6)
        generations.append(
            Generation(
                text=f"café 日本 it is {rng.choice(['0', '1', '2', 'x'])}",
                token_ids=tuple(rng.randrange(1000) for _ in range(n)),
                finish_reason=rng.choice(["stop", "length"]),
                logprobs=tuple(rng.uniform(-5, 0) for _ in range(n)),
                entropies=tuple(rng.uniform(0, 3) for _ in range(n)),
            )
        )
    return Response(request.request_id, tuple(generations), prompt_tokens=7, prompt_token_hash="u" * 16)


class FakeEngine:
    """Answers in a shuffled order. `fails` says which ids fail at which try (counted from 1)."""

    capabilities = Capabilities(score=True, generate=True, token_stats=True)

    def __init__(
        self,
        *,
        delay: float = 0.0,
        seed: int = 0,
        fails: Callable[[str, int], bool] = lambda request_id, attempt: False,
        on_ask: Callable[[str], None] = lambda request_id: None,
        die_after: int | None = None,
        identity: Mapping[str, str] = IDENTITY,
    ) -> None:
        self.identity = dict(identity)
        self.delay, self.seed, self.fails, self.on_ask = delay, seed, fails, on_ask
        self.die_after = die_after
        self.asked: list[str] = []
        self.closed = False

    @property
    def usage(self) -> Usage:
        return Usage(requests=len(self.asked), prompt_tokens=10 * len(self.asked), computed_tokens=len(self.asked))

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        order = list(requests)
        random.Random(self.seed).shuffle(order)
        for request in order:
            if self.die_after is not None and len(self.asked) >= self.die_after:
                raise EngineError("the engine died")
            self.asked.append(request.request_id)
            self.on_ask(request.request_id)
            if self.delay:
                time.sleep(self.delay)
            if self.fails(request.request_id, self.asked.count(request.request_id)):
                yield Response(request.request_id, error="out of memory")
            else:
                yield answer(request)

    def close(self) -> None:
        self.closed = True


def job(task: FakeTask, view: View = "ability", limit: int | None = None, **changes: Any) -> TaskJob:
    style = "chat" if view == "chat" else "raw"
    return TaskJob(task, task.load()[:limit], view, style, **changes)


def jobs(n: int = 12) -> list[TaskJob]:
    """Three kinds: ranked, generated, sampled. The as_used view shares its requests with the ability view."""
    pick, add = FakeTask("pick", n, "rank"), FakeTask("add", n)
    sampled = job(FakeTask("dice", max(n // 4, 2)), decode=Decode(temperature=0.7, top_p=0.9, n=3))
    return [job(pick), job(add), job(add, "chat"), job(add, "as_used", limit=n // 2), sampled]


def plan(todo: Sequence[TaskJob], model: SimpleNamespace | None = None, replicate: int = 0) -> Plan:
    return build_plan(todo, model or checkpoint(), replicate=replicate)


def hex_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
