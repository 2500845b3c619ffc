"""Reading given tokens: one forward pass over prompt and tokens, logits at the tokens' positions only.

Tokens that are read are rows like continuations that are scored: of about equal length in a batch, a shared
beginning computed once. What is read may be long and the vocabulary large, so the logits of one row come in pieces
and are turned into a few numbers block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from forgetbench.engines.encode import token_hash
from forgetbench.engines.hf_rows import Pending, RowServer
from forgetbench.engines.positions import read_positions
from forgetbench.engines.prefix import Group, Row, Target
from forgetbench.engines.reading import Position, Wanted, reading_of, unreadable, wanted_of
from forgetbench.types import Read, Reading, Request, Response


@dataclass(slots=True)
class _Pending(Pending):
    wanted: list[Wanted] = field(default_factory=list)
    positions: dict[int, Position] = field(default_factory=dict)
    reading: Reading | None = None

    def filled(self, response: Response) -> Response:
        return replace(response, reading=self.reading)


class Reader(RowServer):
    """Serves Read requests."""

    def prepare(self, requests: Sequence[Request]) -> tuple[Sequence[_Pending], dict[tuple[int, ...], Row]]:
        bodies = [r.body for r in requests if isinstance(r.body, Read)]
        contexts = self.encoder.contexts([r.prompt for r in requests])
        pending: list[_Pending] = []
        rows: dict[tuple[int, ...], Row] = {}
        limit = self.model.max_length
        for request, body, context in zip(requests, bodies, contexts, strict=True):
            whole = context + body.token_ids
            # The last token is only predicted: it may lie beyond the context.
            ids = whole[-(limit + 1) :][:-1]
            item = _Pending(
                request,
                prompt_tokens=len(context),
                prompt_hash=token_hash(context),
                truncated=len(whole) - 1 - len(ids),
                error=unreadable(context, body, limit, self.model.vocab_size),
            )
            pending.append(item)
            if item.error is None:
                item.missing, item.wanted = 1, wanted_of(body)
                start = len(ids) - len(body.token_ids)
                rows.setdefault(ids, Row(ids)).targets.append(Target((item, 0), start, body.token_ids))
        return pending, rows

    @torch.inference_mode()
    def forward(self, group: Group) -> None:
        targets = [(i, target) for i, row in enumerate(group.rows) for target in row.targets]
        # In rising order, so that a row in pieces is read from left to right; two reads may share positions.
        places = sorted({(i, t.start + offset) for i, t in targets for offset in range(len(t.tokens))})
        at = {place: number for number, place in enumerate(places)}
        asked = sorted(
            ((at[i, t.start + offset], t.owner[0], offset) for i, t in targets for offset in range(len(t.tokens))),
            key=lambda one: one[0],
        )
        done = begin = 0
        for logits in self._logits(group, places):
            end, count = begin, len(logits)
            while end < len(asked) and asked[end][0] < done + count:
                end += 1
            part = asked[begin:end]
            if [number - done for number, _, _ in part] != list(range(count)):
                logits = logits[torch.tensor([number - done for number, _, _ in part], device=logits.device)]
            found = read_positions(logits, [item.wanted[offset] for _, item, offset in part])
            for (_, item, offset), position in zip(part, found, strict=True):
                item.positions[offset] = position
            done, begin = done + count, end
        for _, target in targets:
            self._finish(target.owner[0])

    def _logits(self, group: Group, places: Sequence[tuple[int, int]]) -> Iterator[torch.Tensor]:
        """Logits of the (row, position) pairs, in their order and as many at a time as the budget allows."""
        if len(places) <= self.budget.positions:  # else it is a single row
            yield self.prefiller.forward([r.ids for r in group.rows], group.shared, places)[0]
            return
        wanted = [position for _, position in places]
        yield from self.prefiller.in_pieces(group.rows[0].ids, group.shared, wanted, self.budget.positions)

    @staticmethod
    def _finish(item: _Pending) -> None:
        body = item.request.body
        assert isinstance(body, Read)
        found = reading_of(body, [item.positions[i] for i in range(len(body.token_ids))])
        item.positions.clear()
        if isinstance(found, str):
            item.error = found
        else:
            item.reading = found
