"""What an engine is. A new engine is one file that satisfies `Engine`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from forgetbench.types import Request, Response


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can serve, so that a plan that it cannot serve is refused before anything runs."""

    score: bool
    generate: bool
    token_stats: bool
    accepts_messages: bool = False
    adapters: bool = False
    read: bool = False
    """Whether it reports the distribution at each position of given tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an engine has really done since it was made."""

    requests: int = 0
    prompt_tokens: int = 0
    """Of all requests, every continuation or sample of a request counted with one prompt."""
    computed_tokens: int = 0
    """Prompt (and continuation) tokens that went through the model, padding left out."""
    new_tokens: int = 0
    """Generated ones."""
    busy_seconds: float = 0.0
    """Time inside the model (on a GPU: until its work was done)."""


class Engine(Protocol):
    """Serves requests. It never sees tasks, items or scores."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def identity(self) -> dict[str, str]:
        """Everything about the engine that can change a response: name, version, dtype, attention, ..."""
        ...

    @property
    def usage(self) -> Usage: ...

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Yield one response for each request, in any order, as they finish.

        A request that cannot be served yields a Response with `error`; EngineError is raised only when the
        engine itself is dead, after which nothing more is yielded.
        """
        ...

    def close(self) -> None: ...
