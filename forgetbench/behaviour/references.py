"""The reference answers of generating tasks, scored by both checkpoints after the very prompts that they were asked.

Score requests: no token is generated. Of every item as it was asked under a view; each checkpoint under its
own prompt of that view, so that tokenizers and templates may differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.analysis.measured import cluster_of, labels_of
from forgetbench.analysis.reference_scores import LEAST, ReferenceScores, log_of_sum
from forgetbench.causes.gold import MOST_WORDS
from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.planning.plan import TaskJob, plan_item, request_id
from forgetbench.rounds import Asker, Side
from forgetbench.tasks.custom import CustomSet
from forgetbench.tasks.gsm8k import Gsm8k
from forgetbench.tasks.lm_eval_bridge import LmEvalTask
from forgetbench.types import GREEDY, Generation, Item, Record, Request, Response, Score, View

if TYPE_CHECKING:
    from forgetbench.tasks.base import Task

MOST = 400
"""Items of a view; means over more hardly move."""
MOST_REFERENCES = 8
"""Of an item, the first ones."""
VIEWS: tuple[View, ...] = ("ability", "chat")
_CHARACTERS_A_TOKEN = 3
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Referred:
    """An item whose references both are to score."""

    task: str
    view: View
    item: Item
    requests: tuple[Request, Request]
    """Of base and candidate."""
    cost: int
    """Tokens of both prompts and of the references."""
    both_right: bool


def references_of(task: Task, item: Item) -> tuple[str, ...]:
    """The short answers that the task itself takes for right, as they are written; empty where there is none.

    Of custom sets (not of patterns), of GSM8K (the final number as its worked examples give it) and of lm-eval's tasks;
    none begins with another one, so that their probabilities add up.
    """
    inner: Any = getattr(task, "task", task)
    if not task.binary or not task.metrics:
        return ()
    if isinstance(inner, Gsm8k):
        texts = [f"#### {item.gold}"]
    elif isinstance(inner, LmEvalTask):
        texts = item.gold.split(" | ")
    elif isinstance(inner, CustomSet) and (item.doc.get("scorer") or inner.spec.scorer) not in ("regex", "none"):
        given = item.doc.get("references") or ()
        texts = [given] if isinstance(given, str) else list(given)
    else:
        return ()
    short = [t.strip() for t in texts if "\n" not in t.strip() and 0 < len(t.split()) <= MOST_WORDS]
    kept: list[str] = []
    for text in sorted(dict.fromkeys(short), key=len):
        if not any(text.startswith(k) for k in kept):
            kept.append(text)
    order = [t for t in dict.fromkeys(short) if t in kept][:MOST_REFERENCES]
    return tuple(t for t in order if _is_right(task, item, t))


def _is_right(task: Task, item: Item, text: str) -> bool:
    from forgetbench.runs.assemble import judge

    generation = Generation(text=text, token_ids=(0,), finish_reason="stop")
    try:
        judged = judge(task, item, Response(request_id="reference", generations=(generation,)), 1)
    except ForgetbenchError:
        return False  # a task that cannot score one bare text has no short answer
    return all(j.scores.get(task.metrics[0]) == 1.0 for j in judged)


def referred(
    base: Side, candidate: Side, budget: int, notes: list[str], *, most: int = MOST, seed: int = 0
) -> list[Referred]:
    """Items to score, in a seeded order over all tasks and views, as far as a budget of tokens goes. A view of which
    it allows too few has none."""
    left = budget
    found: list[Referred] = []
    taken: Counter[View] = Counter()
    cannot: Counter[str] = Counter()
    pool = sorted(_pool(base, candidate, cannot), key=lambda p: _place(p, seed))
    for pair, item, records in pool:
        view = pair[0].view
        least = sum(r.n_prompt_tokens or 0 for r in records)
        if taken[view] == most or least > left:
            continue
        made = _referred(pair, item, records, (base, candidate), cannot)
        if made is not None and made.cost <= left:
            found.append(made)
            taken[view] += 1
            left -= made.cost
    notes += [f"references are not scored: {reason} ({n:,} items)" for reason, n in sorted(cannot.items())]
    few = [view for view, n in taken.items() if n < LEAST]
    notes += [_few(view, taken[view]) for view in few]
    return [r for r in found if r.view not in few]


def _few(view: View, n: int) -> str:
    return f"references are not compared ({view}): {n} items in the share of tokens, {LEAST} are wanted"


_Pair = tuple[TaskJob, TaskJob]
_Records = tuple[Record, Record]
_Leads = tuple[str, ...]


def _place(entry: tuple[_Pair, Item, _Records], seed: int) -> bytes:
    (job, _), item, _ = entry
    return hashlib.sha256(f"{seed}/{job.view}/{item.key}".encode()).digest()


def _pool(base: Side, candidate: Side, cannot: Counter[str]) -> Iterator[tuple[_Pair, Item, _Records]]:
    """Every item that both generated an answer to."""
    for job in base.jobs:
        if job.decode.temperature or job.view not in VIEWS or not job.items:
            continue
        mine, theirs = (side.job(job.task.name, job.view) for side in (base, candidate))
        if mine is None or theirs is None:
            continue
        if not any(_generates(job, item) for item in job.items[:: -(-len(job.items) // _LOOKED_AT)]):
            continue  # thousands of ranked items need not be looked at one by one
        if any(getattr(getattr(j.task, "asked", None), "opened", None) for j in (mine, theirs)):
            cannot["the template opens a thought before the answer"] += len(job.items)
            continue
        known = [_answers(side, job.task.name, job.view) for side in (base, candidate)]
        for item in job.items:
            key = str(item.key)
            if all(key in records for records in known):
                yield (mine, theirs), item, (known[0][key], known[1][key])


def _generates(job: TaskJob, item: Item) -> bool:
    spec = job.task.prompt(item, 0)
    return spec.form == "generate" and not spec.also


def _answers(side: Side, task: str, view: View) -> dict[str, Record]:
    if not any((e.identity.task, e.identity.view, e.state) == (task, view, "complete") for e in side.run.entries):
        return {}
    return {
        str(r.key): r
        for r in side.run.read_records(task, view)
        if r.decode_id == GREEDY and r.replicate == 0 and r.outcome != "infra_error"
    }


def _referred(
    pair: _Pair, item: Item, records: _Records, sides: tuple[Side, Side], cannot: Counter[str]
) -> Referred | None:
    task = pair[0].task
    texts = references_of(task, item) if _generates(pair[0], item) else ()
    if not texts:
        return None
    leads = _leads(pair[0], item, records)
    body = Score(continuations=tuple(lead + text for text in texts for lead in leads))
    requests = []
    for job, side in zip(pair, sides, strict=True):
        try:
            prompt = plan_item(job, item, side.point).prompt
        except UsageError:
            return None
        if prompt.messages is not None:
            cannot["a server that renders the chat scores no answers in it"] += 1
            return None
        digest = side.point.digest
        requests.append(Request(request_id(digest, prompt, body), digest, prompt, body))
    written = sum(len(t) for t in body.continuations) // _CHARACTERS_A_TOKEN + len(body.continuations)
    prompts = 0
    for request, record, side in zip(requests, records, sides, strict=True):
        tokens = record.n_prompt_tokens
        tokens = len(request.prompt.text or "") // _CHARACTERS_A_TOKEN if tokens is None else tokens
        # An endpoint gets the prompt again with each continuation.
        prompts += tokens * (len(body.continuations) if side.point.spec.engine == "openai" else 1)
    metric = task.metrics[0]
    return Referred(
        task=task.name,
        view=pair[0].view,
        item=item,
        requests=(requests[0], requests[1]),
        cost=prompts + len(sides) * written,
        both_right=all(r.scores.get(metric) == 1.0 for r in records),
    )


def _leads(job: TaskJob, item: Item, records: _Records) -> _Leads:
    """What stands between prompt and answer. Raw: what the worked examples have there. In chat the template does not
    say whether an answer opens with a blank, and a tokenizer may have one inside its first word: both are tried, and
    what either side wrote."""
    if job.style == "raw":
        return (job.task.prompt(item, 0).answer_delimiter,)
    own = [r.output[: len(r.output) - len(r.output.lstrip())] for r in records if r.output.strip()]
    return tuple(dict.fromkeys(["", " ", *own]))


class Along:
    """An asker that takes further requests along: a model that is loaded for a round answers them too."""

    def __init__(self, ask: Asker, asked: Sequence[Referred]) -> None:
        self._ask = ask
        self._others = [r.requests[i] for i in (0, 1) for r in asked]
        self._answers: dict[str, Response] = {}
        self._done: set[str] = set()

    def __call__(self, name: str, requests: Sequence[Request]) -> Mapping[str, Response]:
        """As `Asker`."""
        loaded = {r.checkpoint for r in requests}
        mine = [r for r in self._others if r.checkpoint in loaded and r.request_id not in self._done]
        found = self._ask(name, [*requests, *mine])
        self._done |= {r.request_id for r in mine}
        self._answers |= {r.request_id: found[r.request_id] for r in mine if r.request_id in found}
        return found

    def answers(self) -> Mapping[str, Response]:
        """To all that was taken along; what no round took is asked now. Raises what asking raises."""
        left = [r for r in self._others if r.request_id not in self._done]
        return {**self._answers, **(self._ask("references-scored", left) if left else {})}


def scores_of(
    asked: Sequence[Referred], answers: Mapping[str, Response], notes: list[str]
) -> list[tuple[View, tuple[str, ...], ReferenceScores]]:
    """(view, tasks, scores) by view, of the items that both scored."""
    made = []
    for view in VIEWS:
        rows = [r for r in asked if r.view == view]
        both: list[tuple[Referred, tuple[float, int], tuple[float, int]]] = []
        for one in rows:
            mine, theirs = (_logprob(answers.get(q.request_id)) for q in one.requests)
            if mine is not None and theirs is not None:
                both.append((one, mine, theirs))
        if len(both) < len(rows):
            notes.append(f"the references of {len(rows) - len(both):,} of {len(rows):,} items could not be scored")
        if not both:
            continue
        if len(both) < LEAST:
            notes.append(_few(view, len(both)))
            continue
        scores = ReferenceScores(
            base=np.asarray([b[0] for _, b, _ in both]),
            candidate=np.asarray([s[0] for _, _, s in both]),
            base_tokens=np.asarray([b[1] for _, b, _ in both], dtype=np.float64),
            candidate_tokens=np.asarray([s[1] for _, _, s in both], dtype=np.float64),
            labels=labels_of([cluster_of(r.item.key, r.item.cluster) for r, _, _ in both], len(both)),
            tasks=tuple(r.task for r, _, _ in both),
            both_right=np.asarray([r.both_right for r, _, _ in both], dtype=np.bool_),
        )
        made.append((view, tuple(dict.fromkeys(scores.tasks)), scores))
    return made


def _logprob(response: Response | None) -> tuple[float, int] | None:
    """log of the summed probability, and the tokens of the likeliest continuation."""
    if response is None or response.error is not None or not response.scores:
        return None
    values = np.asarray([s.logprob for s in response.scores], dtype=np.float64)
    whole = log_of_sum(values) if not np.isnan(values).any() else -np.inf
    if not np.isfinite(whole):
        return None
    return whole, max(1, response.scores[int(values.argmax())].n_tokens)
