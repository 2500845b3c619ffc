"""Special tokens: beyond the embedding, never trained, spelt out in pieces, or hidden in the texts of the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forgetbench.training.base import RESIZE, embedding_rows
from forgetbench.training.preflight.types import MOST_LINES, Finding, Inputs

FAR = 3.5
"""Robust standard deviations of log norm (Iglewicz and Hoaglin 1993, the modified z-score): check/lengths.py's rule."""
_LOOKS_SPECIAL = re.compile(r"<[|｜][\w.:/-]{1,60}[|｜]>")


def embedding(inputs: Inputs) -> Finding:
    """Every token of tokenizer and data has a row of the embedding."""
    name = "embedding"
    rows = embedding_rows(inputs.model)
    most = max((int(s.ids.max()) for s in inputs.trained), default=0)
    have = len(inputs.tokenizer)
    figures = {"rows": rows, "tokens": have, "largest_id": most}
    if most >= rows:
        evidence = f"the data has token {most}, the embedding {rows:,} rows"
        return Finding(name, "fail", evidence, RESIZE, figures=figures)
    if have > rows:
        evidence = f"{have - rows} of {have:,} tokens have no row (embedding: {rows:,}); the data has none of them"
        return Finding(name, "warn", evidence, RESIZE, figures=figures)
    return Finding(name, "pass", f"{have:,} tokens, {rows:,} rows; the data's largest id is {most:,}", figures=figures)


def special_tokens(inputs: Inputs) -> Finding:
    """Special tokens that the data has, and whether the base met them.

    What it never met keeps the norm that its row was given: far from the norms of ordinary tokens (FAR robust standard
    deviations of log norm). A norm like theirs is no proof that it was trained.
    """
    name = "special tokens"
    norms = _norms(inputs.model)
    special = _special_ids(inputs.tokenizer, len(norms))
    used = sorted(special & {int(i) for s in inputs.trained for i in np.unique(s.ids)})
    ordinary = np.delete(norms, sorted(special))
    scores = robust(norms, ordinary)
    texts = {i: str(inputs.tokenizer.convert_ids_to_tokens(i)) for i in used}
    table = {
        texts[i]: {
            "id": i,
            "norm": float(norms[i]),
            "z": float(scores[i]),
            "below": float((ordinary < norms[i]).mean()) if len(ordinary) else 0.0,
        }
        for i in used
    }
    figures = {"median_norm": float(np.median(ordinary)) if len(ordinary) else 0.0, "tokens": table}
    new = [i for i in used if abs(scores[i]) > FAR]
    lines = tuple(
        f"{texts[i]} (id {i}): norm {norms[i]:.3g}, larger than {100 * table[texts[i]]['below']:.0f} % of the "
        f"ordinary tokens, z {scores[i]:+.1f}"
        for i in (new or used)[:MOST_LINES]
    )
    if not new:
        if not used:
            return Finding(name, "pass", "none in the data", figures=figures)
        low, high = norms[used].min(), norms[used].max()
        told = f"{len(used)} in the data, norms {low:.3g} to {high:.3g}, within those of ordinary tokens (median "
        return Finding(name, "pass", f"{told}{figures['median_norm']:.3g})", "", lines, figures)
    evidence = f"{len(new)} of {len(used)} in the data look new to the base: {', '.join(texts[i] for i in new[:8])}"
    if inputs.recipe.method == "lora" and not _trains_embedding(inputs):
        cure = "LoRA leaves their rows as they are: train them fully first, or use tokens that the base knows"
        return Finding(name, "warn", evidence, cure, lines, figures)
    cure = "see that the data has enough of each: data canary measures how well this run learns a new token"
    return Finding(name, "warn", evidence, cure, lines, figures)


def token_texts(inputs: Inputs) -> Finding:
    """What looks like a special token and is read in pieces, and texts of the data that hold real ones."""
    name = "token texts"
    vocabulary = inputs.tokenizer.get_vocab()
    known = {str(t) for t in inputs.tokenizer.all_special_tokens}
    known |= {str(t) for t in inputs.tokenizer.added_tokens_decoder.values()}
    template = str(inputs.tokenizer.chat_template or "")
    pieces: Counter[str] = Counter(t for t in _found([template]) if t not in vocabulary)
    real: list[str] = []
    rows = [*inputs.target.rows, *inputs.replay.rows]
    for row in rows:
        for turn in row.turns:
            found = list(_found([turn.text]))
            pieces.update(t for t in found if t not in vocabulary)
            if not row.plain and any(t in known for t in found):
                real.append(f"{row.where}: {next(t for t in found if t in known)} in the {turn.role}'s text")
    cut = {text: len(inputs.tokenizer.tokenize(text)) for text in pieces}
    lines = [f"{text}: {n:,} times, read as {cut[text]} tokens" for text, n in pieces.items()]
    figures = {"in_pieces": dict(pieces), "control_tokens_in_texts": len(real)}
    if pieces:
        cure = "add them to the tokenizer as special tokens (and resize the embedding), or leave them as plain text"
        evidence = f"{len(pieces)} texts look like special tokens and are none: {', '.join(list(pieces)[:5])}"
        return Finding(name, "warn", evidence, cure, tuple([*lines, *real][:MOST_LINES]), figures)
    if real:
        cure = "take them out: they end or open turns in the middle of a text"
        evidence = f"{len(real):,} texts of the data hold special tokens, which are read as such"
        return Finding(name, "warn", evidence, cure, tuple(real[:MOST_LINES]), figures)
    return Finding(name, "pass", f"no text of {len(rows):,} examples looks like a special token", figures=figures)


def robust(values: NDArray[np.float64], ordinary: NDArray[np.float64]) -> NDArray[np.float64]:
    """Modified z-scores of log(values) against the ordinary ones, [n]: distance from their median in units of
    1.4826 MAD, between -99 and 99. 0 for all where the ordinary ones do not vary; -99 for a value of 0."""
    positive = ordinary[ordinary > 0]
    if not len(positive):
        return np.zeros(len(values))
    logs = np.log(positive)
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    if spread < 1e-9:
        return np.zeros(len(values))
    with np.errstate(divide="ignore"):
        return np.clip((np.log(values) - middle) / spread, -99.0, 99.0)


def _norms(model: Any) -> NDArray[np.float64]:
    weight = model.get_input_embeddings().weight.detach().float()
    return np.asarray(weight.norm(dim=1).cpu().numpy(), dtype=np.float64)


def _special_ids(tokenizer: Any, rows: int) -> set[int]:
    ids = {int(i) for i in tokenizer.all_special_ids}
    ids |= {int(i) for i, t in tokenizer.added_tokens_decoder.items() if getattr(t, "special", True)}
    return {i for i in ids if i < rows}


def _trains_embedding(inputs: Inputs) -> bool:
    targets = inputs.recipe.lora.targets
    return not isinstance(targets, str) and any("embed" in t or "wte" in t for t in targets)


def _found(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        yield from _LOOKS_SPECIAL.findall(text)
