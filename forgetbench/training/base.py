"""The weights that a fine-tune begins from: which folder they lie in, what they are, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.workspace import Workspace

_WEIGHTS_HERE = ("transformers", "vllm", "ray")


def weights_of(ws: Workspace, alias: str) -> Path:
    """The folder of an alias's weights: its own, or the snapshot of its hub id at its revision.

    Raises UsageError for a model that has no weights here, or something beside them that training would not use.
    """
    from forgetbench import flow

    spec = ws.spec(alias)
    if spec.engine not in _WEIGHTS_HERE:
        raise UsageError(f"base: {alias}", f"has no weights here (engine: {spec.engine})", "name a model that has")
    if spec.adapter is not None:
        raise UsageError(f"base: {alias}", "has an adapter", "merge it into its base first (forgetbench merge)")
    for key, cure in (
        ("tokenizer", "save it into the model's folder"),
        ("chat_template", "name it as `chat_template` of the recipe"),
    ):
        if getattr(spec, key) is not None:
            problem = f"has a {key} of its own in forgetbench.yaml, which training would not use"
            raise UsageError(f"base: {alias}", problem, cure)
    return flow.checkpoint(ws, alias).folder


def known_as(base: str, config: Path | None) -> str | None:
    """`base:` where it is an alias of forgetbench.yaml (the one named, or that of the working directory), else None.

    An alias goes before a folder of that name, for every command. Raises UsageError for a config that cannot be read.
    """
    from forgetbench.config import find_config, load_config

    try:
        file = find_config(config)
    except UsageError:
        return None
    return base if base in load_config(file).models else None


def digest_of(base: str) -> str:
    """16 hex digits over weights, configuration, tokenizer and template of a folder or hub id. Raises UsageError."""
    from forgetbench.checkpoints.fingerprint import default_cache_dir
    from forgetbench.checkpoints.resolve import resolve
    from forgetbench.checkpoints.spec import ModelSpec

    return resolve(ModelSpec("base", base), default_cache_dir()).digest


def load_model(base: str) -> Any:
    """In float32. Raises UsageError for what is no causal model."""
    with loading(base):
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


RESIZE = "resize the base's embedding to the tokenizer and save it, before training"
"""The cure for tokens that have no row."""


def embedding_rows(model: Any) -> int:
    """Tokens that the model has an input embedding for."""
    return int(model.get_input_embeddings().weight.shape[0])


@contextmanager
def loading(base: str) -> Iterator[None]:
    """What transformers says of a folder that it cannot read, in one line."""
    try:
        yield
    except ForgetbenchError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        cure = "name a whole checkpoint of a causal model"
        raise UsageError(f"base: {base}", f"cannot be loaded ({reason})", cure) from None
