"""Where samples begin and end: BOS as the template wants it, and an end after every answer.

A model that is never taught to end its answer talks on until its token limit; one that reads two BOS, or none where
pretraining always had one, starts every answer from a state that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from forgetbench.errors import UsageError
from forgetbench.training.chat import Template, render, template_of
from forgetbench.training.preflight.types import MOST_LINES, Finding, Inputs, State
from forgetbench.training.tokenise import Sample

_MARK = "forgetbenchanswer"


def begin(inputs: Inputs) -> Finding:
    """BOS: once at most, and the same in chats as the tokenizer writes it before plain text."""
    name = "BOS"
    bos = inputs.tokenizer.bos_token_id
    if bos is None:
        return Finding(name, "pass", "the tokenizer has none, and none is written")
    adds = list(inputs.tokenizer("a")["input_ids"])[:1] == [bos]
    leading = {s.where: _leading(s, int(bos)) for s in _firsts(inputs.trained)}
    chats = {w: n for w, n in leading.items() if _is_chat(inputs, w)}
    others = {w: n for w, n in leading.items() if w not in chats}
    figures = {
        "bos": inputs.tokenizer.bos_token, "tokenizer_adds": adds, "chats": len(chats),
        "chats_with": sum(n > 0 for n in chats.values()), "texts": len(others),
        "texts_with": sum(n > 0 for n in others.values()),
    }  # fmt: skip
    told = (
        f"{inputs.tokenizer.bos_token}: at the start of {figures['chats_with']:,} of {len(chats):,} chats and "
        f"{figures['texts_with']:,} of {len(others):,} texts; the tokenizer {'adds' if adds else 'does not add'} it"
    )
    doubled = [w for w, n in leading.items() if n > 1]
    if doubled:
        cure = "write it once: take it out of the template or of the texts"
        return Finding(name, "fail", f"{len(doubled):,} samples begin with it twice; {told}", cure,
                       tuple(doubled[:MOST_LINES]), figures)  # fmt: skip
    if adds and any(n == 0 for n in chats.values()):
        cure = "put bos_token at the top of the template, unless the base was trained without it"
        return Finding(name, "warn", f"chats lack it; {told}", cure, figures=figures)
    return Finding(name, "pass", told, figures=figures)


def end(inputs: Inputs) -> Finding:
    """Every learnt answer ends in the token that ends a turn (texts: EOS), that token is learnt, and generation stops
    at it."""
    name = "answers end"
    tokenizer = inputs.tokenizer
    template = template_of(tokenizer)
    eos = tokenizer.eos_token_id
    chats = [s for s in inputs.trained if _is_chat(inputs, s.where)]
    closing: int | None = None
    if chats and template is not None:
        closing = end_of_turn(template, tokenizer)
        if closing is None:
            cure = "end the assistant's turn with a special token in the template"
            return Finding(name, "fail", "the chat template puts no special token behind an answer", cure)
    if len(chats) < len(inputs.trained) and eos is None:
        cure = "give the tokenizer an eos_token"
        return Finding(name, "fail", "the tokenizer has no EOS, so texts and raw pairs have no end", cure)
    bad, unlearnt, answers = [], 0, 0
    for i, sample in _last_pieces(inputs.trained):
        wanted = closing if _is_chat(inputs, sample.where) else eos
        for run in _runs(sample.mask):
            at = _last_token(sample, run, tokenizer)
            answers += 1
            if int(sample.ids[at]) != wanted:
                bad.append(sample.where)
            elif inputs.documents[i].weights[at] == 0:
                unlearnt += 1
    ends = {"chats": None if closing is None else _text(tokenizer, closing), "texts": tokenizer.eos_token}
    figures = {"answers": answers, "without_end": len(bad), "end_not_learnt": unlearnt, "ends": ends}
    written = " and ".join(dict.fromkeys(str(t) for t in ends.values() if t is not None))
    if bad:
        cure = f"let the template's generation block reach over {written}, and end every turn with it"
        evidence = f"{len(bad):,} of {answers:,} learnt answers do not end in {written}: it will not learn to stop"
        return Finding(name, "fail", evidence, cure, tuple(dict.fromkeys(bad))[:MOST_LINES], figures)
    if unlearnt and inputs.recipe.stm_threshold is None:
        cure = f"give {written} a weight above 0 in `loss.token_weights`"
        evidence = f"{unlearnt:,} of {answers:,} answers have an end of weight 0: it will not learn to stop"
        return Finding(name, "fail", evidence, cure, figures=figures)
    state, more, cure = _stops(inputs, closing)
    masked = f", {unlearnt:,} of them masked by stm_threshold" if unlearnt else ""
    return Finding(name, state, f"all {answers:,} learnt answers end in {written}{masked}{more}", cure, figures=figures)


def end_of_turn(template: Template, tokenizer: Any) -> int | None:
    """The first special token that the template writes behind an answer; None: it writes none.

    Found in the rendered text, not by the template's generation block, which may be wrong.
    """
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    try:
        text, _ = render(template, turns, "chat template")
    except UsageError:
        return None
    behind = text.rpartition(_MARK)[2]
    found = [(behind.find(s), -len(s), s) for s in template.specials if s in behind]
    return int(tokenizer.convert_tokens_to_ids(min(found)[2])) if found else None


def _stops(inputs: Inputs, closing: int | None) -> tuple[State, str, str]:
    """Whether generation ends at the end of a turn, as the base's settings say."""
    given = [inputs.tokenizer.eos_token_id, getattr(inputs.model.config, "eos_token_id", None)]
    given.append(getattr(getattr(inputs.model, "generation_config", None), "eos_token_id", None))
    each = [i for value in given for i in (value if isinstance(value, list | tuple) else [value])]
    stops = {int(i) for i in each if i is not None}
    if closing is None or closing in stops:
        return "pass", "", ""
    text = _text(inputs.tokenizer, closing)
    return "warn", f"; generation does not stop at {text}", f"add {closing} to eos_token_id of generation_config.json"


def _text(tokenizer: Any, token: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(token))


def _is_chat(inputs: Inputs, where: str) -> bool:
    line = inputs.line(where)
    return line is not None and line.is_chat


def _leading(sample: Sample, token: int) -> int:
    other = np.flatnonzero(sample.ids != token)
    return int(other[0]) if len(other) else len(sample.ids)


def _firsts(samples: Sequence[Sample]) -> Iterable[Sample]:
    """Of texts that were cut, the first piece."""
    seen: set[str] = set()
    for sample in samples:
        if sample.where not in seen:
            seen.add(sample.where)
            yield sample


def _last_pieces(samples: Sequence[Sample]) -> Iterable[tuple[int, Sample]]:
    """(index, sample); of texts that were cut only the last piece, since the others have no end."""
    for i, sample in enumerate(samples):
        if i + 1 == len(samples) or samples[i + 1].where != sample.where:
            yield i, sample


def _runs(mask: Any) -> list[tuple[int, int]]:
    """Start and stop of each unbroken stretch of learnt tokens."""
    edges = np.flatnonzero(np.diff(np.r_[0, (np.asarray(mask) > 0).astype(np.int8), 0]))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _last_token(sample: Sample, run: tuple[int, int], tokenizer: Any) -> int:
    """Where the last token of a run stands that is not only blanks (templates put a line end behind a turn)."""
    at = run[1] - 1
    while at > run[0] and not str(tokenizer.decode([int(sample.ids[at])])).strip():
        at -= 1
    return at
