"""Log-probabilities of continuations: few forward passes, logits only where they are wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from forgetbench.engines.common import NOT_FINITE, beyond_vocabulary
from forgetbench.engines.encode import token_hash
from forgetbench.engines.hf_rows import Pending, RowServer
from forgetbench.engines.prefix import Group, Row, Target
from forgetbench.types import ContinuationScore, Request, Response, Score


@dataclass(slots=True)
class _Pending(Pending):
    scores: dict[int, ContinuationScore] = field(default_factory=dict)

    def filled(self, response: Response) -> Response:
        return replace(response, scores=tuple(self.scores[i] for i in sorted(self.scores)))


class Scorer(RowServer):
    """Serves Score requests."""

    def prepare(self, requests: Sequence[Request]) -> tuple[list[_Pending], dict[tuple[int, ...], Row]]:
        bodies = [r.body for r in requests if isinstance(r.body, Score)]
        encoded = self.encoder.pairs([(r.prompt, b.continuations) for r, b in zip(requests, bodies, strict=True)])
        pending: list[_Pending] = []
        rows: dict[tuple[int, ...], Row] = {}
        limit = self.model.max_length
        for request, pairs in zip(requests, encoded, strict=True):
            item = _Pending(request)
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

    @torch.inference_mode()
    def forward(self, group: Group) -> None:
        wanted: dict[tuple[int, int], int] = {}
        for i, row in enumerate(group.rows):
            for target in row.targets:
                for offset in range(len(target.tokens)):
                    wanted.setdefault((i, target.start + offset), len(wanted))
        logits, _ = self.prefiller.forward([r.ids for r in group.rows], group.shared, list(wanted))
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
