"""The engines of one command: which checkpoints one engine serves at once, and what engines share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines.base import Engine
from forgetbench.engines.registry import make_engine

if TYPE_CHECKING:
    from forgetbench.engines.vllm_host import VllmHost

_SAME_MODEL = ("weights", "config", "tokenizer", "stop_ids")
"""Parts in which a base and its adapters agree. The template is not among them: prompts come rendered."""


def together(points: Sequence[Checkpoint]) -> list[list[Checkpoint]]:
    """Groups that one engine serves in one batch: under vLLM, checkpoints that differ in their adapter alone.

    Groups come in the order of their first checkpoints, checkpoints within a group in the order given; one
    that vLLM does not serve is a group of its own.
    """
    groups: dict[str, list[Checkpoint]] = {}
    for number, point in enumerate(points):
        groups.setdefault(_model(point) if point.spec.engine == "vllm" else str(number), []).append(point)
    return list(groups.values())


def _model(point: Checkpoint) -> str:
    """The same text for checkpoints that can share weights in memory."""
    parts = [point.parts.get(name) for name in _SAME_MODEL]
    arguments = json.dumps(dict(point.spec.engine_args), sort_keys=True, default=str)
    return json.dumps([parts, point.spec.dtype, arguments])


class EnginePool:
    """Makes engines one after another. Light: nothing heavy is imported before an engine's first request.

    For vLLM it keeps one host for the whole command, in which the next checkpoint of one architecture takes the
    place of the one before without a restart.
    """

    def __init__(self) -> None:
        self._host: VllmHost | None = None

    def engine(self, checkpoints: Sequence[Checkpoint]) -> Engine:
        """The engine of one group of `together`. Raises UsageError as `make_engine` does."""
        first = checkpoints[0]
        if first.spec.engine == "vllm":
            from forgetbench.engines.vllm_engine import VllmEngine
            from forgetbench.engines.vllm_host import VllmHost

            if self._host is None:
                self._host = VllmHost()
            return VllmEngine(checkpoints, host=self._host, **first.spec.engine_args)
        if len(checkpoints) != 1:
            raise ValueError(f"the {first.spec.engine} engine serves one checkpoint, not {len(checkpoints)}")
        return make_engine(first)

    def close(self) -> None:
        """Give back what the engines shared."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
