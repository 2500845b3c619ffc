"""Records out of responses: what a task judged, joined with where the sample came from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from forgetbench.errors import ForgetbenchError
from forgetbench.types import Generate, Generation, Item, Judged, Origin, Prompt, Record, Request, Response

if TYPE_CHECKING:
    from forgetbench.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Asked:
    """One item of a task under a view, and the request made for it (which others may share)."""

    item: Item
    origin: Origin
    request: Request

    @property
    def n_samples(self) -> int:
        body = self.request.body
        return len(body.seeds) if isinstance(body, Generate) else 1


def prompt_text(prompt: Prompt) -> str:
    """The rendered prompt as stored: its text, else its messages or token ids as canonical JSON."""
    if prompt.text is not None:
        return prompt.text
    value: Any = list(prompt.token_ids or ())
    if prompt.messages is not None:
        value = [asdict(m) for m in prompt.messages]
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


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
            judged[i] = _failed("the engine failed on this sample", g.text)
    return judged


def records_of(asked: Asked, task: Task, response: Response) -> list[Record]:
    """The records of one item, by sample."""
    item, origin = asked.item, asked.origin
    prompt = prompt_text(asked.request.prompt)
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
                prompt_text_hash=origin.prompt_text_hash or text_hash(prompt),
                prompt_token_hash=response.prompt_token_hash or None,
                request_id=asked.request.request_id,
                finish_reason="error" if infra else g.finish_reason if g else None,
                n_prompt_tokens=None if infra else response.prompt_tokens,
                n_output_tokens=len(g.token_ids) if g else None,
                truncated_left=None if infra else response.truncated_left,
                mean_logprob=_mean(g.logprobs) if g else None,
                mean_entropy=_mean(g.entropies) if g else None,
                round=origin.round,
                extra={**_extra(response), **judged.extra},
            )
        )
    return records


def records_of_all(asked: Sequence[Asked], task: Task, read: Callable[[str], Response]) -> list[Record]:
    """The records of a task in the order of `asked`, whatever order the engine answered in."""
    return [r for a in asked for r in records_of(a, task, read(a.request.request_id))]


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
