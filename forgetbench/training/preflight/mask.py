"""The loss mask: what is learnt, shown on three samples, and held against the answers as the files have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from forgetbench.training.preflight.types import MOST_LINES, Finding, Inputs, Shown, Span
from forgetbench.training.tokenise import Sample

SHOWN = 3
_LOOKED_AT = 500


def loss_mask(inputs: Inputs) -> Finding:
    """Of up to 500 chats the answers are looked for in what is learnt, and the prompts too, which must not be there.

    The texts come from the files and not from the mask, so that a wrong generation block shows.
    """
    name = "loss mask"
    samples = inputs.trained
    learnt = sum(int((s.mask > 0).sum()) for s in samples)
    total = sum(len(s.ids) for s in samples)
    wrong, looked = [], 0
    for i in np.linspace(0, len(samples) - 1, min(len(samples), _LOOKED_AT)).round().astype(int):
        problem = _problem(samples[i], inputs)
        looked += problem is not None
        if problem:
            wrong.append(f"{samples[i].where}: {problem}")
    share = learnt / total if total else 0.0
    figures = {"tokens": total, "learnt": learnt, "chats_looked_at": looked}
    evidence = f"{100 * share:.1f} % of {total:,} tokens are learnt"
    if wrong:
        cure = "look at the samples below; the template's generation block may be wrong"
        told = f"{len(wrong):,} of {looked:,} chats learn something else than their answers; {evidence}"
        return Finding(name, "warn", told, cure, tuple(wrong[:MOST_LINES]), figures)
    held = f"; in {looked:,} chats that is the answers and no prompt" if looked else ""
    return Finding(name, "pass", evidence + held, figures=figures)


def _problem(sample: Sample, inputs: Inputs) -> str | None:
    """None: no chat, nothing to hold it against. Empty: as it should be."""
    line = inputs.line(sample.where)
    if line is None or not line.is_chat:
        return None
    told = str(inputs.tokenizer.decode([int(i) for i in sample.ids[sample.mask > 0]]))
    answers = [t.text.strip() for t in line.row.turns if t.role == "assistant"]
    if inputs.recipe.loss.turns == "last":
        answers = answers[-1:]
    if any(answer not in told for answer in answers):
        return "an answer is not learnt word for word"
    rest = told
    for answer in sorted(answers, key=len, reverse=True):
        rest = rest.replace(answer, "", 1)
    prompts = [t.text.strip() for t in line.row.turns if t.role != "assistant"]
    if any(len(prompt) > 3 and prompt in rest for prompt in prompts):  # shorter ones may stand in a marker
        return "its prompt is learnt too"
    return ""


def shown(inputs: Inputs) -> tuple[Shown, ...]:
    """Three samples with the weights that the loss gives their tokens: one of each task_type, as far as there are."""
    samples = inputs.trained
    first: dict[str | None, int] = {}
    for i, sample in enumerate(samples):
        first.setdefault(sample.task_type, i)
    chosen = list(first.values())[:SHOWN]
    spread = [int(i) for i in np.linspace(0, len(samples) - 1, SHOWN).round()]
    for i in spread:
        if len(chosen) < min(SHOWN, len(samples)) and i not in chosen:
            chosen.append(i)
    return tuple(
        Shown(samples[i].where, samples[i].task_type, spans(inputs.tokenizer, samples[i].ids, _weights(inputs, i)))
        for i in sorted(chosen)
    )


def _weights(inputs: Inputs, i: int) -> Sequence[float]:
    return [float(w) for w in inputs.documents[i].weights]


def spans(tokenizer: Any, ids: Iterable[Any], weights: Sequence[float]) -> tuple[Span, ...]:
    """The text of `ids` cut where the weight of its tokens changes; joined again it is the whole text."""
    numbers = [int(i) for i in ids]
    cuts = [k for k in range(1, len(numbers)) if weights[k] != weights[k - 1]]
    edges = [0, *cuts, len(numbers)]
    made, before = [], ""
    for a, b in pairwise(edges):
        # By prefixes: many tokenizers drop the blank before a text that is decoded alone.
        text = str(tokenizer.decode(numbers[:b], clean_up_tokenization_spaces=False))
        own = text[len(before) :] if text.startswith(before) else str(tokenizer.decode(numbers[a:b]))
        made.append(Span(own, float(weights[a]), b - a))
        before = text
    return tuple(made)
