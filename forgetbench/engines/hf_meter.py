"""Counts what the transformers engine does, as it does it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from forgetbench.engines.base import Usage


@dataclass(slots=True)
class Meter:
    """Running totals; `usage` is their snapshot (see Usage for what each means)."""

    requests: int = 0
    prompt_tokens: int = 0
    computed_tokens: int = 0
    new_tokens: int = 0
    busy_seconds: float = 0.0

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Around a forward pass *and* the reading of its results, which is where a GPU's work is waited for."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.busy_seconds += time.perf_counter() - begin

    def answered(self, prompt_tokens: int) -> None:
        self.requests += 1
        self.prompt_tokens += prompt_tokens

    def usage(self) -> Usage:
        return Usage(
            requests=self.requests,
            prompt_tokens=self.prompt_tokens,
            computed_tokens=self.computed_tokens,
            new_tokens=self.new_tokens,
            busy_seconds=self.busy_seconds,
        )
