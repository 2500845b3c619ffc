"""A loaded transformers model with the three things both scoring and generation need: logits at chosen
positions only, caches that fit the architecture, and a way to recognise running out of memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.utils import logging as hf_logging

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.files import one_line
from forgetbench.errors import ForgetbenchError, ModelLoadError

_PLAIN_ATTENTION = {"full_attention", "sliding_attention", "attention"}
_GROWTH = 256


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer with room ahead: a token is written in place instead of copying all keys at every step.

    Keys and values are [batch, heads, length, size], as in DynamicLayer.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rooms: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old = self.get_seq_length()
        new = old + key_states.shape[-2]
        if not self._rooms or self._rooms[0].shape[-2] < new:
            rooms = [
                states.new_empty(*states.shape[:-2], new + _GROWTH, states.shape[-1])
                for states in (key_states, value_states)
            ]
            if old:
                rooms[0][..., :old, :] = self.keys
                rooms[1][..., :old, :] = self.values
            self._rooms = rooms
        self._rooms[0][..., old:new, :] = key_states
        self._rooms[1][..., old:new, :] = value_states
        self.show(new)
        return self.keys, self.values

    def show(self, length: int) -> None:
        """Let that many columns of the room count as keys and values."""
        self.keys = self._rooms[0][..., :length, :]
        self.values = self._rooms[1][..., :length, :]

    @classmethod
    def with_room(cls, keys: torch.Tensor, values: torch.Tensor, rows: int, length: int) -> GrowingLayer:
        """An empty layer for `rows` rows of about `length` columns, shaped otherwise like keys and values."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer._rooms = [s.new_empty(rows, s.shape[1], length + _GROWTH, s.shape[3]) for s in (keys, values)]
        return layer

    def put(self, row: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write one row's keys and values [heads, columns, size] from a column on; before it is padding."""
        for room, states in zip(self._rooms, (keys, values), strict=True):
            # A mask hides it, but what memory held before may be NaN, and NaN times zero is NaN.
            room[row, :, :start] = 0
            room[row, :, start : start + states.shape[1]] = states

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.select(indices, 0)

    def select(self, indices: torch.Tensor, drop_left: int) -> None:
        """Keep these rows, and drop that many columns on the left."""
        length = self.get_seq_length() - drop_left
        self._rooms = [room[indices][..., drop_left:, :] for room in self._rooms]
        self.show(length)


@dataclass
class HFModel:
    """A model on its device, in eval mode."""

    model: Any
    tokenizer: Any
    device: torch.device
    max_length: int
    """Context length in tokens, prompt and answer together."""
    vocab_size: int
    """Rows of the embedding: ids from here on cannot be fed."""
    shares_prefix: bool
    """Whether a prefix's keys and values can be computed once and used by other rows (plain attention)."""

    def __post_init__(self) -> None:
        self._wanted: tuple[torch.Tensor, torch.Tensor] | None = None
        self._gathered = False
        head = self.model.get_output_embeddings()
        if head is not None:
            head.register_forward_pre_hook(self._before_head)

    def _before_head(self, _module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Let the output layer see the wanted positions only, whatever the model does to its logits after
        it."""
        if self._wanted is None or self._gathered or not args or args[0].dim() != 3:
            return None
        self._gathered = True
        rows, places = self._wanted
        return (args[0][rows, places].unsqueeze(0), *args[1:])

    def logits(self, rows: torch.Tensor, places: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Forward pass; float32 logits [N, vocab] at N positions (row, place) of the input.

        With a vocabulary of 150,000 the logits of all positions would be larger than everything else
        together.
        """
        self._wanted, self._gathered = (rows, places), False
        try:
            logits = self.model(**inputs).logits
        finally:
            self._wanted = None
        picked = logits[0] if self._gathered else logits[rows, places]
        return picked.float()  # type: ignore[no-any-return]

    def new_cache(self) -> Any:
        """An empty cache that grows in place where the architecture is plain attention."""
        if not self.shares_prefix:
            return DynamicCache(config=self.model.config)
        cache = DynamicCache()
        cache.layer_class_to_replicate = GrowingLayer
        return cache


def load(checkpoint: Checkpoint, args: Mapping[str, Any], device: str, dtype: str, attention: str) -> HFModel:
    """Load weights (and the adapter). Raises ModelLoadError, one line, when that fails."""
    where = f"models.{checkpoint.alias} ({checkpoint.folder})"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelLoadError(f"{where}: device is {device} but torch sees no GPU; set engine_args: {{device: cpu}}")
    if args.get("threads"):
        torch.set_num_threads(int(args["threads"]))
    hf_logging.disable_progress_bar()
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        hf_logging.set_verbosity_error()
    try:
        # Before the tokenizer, which reads the config too and would be blamed for it.
        AutoConfig.from_pretrained(str(checkpoint.folder), trust_remote_code=bool(args.get("trust_remote_code", False)))
        tokenizer = checkpoint.tokenizer()
        model = AutoModelForCausalLM.from_pretrained(
            str(checkpoint.folder),
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            attn_implementation=attention,
            trust_remote_code=bool(args.get("trust_remote_code", False)),
            **({"device_map": args["device_map"]} if args.get("device_map") else {}),
        )
        if checkpoint.adapter_folder is not None:
            model = _with_adapter(model, checkpoint, bool(args.get("merge_adapter", False)))
        if not args.get("device_map"):
            model = model.to(device)
    except ForgetbenchError:
        raise
    except Exception as error:  # transformers raises whatever a broken or unknown checkpoint leads to
        raise ModelLoadError(f"{where}: the model cannot be loaded ({one_line(error)})") from error
    model.eval()
    return HFModel(
        model=model,
        tokenizer=tokenizer,
        device=model.get_input_embeddings().weight.device,
        max_length=int(args.get("max_length") or context_length(model.config, tokenizer)),
        vocab_size=int(model.get_input_embeddings().weight.shape[0]),
        shares_prefix=has_plain_attention(model),
    )


def _with_adapter(model: Any, checkpoint: Checkpoint, merge: bool) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise ModelLoadError(
            f"models.{checkpoint.alias}.adapter: peft is not installed; install forgetbench[train]"
        ) from None
    adapted = PeftModel.from_pretrained(model, str(checkpoint.adapter_folder))
    return adapted.merge_and_unload() if merge else adapted


def context_length(config: Any, tokenizer: Any) -> int:
    """Context length in lm-eval's order: the (text) config's limit, else the tokenizer's, else 2048."""
    text_config = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(text_config, name, None)
        if value is not None:
            return int(value)
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and limit < 10**9 else 2048


def has_plain_attention(model: Any) -> bool:
    """Whether every layer keeps keys and values by position (no recurrent state, no special cache)."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    if getattr(inner, "_is_stateful", False) or not hasattr(inner, "get_output_embeddings"):
        return False
    text_config = inner.config.get_text_config()
    return set(getattr(text_config, "layer_types", None) or ["full_attention"]) <= _PLAIN_ATTENTION


def release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
