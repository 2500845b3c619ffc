"""Engines by name. A new engine is one file and one line here."""

from __future__ import annotations

import importlib.util
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines.base import Engine
from forgetbench.errors import UsageError

ENGINE_NAMES = ("transformers", "vllm", "openai", "ray", "scripted")


def make_engine(checkpoint: Checkpoint, **engine_args: Any) -> Engine:
    """The engine that a checkpoint's spec names; `engine_args` are laid over the spec's.

    Light: nothing heavy is imported before the first request. Raises UsageError for an unknown engine or
    argument, or for an adapter without peft.
    """
    spec = checkpoint.spec
    args = {**spec.engine_args, **engine_args}
    if spec.engine == "scripted":
        from forgetbench.engines.scripted import engine_from_args

        return engine_from_args(checkpoint, args)
    if spec.engine == "transformers":
        from forgetbench.engines.transformers_engine import TransformersEngine

        if spec.adapter is not None and importlib.util.find_spec("peft") is None:
            raise UsageError(
                f"models.{spec.alias}.adapter",
                "needs peft, which is not installed",
                "install forgetbench[train]",
            )
        return TransformersEngine(checkpoint, **args)
    if spec.engine == "vllm":
        from forgetbench.engines.vllm_engine import VllmEngine

        return VllmEngine(checkpoint, **args)
    if spec.engine == "openai":
        from forgetbench.engines.openai_engine import OpenAIEngine

        return OpenAIEngine(checkpoint, **args)
    if spec.engine == "ray":
        from forgetbench.engines.ray_engine import RayEngine

        if importlib.util.find_spec("ray") is None:
            raise UsageError(
                f"models.{spec.alias}.engine", "needs ray, which is not installed", "install forgetbench[ray]"
            )
        return RayEngine(checkpoint, **args)
    raise UsageError(
        f"models.{spec.alias}.engine", f"'{spec.engine}' is unknown", f"use one of {', '.join(ENGINE_NAMES)}"
    )
