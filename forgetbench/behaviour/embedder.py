"""Vectors of texts by any encoder or causal model, for the Vendi score.

The mean of the last hidden states over a text's own tokens, of length 1. Padding takes no part, so that a text has the
same vector alone and in a batch. Models that want a prefix before a text ("query: ") get none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forgetbench.checkpoints.files import one_line, weight_files
from forgetbench.checkpoints.fingerprint import FingerprintStore, digest_json
from forgetbench.checkpoints.hub import locate
from forgetbench.errors import UsageError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_TOKENS = 512
"""Of a text; the rest of it is not seen."""
_BATCH = 32


class Embedder:
    """Texts to vectors. Made of a folder that is there; the model is loaded when the first texts come."""

    def __init__(self, name: str, folder: Path, digest: str, where: str) -> None:
        self.name = name
        self._folder, self._digest, self._where = folder, digest, where
        self._loaded: tuple[Any, Any, int] | None = None

    @property
    def identity(self) -> str:
        """As it is named, with 8 digits of its weights and configuration."""
        return f"{self.name} ({self._digest[:8]})" if self._digest else self.name

    def __call__(self, texts: Sequence[str]) -> Floats:
        """(texts, d) float64, each of length 1. Raises UsageError where the model cannot be loaded."""
        tokenizer, model, limit = self._loaded = self._loaded or self._load()
        kinds = list(dict.fromkeys(texts))
        ids = [list(i) for i in tokenizer(kinds, truncation=True, max_length=limit, verbose=False)["input_ids"]]
        nothing = next((i for i in (tokenizer.eos_token_id, tokenizer.bos_token_id) if i is not None), 0)
        ids = [i or [nothing] for i in ids]
        order = sorted(range(len(kinds)), key=lambda n: len(ids[n]))
        rows: dict[int, Floats] = {}
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            rows |= zip(part, _mean_states(model, [ids[n] for n in part]), strict=True)
        place = {text: n for n, text in enumerate(kinds)}
        return np.stack([rows[place[text]] for text in texts])

    def close(self) -> None:
        """Give the memory back. A later call loads again."""
        if self._loaded is not None:
            from forgetbench.engines.hf_model import release_memory

            self._loaded = None
            release_memory()

    def _load(self) -> tuple[Any, Any, int]:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as hf_logging

        from forgetbench.engines.hf_model import context_length

        hf_logging.disable_progress_bar()
        if "TRANSFORMERS_VERBOSITY" not in os.environ:
            hf_logging.set_verbosity_error()  # a head that is not loaded is not missed here
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(self._folder))
            model = AutoModel.from_pretrained(str(self._folder), dtype=torch.float32)
        except Exception as error:  # transformers raises whatever a broken or unknown checkpoint leads to
            cure = "name an encoder or a causal model that transformers loads"
            raise UsageError(self._where, f"{self.name} cannot be loaded ({one_line(error)})", cure) from None
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return tokenizer, model, min(MOST_TOKENS, _room(context_length(model.config, tokenizer), tokenizer))


def _room(context: int, tokenizer: Any) -> int:
    """RoBERTa counts positions from 2 on: its tokenizer knows the true limit."""
    limit = getattr(tokenizer, "model_max_length", None)
    return context if limit is None else min(context, int(limit))


def _mean_states(model: Any, ids: Sequence[Sequence[int]]) -> Floats:
    """(texts, d) of length 1."""
    import torch

    width = max(map(len, ids))
    padded = torch.tensor([[*i, *[0] * (width - len(i))] for i in ids])
    mask = torch.tensor([[1] * len(i) + [0] * (width - len(i)) for i in ids])
    device = next(model.parameters()).device
    with torch.inference_mode():
        states = model(input_ids=padded.to(device), attention_mask=mask.to(device)).last_hidden_state
        return _unit(states, mask.to(device))


def _unit(states: torch.Tensor, mask: torch.Tensor) -> Floats:
    weights = mask.unsqueeze(-1).double()
    means = (states.double() * weights).sum(dim=1) / weights.sum(dim=1)
    made: Floats = (means / means.norm(dim=1, keepdim=True)).cpu().numpy()
    return made


def find_embedder(name: str, path: str, where: str, cache: Path | None) -> Embedder:
    """The embedder that a suite or a flag names: `path` is a folder or a hub id (`name` as it was written).

    cache: where digests are remembered; None: none is taken, and `identity` is the name alone.

    Raises UsageError where there is none, or its files are not whole; nothing is loaded yet.
    """
    folder = locate(path, None, where)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{where}: {name}", "holds no config.json", "name a folder that save_pretrained wrote")
    if cache is None:
        return Embedder(name, folder, "", where)
    store = FingerprintStore(cache)
    files = [folder / "config.json", *weight_files(folder)]
    return Embedder(name, folder, digest_json({f.name: store.sha256(f) for f in files}), where)
