"""Serving requests whose tokens are all known: rows that share beginnings, in batches, halved when memory runs out."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from forgetbench.engines.common import is_out_of_memory
from forgetbench.engines.encode import Encoder
from forgetbench.engines.hf_model import HFModel, release_memory
from forgetbench.engines.hf_prefill import Prefiller
from forgetbench.engines.prefix import Budget, Group, Row, group_rows, merge_rows
from forgetbench.types import Request, Response

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pending(ABC):
    """One request on its way to a response."""

    request: Request
    prompt_tokens: int = 0
    prompt_hash: str = ""
    truncated: int = 0
    missing: int = 0
    """Targets that were not computed yet."""
    computed: int = 0
    begin: float | None = None
    seconds: float = 0.0
    error: str | None = None

    @abstractmethod
    def filled(self, response: Response) -> Response:
        """That response with what was found."""

    def response(self) -> Response:
        if self.error is not None:
            return Response(self.request.request_id, prompt_tokens=self.prompt_tokens, error=self.error)
        return self.filled(
            Response(
                request_id=self.request.request_id,
                prompt_tokens=self.prompt_tokens,
                prompt_token_hash=self.prompt_hash,
                truncated_left=self.truncated,
                computed_tokens=self.computed,
                seconds=self.seconds,
            )
        )


class RowServer(ABC):
    """The owner of a row's target is (its Pending, which of its targets)."""

    def __init__(self, model: HFModel, encoder: Encoder, prefiller: Prefiller, budget: Budget) -> None:
        self.model, self.encoder, self.prefiller, self.budget = model, encoder, prefiller, budget
        self.meter = prefiller.meter

    @abstractmethod
    def prepare(self, requests: Sequence[Request]) -> tuple[Sequence[Pending], dict[tuple[int, ...], Row]]:
        """What is to be computed for requests: rows by their ids. What cannot be served has an error and no row."""

    @abstractmethod
    def forward(self, group: Group) -> None:
        """Compute a batch and leave what was found with the owners."""

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """One response per request, as soon as all its targets are computed."""
        pending, rows = self.prepare(requests)
        for item in pending:
            if item.missing == 0 or item.error is not None:
                self.meter.answered(item.prompt_tokens)
                yield item.response()
        for group in group_rows(merge_rows(rows), self.budget):
            owners: list[Pending] = [t.owner[0] for row in group.rows for t in row.targets]
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

    def _run_group(self, group: Group) -> None:
        """Compute a batch; out of memory, halve it and make later batches smaller."""
        try:
            before = self.meter.computed_tokens
            self.forward(group)
            # A shared prefix is the first request's, which would have needed it in any case.
            tails = sum(len(row.ids) - group.shared for row in group.rows)
            group.rows[0].targets[0].owner[0].computed += self.meter.computed_tokens - before - tails
            for row in group.rows:
                row.targets[0].owner[0].computed += len(row.ids) - group.shared
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
