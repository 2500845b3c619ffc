"""Our own generation loop: one batch, a cache that grows in place, finished rows dropped as they finish.

transformers' `generate` keeps finished rows until the last one ends and tells neither finish reasons nor
per-row seeds; greedy tokens equal its (tests).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from forgetbench.engines.common import NOT_FINITE, fit_prompt, is_out_of_memory
from forgetbench.engines.encode import Encoder, token_hash
from forgetbench.engines.hf_batch import Batch
from forgetbench.engines.hf_model import HFModel, release_memory
from forgetbench.engines.hf_prefill import Prefiller
from forgetbench.engines.prefix import Budget
from forgetbench.engines.sampling import Chosen, UniformStream, choose
from forgetbench.engines.stops import StopMatcher
from forgetbench.types import FinishReason, Generate, Generation, Request, Response, TopTokens

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """One request: its prompt, and its samples as they finish."""

    request: Request
    body: Generate
    prompt: tuple[int, ...]
    prompt_hash: str
    truncated: int
    done: dict[int, Generation] = field(default_factory=dict)
    computed: int = 0
    begin: float | None = None
    first_token_seconds: float | None = None
    seconds: float = 0.0
    error: str | None = None
    sent: bool = False

    @property
    def samples(self) -> int:
        return 1 if self.body.temperature == 0 else len(self.body.seeds)

    def is_complete(self) -> bool:
        return self.error is not None or len(self.done) == self.samples

    def response(self) -> Response:
        common = (self.request.request_id,)
        if self.error is not None:
            return Response(*common, prompt_tokens=len(self.prompt), error=self.error)
        return Response(
            *common,
            generations=tuple(self.done[i] for i in sorted(self.done)),
            prompt_tokens=len(self.prompt),
            prompt_token_hash=self.prompt_hash,
            truncated_left=self.truncated,
            computed_tokens=self.computed,
            first_token_seconds=self.first_token_seconds,
            seconds=self.seconds,
        )


class _Row:
    """One sample being generated."""

    __slots__ = ("entropies", "logprobs", "matcher", "owner", "sample", "stream", "tokens", "top")

    def __init__(self, owner: _Pending, sample: int, matcher: StopMatcher) -> None:
        self.owner, self.sample, self.matcher = owner, sample, matcher
        self.stream = UniformStream(owner.body.seeds[sample]) if owner.body.temperature > 0 else None
        self.reset()

    def reset(self) -> None:
        """Back to the start (a batch that ran out of memory begins again)."""
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.entropies: list[float] = []
        self.top: list[TopTokens] = []
        if self.stream is not None:
            self.stream = UniformStream(self.owner.body.seeds[self.sample])

    def finish(self, reason: FinishReason, text: str) -> None:
        stats = self.owner.body.stats
        self.owner.done[self.sample] = Generation(
            text=text,
            token_ids=tuple(self.tokens),
            finish_reason=reason,
            logprobs=tuple(self.logprobs) if stats.logprobs else None,
            entropies=tuple(self.entropies) if stats.entropy else None,
            top=tuple(self.top) if stats.top_m else None,
        )


class Generator:
    """Serves Generate requests. Batches hold at most `budget.rows` rows and `budget.tokens` tokens (rows times
    prompt and answer)."""

    def __init__(
        self, model: HFModel, encoder: Encoder, prefiller: Prefiller, stop_ids: Sequence[int], budget: Budget
    ) -> None:
        self.model, self.encoder, self.prefiller, self.budget = model, encoder, prefiller, budget
        self.stop_ids = frozenset(stop_ids)
        self.meter = prefiller.meter
        self._matchers: dict[tuple[str, ...], StopMatcher] = {}

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """One response per request, as soon as all its samples have finished."""
        rows: list[_Row] = []
        for item in self._prepare(requests):
            if item.is_complete():
                yield self._answer(item)
                continue
            matcher = self._matchers.setdefault(item.body.stop, StopMatcher(self.encoder.tokenizer, item.body.stop))
            rows += [_Row(item, sample, matcher) for sample in range(item.samples)]
        # Long prompts first: a batch that does not fit shows at once, and padding stays small.
        rows.sort(key=lambda r: (-len(r.owner.prompt), r.owner.prompt))
        start = 0
        while start < len(rows):
            end = start + self._fitting(rows[start:])
            batch = [r for r in rows[start:end] if r.owner.error is None]
            for item in self._run_batch(batch) if batch else ():
                yield self._answer(item)
            start = end

    def _answer(self, item: _Pending) -> Response:
        self.meter.answered(len(item.prompt))
        return item.response()

    def _prepare(self, requests: Sequence[Request]) -> list[_Pending]:
        prompts = self.encoder.prompts([r.prompt for r in requests])
        out: list[_Pending] = []
        for request, ids in zip(requests, prompts, strict=True):
            body = request.body
            assert isinstance(body, Generate)
            kept, error = fit_prompt(ids, body.max_tokens, self.model.max_length, self.model.vocab_size)
            item = _Pending(request, body, kept, token_hash(ids), len(ids) - len(kept), error=error)
            out.append(item)
        return out

    def _fitting(self, rows: Sequence[_Row]) -> int:
        """How many of these rows, longest prompt first, one batch may hold (at least one)."""
        longest = len(rows[0].owner.prompt)
        answer = 0
        for count, row in enumerate(rows[: self.budget.rows]):
            answer = max(answer, row.owner.body.max_tokens)
            if count and (count + 1) * (longest + answer) > self.budget.tokens:
                return count
        return min(len(rows), self.budget.rows)

    def _run_batch(self, rows: Sequence[_Row]) -> Iterator[_Pending]:
        """Generate a batch; out of memory, begin its unfinished rows again in halves."""
        try:
            yield from self._loop(rows)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        self.prefiller.forget()
        release_memory()
        left = [r for r in rows if r.sample not in r.owner.done and r.owner.error is None]
        if not left:
            return
        if len(left) == 1:
            left[0].owner.sent = True
            left[0].owner.error = f"out of memory on one prompt of {len(left[0].owner.prompt)} tokens"
            yield left[0].owner
            return
        half = max(1, len(left) // 2)
        self.budget = replace(self.budget, rows=min(self.budget.rows, half))
        log.warning("out of memory on %d rows; going on with %d at a time", len(left), half)
        for row in left:
            row.reset()
        for start in range(0, len(left), half):
            yield from self._run_batch(left[start : start + half])

    def _loop(self, rows: Sequence[_Row]) -> Iterator[_Pending]:
        """Yield each request when its last sample finishes."""
        begin = time.perf_counter()
        for row in rows:
            row.owner.begin = begin if row.owner.begin is None else row.owner.begin
        batch = Batch(self.prefiller, self.budget, [r.owner.prompt for r in rows])
        rows = list(rows)
        alive = [True] * len(rows)
        with torch.inference_mode(), self.meter.busy():
            logits = batch.prefill()
            chosen = _choose(rows, logits)
        self._began(rows, batch.computed)
        while True:
            self.meter.new_tokens += sum(alive)
            for place, row in enumerate(rows):
                if alive[place] and self._advance(row, place, chosen):
                    alive[place] = False
                    owner = row.owner
                    owner.seconds = time.perf_counter() - (owner.begin or begin)
                    if owner.is_complete() and not owner.sent:
                        owner.sent = True
                        yield owner
            tokens = chosen.tokens
            if batch.should_compact(sum(alive), len(rows)):
                kept = [i for i, live in enumerate(alive) if live]
                if not kept:
                    return
                with torch.inference_mode():
                    batch.keep(kept)
                rows, tokens, alive = [rows[i] for i in kept], [tokens[i] for i in kept], [True] * len(kept)
            with torch.inference_mode(), self.meter.busy():
                chosen = _choose(rows, batch.step(tokens))

    def _began(self, rows: Sequence[_Row], computed: Sequence[int]) -> None:
        """Note the first tokens of a batch, and what its prompts cost."""
        now = time.perf_counter()
        for row, tokens in zip(rows, computed, strict=True):
            owner = row.owner
            owner.computed += tokens
            if owner.first_token_seconds is None and owner.begin is not None:
                owner.first_token_seconds = now - owner.begin

    def _advance(self, row: _Row, place: int, chosen: Chosen) -> bool:
        """Append the chosen token; True when the row has ended."""
        owner = row.owner
        if owner.error is not None:  # another sample of this request failed
            return True
        token, logprob = chosen.tokens[place], chosen.logprobs[place]
        if not math.isfinite(logprob):
            owner.error = NOT_FINITE
            return True
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if chosen.entropies is not None:
            row.entropies.append(chosen.entropies[place])
        if chosen.top is not None and owner.body.stats.top_m:
            top, m = chosen.top[place], owner.body.stats.top_m
            row.top.append(top if len(top.ids) == m else _shorten(top, m))
        if token in self.stop_ids:
            row.finish("stop", row.matcher.text(row.tokens[:-1], hit=False))
        elif row.matcher.hit(row.tokens):
            row.finish("stop", row.matcher.text(row.tokens, hit=True))
        elif len(row.tokens) >= owner.body.max_tokens:
            row.finish("length", row.matcher.text(row.tokens, hit=False))
        else:
            return False
        return True


def _choose(rows: Sequence[_Row], logits: torch.Tensor) -> Chosen:
    bodies = [r.owner.body for r in rows]
    return choose(
        logits,
        [b.temperature for b in bodies],
        [b.top_p for b in bodies],
        [r.stream for r in rows],
        entropy=any(b.stats.entropy for b in bodies),
        top_m=max(b.stats.top_m for b in bodies),
    )


def _shorten(top: TopTokens, m: int) -> TopTokens:
    """The first m of a longer list (rows of one batch may want different lengths)."""
    moved = math.fsum(math.exp(v) for v in top.logprobs[m:])
    return TopTokens(top.ids[:m], top.logprobs[:m], top.tail_mass + moved)
