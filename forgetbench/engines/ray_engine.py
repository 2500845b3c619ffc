"""The engine that lets actors on a Ray cluster compute, each with an engine of another kind inside.

What it answers is what the engine inside answers: its identity is that engine's, so that runs and cached
answers are shared with it. That this holds is checked in every actor, not assumed (`ray_actor`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines.base import Capabilities, Usage
from forgetbench.engines.ray_args import checked
from forgetbench.types import Request, Response

if TYPE_CHECKING:
    from forgetbench.engines.ray_crew import Crew

_EVERYWHERE = ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")
"""Variables of this process that hold in the actors too."""


class RayEngine:
    """Satisfies `forgetbench.engines.base.Engine`. Light: Ray is imported and joined with the first request."""

    def __init__(self, checkpoint: Checkpoint, **engine_args: Any) -> None:
        """Raises UsageError for arguments that cannot be used, the inner engine's among them."""
        from forgetbench.engines.registry import make_engine

        self.args = checked(checkpoint.alias, engine_args)
        spec = replace(checkpoint.spec, engine=self.args.engine, engine_args=dict(self.args.engine_args))
        inner = make_engine(replace(checkpoint, spec=spec))
        given = self.args.gpus_per_actor
        self.gpus = float(inner.identity.get("device") == "cuda") if given is None else given
        if self.args.engine == "transformers" and spec.engine_args.get("device") in (None, "auto"):
            # An actor sees the GPUs that Ray gives it and no others: what it will find is known here.
            device = "cuda" if self.gpus else "cpu"
            spec = replace(spec, engine_args={**spec.engine_args, "device": device})
            inner = make_engine(replace(checkpoint, spec=spec))
        self.checkpoint = checkpoint
        self._spec, self._inner = spec, inner
        self._crew: Crew | None = None
        self._usage = Usage()

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    @property
    def identity(self) -> dict[str, str]:
        return self._inner.identity

    @property
    def usage(self) -> Usage:
        """Of all actors, lost ones included as far as they told; of all runs since the engine was made."""
        return self._usage if self._crew is None else self._crew.usage

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        if not requests:
            return
        if self._crew is None:
            from forgetbench.engines.ray_actor import Order
            from forgetbench.engines.ray_crew import Crew

            order = Order(
                spec=self._spec,
                digest=self.checkpoint.digest,
                parts=dict(self.checkpoint.parts),
                identity=self.identity,
                environment={k: os.environ[k] for k in _EVERYWHERE if k in os.environ},
            )
            self._crew = Crew(order, self.args, self.gpus, self._usage)
        yield from self._crew.run(requests)

    def close(self) -> None:
        """End the actors. A later `run` starts others."""
        if self._crew is not None:
            self._crew.close()
            self._usage, self._crew = self._crew.usage, None
        self._inner.close()
