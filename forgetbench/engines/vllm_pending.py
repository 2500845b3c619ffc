"""A request while vLLM is at work on it, and the jobs it was cut into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forgetbench.engines.encode import Encoder
from forgetbench.types import ContinuationScore, Generation, Reading, Request, Response


@dataclass(frozen=True, slots=True)
class Served:
    """What one checkpoint needs beside the weights."""

    encoder: Encoder
    stop_ids: tuple[int, ...]
    adapter: Any
    """vLLM's LoRARequest, or None."""


@dataclass(slots=True)
class Pending:
    """One request, and what has come back of it."""

    request: Request
    left: int = 0
    prompt_tokens: int = 0
    prompt_hash: str = ""
    truncated: int = 0
    computed: int = 0
    first_token: float | None = None
    seconds: float | None = None
    scores: dict[int, ContinuationScore] = field(default_factory=dict)
    generations: dict[int, Generation] = field(default_factory=dict)
    reading: Reading | None = None
    error: str | None = None

    def response(self) -> Response:
        name = self.request.request_id
        if self.error is not None:
            return Response(name, prompt_tokens=self.prompt_tokens, error=self.error)
        return Response(
            name,
            generations=tuple(self.generations[i] for i in sorted(self.generations)),
            scores=tuple(self.scores[i] for i in sorted(self.scores)),
            prompt_tokens=self.prompt_tokens,
            prompt_token_hash=self.prompt_hash,
            truncated_left=self.truncated,
            computed_tokens=self.computed,
            first_token_seconds=self.first_token,
            seconds=self.seconds,
            reading=self.reading,
        )


@dataclass(slots=True)
class Job:
    """One request of vLLM's."""

    owner: Pending
    prompt: tuple[int, ...]
    forced: tuple[int, ...] = ()
    """A continuation of several tokens, or what is read."""
    ids: tuple[int, ...] = ()
    """First tokens to look up in one step (choices of one token)."""
    slots: tuple[tuple[int, int], ...] = ()
    """(continuation, its only token) for `ids`; (continuation, 0) for a continuation by force; none for a read."""
    sample: int = 0
    watched: bool = False
    """Whether the worker keeps statistics of it."""
