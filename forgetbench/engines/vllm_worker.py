"""What runs inside vLLM's worker: forcing a given continuation, and token statistics that vLLM does not give.

vLLM has no exact way to score a continuation of several tokens that also reads its prefix cache:
`prompt_logprobs` skips the cache (and returns garbage at cached positions where one forces it to read). So a
continuation is *generated*: this logits processor makes each step choose the given token, while
`logprobs_mode="raw_logprobs"` has the log-probabilities taken before any processor. The prompt comes from the
cache, and each token of the continuation is computed once.

The processor also sees every raw distribution, so that entropies and top-m are read here instead of shipping
the whole vocabulary to Python. A Read is both: its tokens are forced, and each distribution is looked at before that.

What a request wants stands in `SamplingParams.extra_args[KEY]`: {"id": str, "forced": [token ids],
"entropy": bool, "top_m": int}, and for a Read "read": {"top_m": int, "at": [[token ids]], "nucleus": float}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor

from forgetbench.engines.positions import read_positions
from forgetbench.engines.reading import Wanted

if TYPE_CHECKING:
    from vllm import SamplingParams

KEY = "forgetbench"
PROCESSOR = f"{__name__}:StepProcessor"
EXTENSION = f"{__name__}.WorkerExtension"
_CERTAIN = 1e30
"""A logit that no other reaches. Finite: an infinite one would make the others' softmax nan."""

Statistics = tuple[float | None, list[int], list[float], float | None]
"""Of one position: entropy in nats; top-m ids, their natural-log probabilities, the mass of the rest."""

_taken: dict[str, dict[int, Statistics | tuple[Any, ...]]] = {}
"""By request id and position; of a Read the fields of `reading.Position`. A module's global, since vLLM makes the
processor and gives no way to reach it."""


@dataclass(slots=True)
class _Watched:
    """One request in the batch."""

    id: str
    forced: list[int]
    entropy: bool
    top_m: int
    produced: list[int] = field(repr=False)
    """vLLM's own list of its tokens so far: its length is the position that this step decides."""
    read: dict[str, Any] | None = None

    def wanted(self, read: dict[str, Any]) -> Wanted | None:
        """What a Read asks of this step; None after its last token."""
        place = len(self.produced)
        if place >= len(self.forced):
            return None
        return Wanted(self.forced[place], read["nucleus"], read["top_m"], read["at"][place] if read["at"] else ())


def _watch(params: SamplingParams, prompt: list[int] | None, produced: list[int]) -> _Watched | None:
    wanted = (params.extra_args or {}).get(KEY)
    if wanted is None:
        return None
    return _Watched(wanted["id"], wanted["forced"], wanted["entropy"], wanted["top_m"], produced, wanted.get("read"))


class StepProcessor(LogitsProcessor):  # type: ignore[misc]
    """Given to vLLM by name (`logits_processors=[PROCESSOR]`)."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Watched] = {}

    def is_argmax_invariant(self) -> bool:
        """False: forcing changes the choice, and vLLM calls these processors before any other change."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _watch)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """logits [requests in the batch, vocabulary], float32, as the model gave them."""
        seen = [(row, w) for row, w in self._rows.items() if w.entropy or w.top_m]
        if seen:
            self._record(logits, seen)
        reads = [(row, w, asked) for row, w in self._rows.items() if w.read and (asked := w.wanted(w.read))]
        if reads:
            found = read_positions(logits[[row for row, _, _ in reads]], [asked for _, _, asked in reads])
            for (_, w, _), position in zip(reads, found, strict=True):
                _taken.setdefault(w.id, {})[len(w.produced)] = tuple(position)
        forced = [(row, w.forced[len(w.produced)]) for row, w in self._rows.items() if len(w.produced) < len(w.forced)]
        if forced:
            places = torch.tensor(forced, device=logits.device)
            logits[places[:, 0], places[:, 1]] = _CERTAIN
        return logits

    def _record(self, logits: torch.Tensor, seen: list[tuple[int, _Watched]]) -> None:
        """A prompt computed in pieces passes here at every piece; its last one overwrites the others."""
        logprobs = torch.log_softmax(logits[[row for row, _ in seen]], dim=-1)
        m = min(max(w.top_m for _, w in seen), logprobs.shape[-1])
        entropies = torch.special.entr(logprobs.exp()).sum(dim=-1).tolist()
        values, ids = logprobs.topk(m, dim=-1) if m else (None, None)
        for i, (_, w) in enumerate(seen):
            top_ids: list[int] = []
            top: list[float] = []
            tail: float | None = None
            if w.top_m and values is not None and ids is not None:
                top_ids, top = ids[i, : w.top_m].tolist(), values[i, : w.top_m].tolist()
                tail = max(0.0, 1.0 - float(values[i, : w.top_m].double().exp().sum()))
            position = len(w.produced)
            _taken.setdefault(w.id, {})[position] = (entropies[i] if w.entropy else None, top_ids, top, tail)


class WorkerExtension:
    """Mixed into vLLM's worker (`worker_extension_cls`); its methods answer `collective_rpc`."""

    def forgetbench_statistics(self, ids: list[str]) -> list[list[Statistics | tuple[Any, ...]]]:
        """For each finished request its positions' statistics in order, forgotten here afterwards."""
        found = [_taken.pop(i, {}) for i in ids]
        return [[by_position[p] for p in sorted(by_position)] for by_position in found]

    def forgetbench_repack(self) -> None:
        """After new weights: pack anew what the CPU build keeps packed beside the weight itself.

        An output layer tied to the embedding gets the new weights through it, and nothing tells its packed copy:
        it went on answering with the old ones.
        """
        for module in self.model_runner.get_model().modules():  # type: ignore[attr-defined]
            weight = getattr(module, "weight", None)
            if hasattr(module, "cpu_linear") and weight is not None and weight.numel():
                module.quant_method.process_weights_after_loading(module)

    def forgetbench_forget(self) -> None:
        """Drop what requests that were aborted left behind."""
        _taken.clear()
