"""Records out of responses: what a task judged, joined with where the sample came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forgetbench.errors import ForgetbenchError
from forgetbench.planning.render import prompt_text
from forgetbench.types import Generate, Generation, Item, Judged, Origin, Record, Request, Response

if TYPE_CHECKING:
    from forgetbench.tasks.base import Task


_JOINT = "+"
"""Between the ids of several requests."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One item of a task under a view, and the request made for it (which others may share)."""

    item: Item
    origin: Origin
    request: Request
    also: tuple[Request, ...] = ()
    """For the item's further questions, in their order."""

    @property
    def requests(self) -> tuple[Request, ...]:
        return (self.request, *self.also)

    @property
    def request_id(self) -> str:
        """Of all its requests, as a record names them: see `read_joined`."""
        return _JOINT.join(r.request_id for r in self.requests)

    @property
    def n_samples(self) -> int:
        return max(len(r.body.seeds) if isinstance(r.body, Generate) else 1 for r in self.requests)

    @property
    def prompt(self) -> str:
        """As stored. Of several questions each distinct text once, numbered."""
        texts = list(dict.fromkeys(prompt_text(r.prompt) for r in self.requests))
        if len(texts) == 1:
            return texts[0]
        return "\n\n".join(f"[prompt {n} of {len(texts)}]\n{text}" for n, text in enumerate(texts, 1))

    @property
    def prompt_hash(self) -> str:
        """Of one question the hash that planning gave it; of several one hash over all, each in its place."""
        if not self.also:
            return self.origin.prompt_text_hash or text_hash(self.prompt)
        return text_hash("\n".join(text_hash(prompt_text(r.prompt)) for r in self.requests))


def join_responses(responses: Sequence[Response]) -> Response:
    """One response to all questions of an item: log-probabilities and generations in the questions' order.

    One that failed fails the item. Tokens and times are sums; the first token is the first question's.
    """
    if len(responses) == 1:
        return responses[0]
    error = next((r.error for r in responses if r.error is not None), None)
    if error is None and any(not r.generations and not r.scores for r in responses):
        error = "the engine's response to one of the item's questions is empty"
    times = [r.seconds for r in responses]
    computed = [r.computed_tokens for r in responses]
    return Response(
        request_id=_JOINT.join(r.request_id for r in responses),
        generations=tuple(g for r in responses for g in r.generations),
        scores=tuple(s for r in responses for s in r.scores),
        prompt_tokens=sum(r.prompt_tokens for r in responses),
        prompt_token_hash=text_hash("\n".join(r.prompt_token_hash for r in responses)),
        truncated_left=sum(r.truncated_left for r in responses),
        computed_tokens=None if None in computed else sum(c for c in computed if c is not None),
        first_token_seconds=responses[0].first_token_seconds,
        seconds=None if None in times else sum(t for t in times if t is not None),
        error=error,
    )


def read_joined(request_id: str, read: Callable[[str], Response]) -> Response:
    """The response to what a record names as its request, be it one or several. Raises what `read` raises."""
    return join_responses([read(part) for part in request_id.split(_JOINT)])


def text_hash(text: str) -> str:
    """16 hex digits of sha256 over UTF-8: two records with equal hashes were asked the identical prompt."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _mean(values: Sequence[float] | None) -> float | None:
    # nan and -inf go through: they say that something is wrong with the sample.
    return sum(values) / len(values) if values else None


def _extra(response: Response) -> Mapping[str, Any]:
    if not response.scores:
        return {}
    return {
        "choice_logprobs": [s.logprob if math.isfinite(s.logprob) else None for s in response.scores],
        "choice_tokens": [s.n_tokens for s in response.scores],
        "choice_is_greedy": [s.is_greedy for s in response.scores],
    }


def _failed(problem: str, output: str = "") -> Judged:
    return Judged(scores={}, outcome="infra_error", output=output, extracted=None, why=f"Not scored: {problem}.")


def judge(task: Task, item: Item, response: Response, n_samples: int) -> list[Judged]:
    """One Judged per sample; samples that the engine failed on are infra_error and never reach the task.

    Raises ForgetbenchError, naming task and item, when the task fails or judges another number of samples.
    """
    if response.error is not None or not (response.generations or response.scores):
        problem = (response.error or "the engine's response is empty").strip().rstrip(".")
        return [_failed(problem)] * n_samples
    try:
        judged = list(task.score(item, response))
    except ForgetbenchError:
        raise
    except Exception as e:
        raise ForgetbenchError(
            f"scoring of {item.key} ({item.source}) failed: {type(e).__name__}: {e}; this is a fault of task "
            f"{task.name}, the answers are kept and need not be generated again"
        ) from e
    if len(judged) != n_samples:
        raise ForgetbenchError(
            f"task {task.name} judged {len(judged)} samples of {item.key} where there are {n_samples}"
        )
    for i, g in enumerate(response.generations):
        if g.finish_reason == "error":
            # Of several questions each has all its samples before the next one's.
            judged[i % n_samples] = _failed("the engine failed on this sample", g.text)
    return judged


def records_of(asked: Asked, task: Task, response: Response) -> list[Record]:
    """The records of one item, by sample."""
    item, origin = asked.item, asked.origin
    prompt, prompt_hash, request_id = asked.prompt, asked.prompt_hash, asked.request_id
    infra = response.error is not None
    records = []
    for sample, judged in enumerate(judge(task, item, response, asked.n_samples)):
        g: Generation | None = response.generations[sample] if response.generations and not infra else None
        records.append(
            Record(
                task=item.key.task,
                content_hash=item.key.content_hash,
                occurrence=item.key.occurrence,
                task_type=item.task_type,
                view=origin.view,
                style=origin.style,
                decode_id=origin.decode_id,
                sample=sample,
                replicate=origin.replicate,
                outcome=judged.outcome,
                scores={k: float(v) for k, v in judged.scores.items()},
                output=judged.output,
                extracted=judged.extracted,
                gold=item.gold,
                why=judged.why,
                gold_hash=item.gold_hash,
                cluster=item.cluster,
                stratum=item.stratum,
                n_choices=item.n_choices,
                source=item.source or None,
                prompt=prompt,
                prompt_text_hash=prompt_hash,
                prompt_token_hash=response.prompt_token_hash or None,
                request_id=request_id,
                finish_reason="error" if infra else g.finish_reason if g else None,
                n_prompt_tokens=None if infra else response.prompt_tokens,
                n_output_tokens=len(g.token_ids) if g else None,
                truncated_left=None if infra else response.truncated_left,
                mean_logprob=_mean(g.logprobs) if g else None,
                mean_entropy=_mean(g.entropies) if g else None,
                # The whole response's: samples of one prompt are computed together.
                first_token_seconds=None if infra else response.first_token_seconds,
                seconds=None if infra else response.seconds,
                round=origin.round,
                extra={**_extra(response), **judged.extra},
            )
        )
    return records


def records_of_all(asked: Sequence[Asked], task: Task, read: Callable[[str], Response]) -> list[Record]:
    """The records of a task in the order of `asked`, whatever order the engine answered in."""
    return [r for a in asked for r in records_of(a, task, read_joined(a.request_id, read))]


def rejudge(judged: Judged, extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a new scoring changes in a record with that `extra`: nothing about where it came from."""
    return {
        "extra": {**extra, **judged.extra},
        "outcome": judged.outcome,
        "scores": {k: float(v) for k, v in judged.scores.items()},
        "output": judged.output,
        "extracted": judged.extracted,
        "why": judged.why,
    }
