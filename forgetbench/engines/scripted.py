"""An engine without a model: answers come from a Python function or a JSON file.

It proves that nothing outside `engines/` knows which engine it talks to, and it serves where a model would
only be in the way: tests of resuming, of scoring, of the report.

A JSON script:

    {"rules": [{"match": "2+2", "text": "4"},
               {"match": "Answer:", "choice": 1},
               {"match": "^Q: .*moon", "regex": true, "text": ["a", "b"]},
               {"match": "broken", "error": "no such thing"}],
     "default": {"text": "I don't know", "choice": 0}}

The first rule whose `match` occurs in the prompt answers; `text` serves Generate (a list: one per sample,
again from the start when it is too short), `choice` serves Score (the option that gets most of the
probability).

A Python script has `def answer(request)` (`file.py::name` for another name), which returns a str or a list of
str for Generate, a list of log-probabilities or the index of the best option for Score, or a whole Response.

Read is answered with made-up distributions (made_up.py), unless a function answers it with a whole Response, or the
first rule that matches the prompt is an error.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines.base import Capabilities, Usage
from forgetbench.engines.common import beyond_vocabulary
from forgetbench.engines.encode import token_hash
from forgetbench.engines.made_up import VOCABULARY, made_up_reading
from forgetbench.engines.stops import cut_at_stop
from forgetbench.errors import UsageError
from forgetbench.types import ContinuationScore, Generate, Generation, Prompt, Read, Request, Response, Score

Answer = Callable[[Request], Any]
ARGS = ("script", "delay")
_BEST, _OTHERS = math.log(0.9), math.log(0.1)


class ScriptedEngine:
    """Satisfies `forgetbench.engines.base.Engine`. Tokens are characters; every one has log-probability
    -0.1."""

    def __init__(self, answer: Answer, *, delay: float = 0.0, digest: str = "function") -> None:
        self._answer, self._delay, self._digest = answer, delay, digest
        self._usage = Usage()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(score=True, generate=True, token_stats=False, accepts_messages=True, read=True)

    @property
    def identity(self) -> dict[str, str]:
        return {"name": "scripted", "version": "1", "script": self._digest}

    @property
    def usage(self) -> Usage:
        return self._usage

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in requests:
            if self._delay:
                time.sleep(self._delay)
            response = self._respond(request)
            self._count(response)
            yield response

    def _count(self, response: Response) -> None:
        """A script reads every prompt whole; it has no model to be busy."""
        old, produced = self._usage, sum(len(g.token_ids) for g in response.generations)
        self._usage = Usage(
            requests=old.requests + 1,
            prompt_tokens=old.prompt_tokens + response.prompt_tokens,
            computed_tokens=old.computed_tokens + response.prompt_tokens,
            new_tokens=old.new_tokens + produced,
        )

    def _respond(self, request: Request) -> Response:
        try:
            said = self._answer(request)
            return said if isinstance(said, Response) else _as_response(request, said)
        except Exception as error:  # a script is the user's code: its failure is that request's, not the engine's
            return Response(request.request_id, error=f"{type(error).__name__}: {' '.join(str(error).split())}")

    def close(self) -> None:
        """Nothing to give back."""


def prompt_text(prompt: Prompt) -> str:
    """What a script sees of a prompt: its text, its messages' contents, or its ids."""
    if prompt.text is not None:
        return prompt.text
    if prompt.messages is not None:
        return "\n".join(m.content for m in prompt.messages)
    return " ".join(str(i) for i in prompt.token_ids or ())


def _as_response(request: Request, said: Any) -> Response:
    text, body = prompt_text(request.prompt), request.body
    common: dict[str, Any] = {
        "request_id": request.request_id,
        "prompt_tokens": len(text),
        "prompt_token_hash": token_hash([ord(c) for c in text]),
        "seconds": 0.0,
    }
    if isinstance(body, Score):
        values = _logprobs(said, len(body.continuations))
        best = max(values)
        return Response(
            **common,
            scores=tuple(
                ContinuationScore(logprob=v, is_greedy=v == best, n_tokens=len(c))
                for v, c in zip(values, body.continuations, strict=True)
            ),
        )
    if isinstance(body, Read):
        wrong = beyond_vocabulary([*body.token_ids, *chain.from_iterable(body.at)], VOCABULARY)
        if wrong is not None:
            return Response(request.request_id, error=wrong)
        return Response(**common, reading=made_up_reading(request.checkpoint, text, body))
    count = 1 if body.temperature == 0 else len(body.seeds)
    texts = [said] if isinstance(said, str) else list(said)
    return Response(**common, generations=tuple(_generation(texts[i % len(texts)], body) for i in range(count)))


