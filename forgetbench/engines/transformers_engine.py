"""The default engine: transformers on CPU or one GPU.

Making it is light; torch and the weights load with the first request, so that a run with nothing left to do
never pays for them. Its identity is known before that, from the configuration and the installed versions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.files import one_line
from forgetbench.engines.base import Capabilities, Usage
from forgetbench.engines.common import as_text, dtype_of
from forgetbench.engines.hf_meter import Meter
from forgetbench.errors import EngineError, ForgetbenchError, UsageError
from forgetbench.types import Generate, Read, Request, Response, Score

if TYPE_CHECKING:
    from forgetbench.engines.hf_generate import Generator
    from forgetbench.engines.hf_read import Reader
    from forgetbench.engines.hf_score import Scorer

_CHUNK = 1024
"""Requests tokenised at a time. A plan is sorted by text, so neighbours share their beginnings."""
ARGS: dict[str, str] = {
    "device": "auto, cpu, cuda or cuda:N",
    "dtype": "overrides the model's dtype",
    "attn_implementation": "sdpa (default), eager, flash_attention_2, ...",
    "device_map": "passed to from_pretrained (needs accelerate)",
    "max_length": "context length, where it should be less than the model's",
    "batch_rows": "most rows in a batch",
    "batch_tokens": "most tokens in a batch (rows times length)",
    "share_prefix": "false: never reuse the keys and values of a common prefix",
    "add_bos_token": "true or false overrules what the tokenizer does with raw text",
    "merge_adapter": "true: merge the LoRA adapter into the weights before running",
    "trust_remote_code": "true: run the model's own Python code",
    "threads": "CPU threads",
}


class TransformersEngine:
    """Satisfies `forgetbench.engines.base.Engine`."""

    def __init__(self, checkpoint: Checkpoint, **engine_args: Any) -> None:
        self.checkpoint = checkpoint
        self.args = _checked(checkpoint.alias, engine_args)
        self.device = _device(str(self.args.get("device") or "auto"))
        self.attention = str(self.args.get("attn_implementation") or "sdpa")
        self.dtype = dtype_of(str(self.args.get("dtype") or checkpoint.spec.dtype), checkpoint.config)
        self._meter = Meter()
        self._parts: tuple[Scorer, Reader, Generator] | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(score=True, generate=True, token_stats=True, accepts_messages=True, read=True)

    @property
    def identity(self) -> dict[str, str]:
        quantisation = self.checkpoint.config.get("quantization_config")
        identity = {
            "name": "transformers",
            "transformers": metadata.version("transformers"),
            "torch": metadata.version("torch"),
            "dtype": self.dtype,
            "device": self.device.partition(":")[0],
            "attention": self.attention,
            "quantisation": str(quantisation.get("quant_method")) if isinstance(quantisation, dict) else "none",
        }
        if self.checkpoint.adapter_folder is not None:
            identity["adapter"] = "merged" if self.args.get("merge_adapter") else "served"
        for name in ("max_length", "add_bos_token"):
            if self.args.get(name) is not None:
                identity[name] = str(self.args[name])
        return identity

    @property
    def usage(self) -> Usage:
        return self._meter.usage()

    def run(self, requests: Sequence[Request]) -> Iterator[Response]:
        """Scores, reads, then generations within each chunk; responses in the order in which they finish."""
        if not requests:
            return
        scorer, reader, generator = self._load()
        for start in range(0, len(requests), _CHUNK):
            chunk = [as_text(r, self.checkpoint) for r in requests[start : start + _CHUNK]]
            try:
                yield from scorer.run([r for r in chunk if isinstance(r.body, Score)])
                yield from reader.run([r for r in chunk if isinstance(r.body, Read)])
                yield from generator.run([r for r in chunk if isinstance(r.body, Generate)])
            except ForgetbenchError:
                raise
            except Exception as error:  # a CUDA fault, a model's own bug: what is finished stays finished
                raise EngineError(
                    f"models.{self.checkpoint.alias}: the transformers engine failed ({one_line(error)})"
                ) from error

    def _load(self) -> tuple[Scorer, Reader, Generator]:
        if self._parts is not None:
            return self._parts
        from forgetbench.engines import hf_model
        from forgetbench.engines.encode import Encoder
        from forgetbench.engines.hf_generate import Generator
        from forgetbench.engines.hf_prefill import Prefiller
        from forgetbench.engines.hf_read import Reader
        from forgetbench.engines.hf_score import Scorer
        from forgetbench.engines.prefix import Budget

        model = hf_model.load(self.checkpoint, self.args, self.device, self.dtype, self.attention)
        encoder = Encoder(model.tokenizer, self.args.get("add_bos_token"))
        on_gpu = model.device.type != "cpu"
        rows = int(self.args.get("batch_rows") or (128 if on_gpu else 64))
        tokens = int(self.args.get("batch_tokens") or (131_072 if on_gpu else 65_536))
        budget = Budget(
            rows=rows,
            tokens=tokens,
            # Half a gigabyte of float32 logits at most.
            positions=max(64, 2**27 // model.vocab_size),
            forward_cost=128,
            share=bool(self.args.get("share_prefix", True)) and model.shares_prefix,
        )
        prefiller = Prefiller(model, self._meter)
        scorer = Scorer(model, encoder, prefiller, budget)
        generator = Generator(model, encoder, prefiller, self.checkpoint.stop_ids, budget)
        self._parts = (scorer, Reader(model, encoder, prefiller, budget), generator)
        return self._parts

    def close(self) -> None:
        """Give the memory back. A later `run` loads again."""
        if self._parts is not None:
            from forgetbench.engines.hf_model import release_memory

            self._parts = None
            release_memory()


def _checked(alias: str, args: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(args) - set(ARGS))
    if unknown:
        raise UsageError(
            f"models.{alias}.engine_args.{unknown[0]}",
            "is unknown to the transformers engine",
            f"use {', '.join(ARGS)}",
        )
    for name in ("max_length", "batch_rows", "batch_tokens", "threads"):
        value = args.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"models.{alias}.engine_args.{name}", f"is {value!r}", "give a whole number above 0")
    for name in ("share_prefix", "add_bos_token", "merge_adapter", "trust_remote_code"):
        if args.get(name) is not None and not isinstance(args[name], bool):
            raise UsageError(f"models.{alias}.engine_args.{name}", f"is {args[name]!r}", "give true or false")
    dtype = args.get("dtype")
    if dtype is not None and dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise UsageError(f"models.{alias}.engine_args.dtype", f"is {dtype!r}", "use float32, bfloat16 or float16")
    return dict(args)


def _device(wanted: str) -> str:
    """The device that torch would find, told without importing it (identity must be known before)."""
    if wanted != "auto":
        return wanted
    version = metadata.version("torch")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = hidden is None or hidden.strip() not in ("", "-1")
    has_driver = any(Path(p).exists() for p in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"))
    return "cuda" if has_driver and visible and "+cpu" not in version else "cpu"
