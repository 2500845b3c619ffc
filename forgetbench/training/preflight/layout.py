"""How samples are laid out: padding on the right, and no document that sees its neighbour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forgetbench.training.base import embedding_rows
from forgetbench.training.collate import collate, isolation
from forgetbench.training.preflight.types import Finding, Inputs

if TYPE_CHECKING:
    from forgetbench.training.packing import Batch

Collate = Callable[..., Any]
LOOKED_AT = 200
"""Batches that are laid out and looked at, evenly over the run."""
BAR = 1e-6
"""Largest change of a logit that still counts as none: rounding of another kernel, not a token that is read."""
_LONGEST = 96
"""Tokens of each document in the measurement: a leak shows in the first of them."""


def padding(inputs: Inputs, collate_rows: Collate = collate) -> Finding:
    """Padding stands behind the documents of its row, has weight 0 and belongs to no document, and positions begin
    again at 0 in each document. Looks at up to LOOKED_AT batches of the run as `collate_rows` lays them out."""
    name = "padding"
    chosen = _evenly(inputs.batches, LOOKED_AT)
    tokens = pads = rows = 0
    for batch in chosen:
        made = {k: np.asarray(v) for k, v in collate_rows(inputs.documents, batch.rows, inputs.pad_id).items()}
        wrong = _wrong(made, [sum(len(inputs.documents[d].ids) for d in row) for row in batch.rows])
        if wrong:
            cure = "report it: the collator and the loss no longer agree"
            return Finding(name, "fail", f"a batch of epoch {batch.epoch} has {wrong}", cure)
        is_pad = made["documents"] < 0
        tokens, pads, rows = tokens + is_pad.size, pads + int(is_pad.sum()), rows + len(is_pad)
    share = pads / tokens if tokens else 0.0
    side = getattr(inputs.tokenizer, "padding_side", "right")
    evidence = (
        f"all on the right, weight 0, positions from 0 in each document: {rows:,} rows of {len(chosen):,} of "
        f"{len(inputs.batches):,} batches, {100 * share:.1f} % padding"
    )
    if side != "right":
        evidence += f" (the tokenizer's own side is {side}, which training does not use)"
    return Finding(name, "pass", evidence, figures={"padding_share": share, "rows": rows, "batches": len(chosen)})


def _wrong(batch: dict[str, NDArray[Any]], lengths: Sequence[int]) -> str:
    """What is wrong with a laid-out batch whose rows hold so many tokens; empty: nothing."""
    documents, weights, positions = batch["documents"], batch["weights"], batch["position_ids"]
    for number, length, weight, position in zip(documents, lengths, weights, positions, strict=True):
        if (number[:length] < 0).any() or (number[length:] >= 0).any():
            return "padding that is not behind its documents"
        if weight[length:].any():
            return "padding with a weight in the loss"
        starts = np.flatnonzero(np.diff(number, prepend=-2) != 0)
        if position[starts].any() or (np.delete(np.diff(position, prepend=-1), starts) != 1).any():
            return "positions that do not begin again at 0 in each document"
    return ""


def packing_isolation(inputs: Inputs) -> Finding:
    """Largest change of a document's logits when the document before it in its row changes, on the model at hand, as
    it is loaded for training and under each other attention implementation that it takes.

    Documents are the data's own, cut to 96 tokens. A measurement that does not see a leak made on purpose (positions
    that run on) proves nothing and warns.
    """
    name = "packing isolation"
    found = _three(inputs)
    if found is None:
        return Finding(name, "pass", "one document only: nothing can stand beside it")
    own = str(getattr(inputs.model.config, "_attn_implementation", "its own") or "its own")
    change = isolation(inputs.model, *found)
    seen = isolation(inputs.model, *found, leak="wrapped")
    others = _other_kernels(inputs.model, own, found)
    figures = {"attention": own, "change": change, "others": others, "leak_made_on_purpose": seen}
    told = "".join(f", {kernel} {_figure(value)}" for kernel, value in others.items())
    off = "" if inputs.recipe.packing else "; packing is off in this recipe"
    evidence = (
        f"logits change by {_figure(change)} when the document before changes ({own}{told}; "
        f"a leak made on purpose: {seen:.2g}){off}"
    )
    if change > BAR:
        cure = "set `packing: false`: this model reads across documents"
        return Finding(name, "fail" if inputs.recipe.packing else "warn", evidence, cure, figures=figures)
    if any(value > BAR for value in others.values()):
        return Finding(name, "warn", evidence, f"train with {own} only", figures=figures)
    if seen <= BAR:
        cure = "the model does not read across documents even where it is made to: nothing was measured"
        return Finding(name, "warn", evidence, cure, figures=figures)
    return Finding(name, "pass", evidence, figures=figures)


def _other_kernels(model: Any, own: str, documents: tuple[list[int], list[int], list[int]]) -> dict[str, float]:
    """Under eager and sdpa, as far as the model takes them; it is left as it was."""
    found = {}
    for kernel in ("eager", "sdpa"):
        if kernel == own:
            continue
        try:
            model.set_attn_implementation(kernel)
        except (AttributeError, ImportError, ValueError):  # old code, no such kernel here, not for this model
            continue
        try:
            found[kernel] = isolation(model, *documents)
        finally:
            model.set_attn_implementation(own)
    return found


def _three(inputs: Inputs) -> tuple[list[int], list[int], list[int]] | None:
    """Two different documents of one length, and a third to stand behind them."""
    rows = embedding_rows(inputs.model)
    texts = [[int(i) for i in s.ids[:_LONGEST] if i < rows] for s in inputs.trained[:50]]
    texts = [t for t in texts if t]
    if not texts:
        return None
    first = max(texts, key=len)
    other = first[::-1]
    if other == first:
        other = [(i + 1) % rows for i in first]
    return first, min(texts, key=lambda t: abs(len(t) - _LONGEST // 2)), other


def _figure(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _evenly(batches: Sequence[Batch], most: int) -> list[Batch]:
    if len(batches) <= most:
        return list(batches)
    return [batches[i] for i in np.linspace(0, len(batches) - 1, most).round().astype(int)]
