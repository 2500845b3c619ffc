"""What it took to ask: an engine's own account of one call, for the manifest and as a line for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from forgetbench.engines.base import Usage


@dataclass(frozen=True, slots=True)
class Spent:
    """One engine, from its making to its close."""

    aliases: tuple[str, ...]
    """The checkpoints that it was asked about; its account cannot be divided among them."""
    usage: Usage
    cached: int = 0
    """Answers that came from the response cache instead."""

    def as_info(self) -> dict[str, Any]:
        """As the manifest of each of the checkpoints keeps it."""
        return {**asdict(self.usage), "cached": self.cached, "aliases": list(self.aliases)}

    def line(self) -> str | None:
        """`base: 12 requests, 40 of 900 prompt tokens computed, ...`, of what the engine gave numbers for."""
        usage = self.usage
        parts = []
        if self.cached:
            parts.append(f"{_count(self.cached, 'answer')} from the cache")
        if usage.requests:
            parts.append(_count(usage.requests, "request"))
        if usage.prompt_tokens:
            parts.append(f"{usage.computed_tokens:,} of {usage.prompt_tokens:,} prompt tokens computed")
        if usage.new_tokens:
            parts.append(f"{usage.new_tokens:,} generated")
        if usage.busy_seconds:
            parts.append(f"{usage.busy_seconds:,.1f} s in the model")
        return f"{', '.join(self.aliases)}: {', '.join(parts)}" if parts else None


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
