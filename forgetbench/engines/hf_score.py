"""Log-probabilities of continuations: few forward passes, logits only where they are wanted."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from forgetbench.engines.common import NOT_FINITE, beyond_vocabulary, is_out_of_memory
from forgetbench.engines.encode import Encoder, token_hash
from forgetbench.engines.hf_model import HFModel, release_memory
from forgetbench.engines.hf_prefill import Prefiller
from forgetbench.engines.prefix import Budget, Group, Row, Target, group_rows, merge_rows
from forgetbench.types import ContinuationScore, Request, Response, Score

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """One request on its way to a response."""

    request: Request
    scores: list[ContinuationScore | None]
    prompt_tokens: int = 0
    prompt_hash: str = ""
    truncated: int = 0
    missing: int = 0
    computed: int = 0
    begin: float | None = None
    seconds: float = 0.0
    error: str | None = None

    def response(self) -> Response:
        if self.error is not None:
            return Response(self.request.request_id, prompt_tokens=self.prompt_tokens, error=self.error)
        return Response(
            request_id=self.request.request_id,
            scores=tuple(s for s in self.scores if s is not None),
            prompt_tokens=self.prompt_tokens,
            prompt_token_hash=self.prompt_hash,
            truncated_left=self.truncated,
            computed_tokens=self.computed,
            seconds=self.seconds,
        )


class Scorer:
    """Serves Score requests."""

    def __init__(self, model: HFModel, encoder: Encoder, prefiller: Prefiller, budget: Budget) -> None:
        self.model, self.encoder, self.prefiller, self.budget = model, encoder, prefiller, budget
        self.meter = prefiller.meter

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """One response per request, as soon as all its continuations are scored."""
        pending, rows = self._prepare(requests)
        for item in pending:
            if item.missing == 0 or item.error is not None:
                self.meter.answered(item.prompt_tokens)
                yield item.response()
        for group in group_rows(merge_rows(rows), self.budget):
            owners: list[_Pending] = [t.owner[0] for row in group.rows for t in row.targets]
            begin = time.perf_counter()
            for item in owners:
                item.begin = begin if item.begin is None else item.begin
            with self.meter.busy():
                self._run_group(group)
            end = time.perf_counter()
            for item in owners:
                item.missing -= 1
                if item.missing == 0:
                    item.seconds = end - (begin if item.begin is None else item.begin)
                    self.meter.answered(item.prompt_tokens)
                    yield item.response()

    def _prepare(self, requests: Sequence[Request]) -> tuple[list[_Pending], dict[tuple[int, ...], Row]]:
        bodies = [r.body for r in requests if isinstance(r.body, Score)]
        encoded = self.encoder.pairs([(r.prompt, b.continuations) for r, b in zip(requests, bodies, strict=True)])
        pending: list[_Pending] = []
        rows: dict[tuple[int, ...], Row] = {}
        limit = self.model.max_length
        for request, pairs in zip(requests, encoded, strict=True):
            item = _Pending(request, [None] * len(pairs))
            pending.append(item)
            targets: list[tuple[tuple[int, ...], Target]] = []
            for place, pair in enumerate(pairs):
                if isinstance(pair, str):
                    item.error = pair
                    break
                if len(pair.continuation) > limit:
                    item.error = f"a continuation of {len(pair.continuation)} tokens exceeds the context of {limit}"
                    break
                whole = pair.context + pair.continuation
                item.error = beyond_vocabulary(whole, self.model.vocab_size)
                if item.error is not None:
                    break
                ids = whole[-(limit + 1) :][:-1]
                item.truncated = max(item.truncated, len(whole) - 1 - len(ids))
                item.prompt_tokens, item.prompt_hash = len(pair.context), token_hash(pair.context)
                targets.append((ids, Target((item, place), len(ids) - len(pair.continuation), pair.continuation)))
            if item.error is None:
                item.missing = len(targets)
                for ids, target in targets:
                    rows.setdefault(ids, Row(ids)).targets.append(target)
        return pending, rows

    def _run_group(self, group: Group) -> None:
        """Score a batch; out of memory, halve it and make later batches smaller."""
        try:
            self._forward(group)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.prefiller.forget()
            release_memory()
            if len(group.rows) == 1:
                tokens = len(group.rows[0].ids)
                for target in group.rows[0].targets:
                    target.owner[0].error = f"out of memory on one prompt of {tokens} tokens"
                return
            half = len(group.rows) // 2
            log.warning("out of memory on %d rows; going on with %d at a time", len(group.rows), half)
            self.budget = replace(self.budget, rows=max(1, half))
            for rows in (group.rows[:half], group.rows[half:]):
                self._run_group(Group(rows, group.shared))

    @torch.inference_mode()
    def _forward(self, group: Group) -> None:
        wanted: dict[tuple[int, int], int] = {}
        for i, row in enumerate(group.rows):
            for target in row.targets:
                for offset in range(len(target.tokens)):
                    wanted.setdefault((i, target.start + offset), len(wanted))
        before = self.meter.computed_tokens
        logits, _ = self.prefiller.forward([r.ids for r in group.rows], group.shared, list(wanted))
        for row in group.rows:
            row.targets[0].owner[0].computed += len(row.ids) - group.shared
        # A shared prefix is the first request's, which would have needed it in any case.
        tails = sum(len(row.ids) - group.shared for row in group.rows)
        group.rows[0].targets[0].owner[0].computed += self.meter.computed_tokens - before - tails
        self._collect(group.rows, wanted, logits)

    def _collect(self, rows: Sequence[Row], wanted: dict[tuple[int, int], int], logits: torch.Tensor) -> None:
        """Read the targets' log-probabilities off the logits [N, vocab]."""
        flat = [
            (wanted[i, target.start + offset], token)
            for i, row in enumerate(rows)
            for target in row.targets
            for offset, token in enumerate(target.tokens)
        ]
        index = torch.tensor(flat, device=logits.device)
        normaliser = torch.logsumexp(logits, dim=-1)
        logprobs = (logits[index[:, 0], index[:, 1]] - normaliser[index[:, 0]]).tolist()
        greedy = (logits.argmax(dim=-1)[index[:, 0]] == index[:, 1]).tolist()
        place = 0
        for row in rows:
            for target in row.targets:
                end = place + len(target.tokens)
                item, slot = target.owner
                values = logprobs[place:end]
                if all(math.isfinite(v) for v in values):
                    keep = item.request.body.stats.logprobs
                    item.scores[slot] = ContinuationScore(
                        logprob=math.fsum(values),
                        is_greedy=all(greedy[place:end]),
                        n_tokens=len(values),
                        token_logprobs=tuple(values) if keep else None,
                    )
                else:
                    item.error = NOT_FINITE
                place = end
