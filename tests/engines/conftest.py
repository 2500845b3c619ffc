"""Tiny checkpoints, made once a session, and the plain transformers model to hold the engine against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.types import Generate, Prompt, Read, Request, Response, Score
from tests.engines import tiny
from tests.engines.vllm_server import vllm_server as vllm_server

torch.set_num_threads(1)
KINDS = {"qwen3": False, "llama": True, "mistral": False, "gemma3": True, "lfm2": False}
"""Architecture -> whether its tokenizer puts BOS before raw text."""


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    made: dict[str, Checkpoint] = {}

    def make(kind: str) -> Checkpoint:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            folder = tiny.save(root / "model", kind, bos=KINDS[kind])
            made[kind] = resolve(ModelSpec(kind, str(folder)), cache_dir=root / "cache")
        return made[kind]

    return make


@pytest.fixture(params=list(KINDS))
def checkpoint(request: pytest.FixtureRequest, make_checkpoint: Callable[[str], Checkpoint]) -> Checkpoint:
    return make_checkpoint(request.param)


@pytest.fixture
def qwen(make_checkpoint: Callable[[str], Checkpoint]) -> Checkpoint:
    return make_checkpoint("qwen3")


def plain_model(checkpoint: Checkpoint) -> Any:
    """The same weights as transformers loads them, without anything of ours."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint.folder).eval()


def serve(checkpoint: Checkpoint, requests: list[Request], **args: Any) -> dict[str, Response]:
    """Answers by request id; every request must be answered exactly once."""
    answers = list(TransformersEngine(checkpoint, **args).run(requests))
    assert sorted(a.request_id for a in answers) == sorted(r.request_id for r in requests)
    return {a.request_id: a for a in answers}


def score(name: str, text: str, *continuations: str, **prompt: Any) -> Request:
    return Request(name, "x", Prompt(text=text, **prompt), Score(continuations))


def generate(name: str, text: str, max_tokens: int = 24, **body: Any) -> Request:
    return Request(name, "x", Prompt(text=text), Generate(max_tokens, **body))


def read(name: str, prompt: str | tuple[int, ...], tokens: tuple[int, ...], **body: Any) -> Request:
    given = Prompt(text=prompt) if isinstance(prompt, str) else Prompt(token_ids=prompt)
    return Request(name, "x", given, Read(tokens, **body))


def break_weights(folder: Path) -> None:
    """NaN in the first embedding row of every token: every output becomes NaN."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.embed_tokens.weight"][:, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