def _logprobs(said: Any, count: int) -> list[float]:
    if isinstance(said, int):
        if not 0 <= said < count:
            raise ValueError(f"choice {said} of {count}")
        return [_BEST if i == said else _OTHERS - math.log(max(count - 1, 1)) for i in range(count)]
    values = [float(v) for v in said]
    if len(values) != count:
        raise ValueError(f"{len(values)} log-probabilities for {count} continuations")
    return values


def _generation(said: str, body: Generate) -> Generation:
    cut = cut_at_stop(said, body.stop)
    is_long = len(cut) > body.max_tokens
    text = cut[: body.max_tokens]
    return Generation(
        text=text,
        token_ids=tuple(ord(c) for c in text),
        finish_reason="length" if is_long else "stop",
        logprobs=(-0.1,) * len(text) if body.stats.logprobs else None,
    )


def engine_from_args(checkpoint: Checkpoint, args: Mapping[str, Any]) -> ScriptedEngine:
    """The engine of a model with `engine: scripted`. Raises UsageError for a script that cannot be used."""
    where = f"models.{checkpoint.alias}.engine_args"
    unknown = sorted(set(args) - set(ARGS))
    if unknown:
        raise UsageError(f"{where}.{unknown[0]}", "is unknown to the scripted engine", f"use {', '.join(ARGS)}")
    delay = args.get("delay") or 0.0
    if not isinstance(delay, int | float) or isinstance(delay, bool) or delay < 0:
        raise UsageError(f"{where}.delay", f"is {delay!r}", "give seconds per response")
    answer = load_script(str(args.get("script") or ""), f"{where}.script")
    return ScriptedEngine(answer, delay=float(delay), digest=checkpoint.parts["weights"])


def load_script(script: str, where: str) -> Answer:
    """The answering function of a .json or .py script (`file.py::name`)."""
    path, _, name = script.partition("::")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"{where}: {file}", "there is no such file", "name a .py or .json file")
    if file.suffix == ".json":
        return _json_script(file)
    if file.suffix == ".py":
        return _python_script(file, name or "answer")
    raise UsageError(f"{where}: {file}", "is neither .py nor .json", "name a .py or .json file")


def _python_script(file: Path, name: str) -> Answer:
    module = ModuleType(f"forgetbench_script_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), module.__dict__)
    except Exception as error:
        raise UsageError(
            str(file),
            f"fails on import ({type(error).__name__}: {' '.join(str(error).split())})",
            "mend the script",
        ) from None
    answer = getattr(module, name, None)
    if not callable(answer):
        raise UsageError(str(file), f"has no function `{name}`", f"write `def {name}(request):`")
    return answer  # type: ignore[no-any-return]


def _json_script(file: Path) -> Answer:
    cure = 'write {"rules": [{"match": ..., "text": ...}], "default": {...}}'
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(str(file), f"is not valid JSON ({error})", cure) from None
    if not isinstance(data, dict) or set(data) - {"rules", "default"} or not isinstance(data.get("rules", []), list):
        raise UsageError(str(file), "is not a script", cure)
    default = data.get("default")
    rules = [*data.get("rules", []), *([{"match": "", **default}] if isinstance(default, dict) else [])]
    tests: list[Callable[[str], bool]] = []
    for number, rule in enumerate(rules):
        where = f"{file}: rule {number + 1}"
        if not isinstance(rule, dict) or not isinstance(rule.get("match"), str):
            raise UsageError(where, "has no `match`", cure)
        if not {"text", "choice", "error"} & set(rule):
            raise UsageError(where, "has none of `text`, `choice`, `error`", cure)
        tests.append(_test(rule, where))

    def answer(request: Request) -> Any:
        text = prompt_text(request.prompt)
        if isinstance(request.body, Read):
            first = next((rule for rule, test in zip(rules, tests, strict=True) if test(text)), None)
            return Response(request.request_id, error=str(first["error"])) if first and "error" in first else None
        wanted = "choice" if isinstance(request.body, Score) else "text"
        for rule, test in zip(rules, tests, strict=True):
            if test(text) and ("error" in rule or wanted in rule):
                if "error" in rule:
                    return Response(request.request_id, error=str(rule["error"]))
                return rule[wanted]
        raise LookupError(f"no rule with `{wanted}` matches this prompt")

    return answer


def _test(rule: Mapping[str, Any], where: str) -> Callable[[str], bool]:
    match = str(rule["match"])
    if not rule.get("regex"):
        return lambda text: match in text
    try:
        pattern = re.compile(match, re.DOTALL | re.MULTILINE)
    except re.error as error:
        raise UsageError(where, f"is not a regular expression ({error})", "mend `match`") from None
    return lambda text: pattern.search(text) is not None
