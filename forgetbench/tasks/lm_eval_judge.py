"""Score an item as lm-eval does: its filters, then its `process_results`; and say why in our words."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from forgetbench.scoring.choices import first_argmax
from forgetbench.scoring.outcome import broken_logprobs, infra_error, outcome_of
from forgetbench.tasks.lm_eval_load import Leaf
from forgetbench.tasks.lm_eval_metrics import UNNAMED, Metrics
from forgetbench.types import ContinuationScore, FinishReason, Generation, Judged, Response

_NOTHING = ("", "[invalid]")
"""What lm-eval's filters give where they find nothing."""
_SHOWN = 80


def judge(leaf: Leaf, position: int, instances: Sequence[Any], metrics: Metrics, response: Response) -> list[Judged]:
    """One Judged per sample. `instances`: lm-eval's requests for the document, in the order they were asked."""
    ranks = [i for i in instances if i.request_type != "generate_until"]
    texts = len(instances) - len(ranks)
    if len(response.scores) != len(ranks) or (len(response.generations) % texts if texts else response.generations):
        got = f"{len(response.scores)} log-probabilities and {len(response.generations)} texts"
        return [infra_error(f"the engine gave {got} to {len(ranks)} and {texts} questions")]
    if not all(math.isfinite(s.logprob) for s in response.scores):
        return [infra_error("a log-probability is not finite")]
    n_samples = len(response.generations) // texts if texts else 1
    judged = []
    for sample in range(n_samples):
        written = response.generations[sample::n_samples]
        broken = next((b for g in written if (b := broken_logprobs(g.logprobs))), None)
        if broken or any(g.finish_reason == "error" for g in written):
            judged.append(infra_error(broken or "the engine broke off the generation", _joined(written)))
        else:
            judged.append(_sample(leaf, position, instances, metrics, response.scores, written))
    return judged


def _sample(
    leaf: Leaf,
    position: int,
    instances: Sequence[Any],
    metrics: Metrics,
    scores: Sequence[ContinuationScore],
    written: Sequence[Generation],
) -> Judged:
    answers = _answers(instances, iter(scores), iter(written), leaf.repeats)
    values: dict[str, float] = {}
    filtered: dict[str, list[Any]] = {}
    for ensemble in leaf.task._filters:
        ensemble.apply(answers)
        filtered[ensemble.name] = [a.filtered_resps[ensemble.name] for a in answers]
        results = leaf.task.process_results(copy.deepcopy(leaf.docs[position]), filtered[ensemble.name])
        for metric in metrics.kept:
            value = metric.value(results) if metric.filter == ensemble.name else None
            if value is not None:
                values[metric.name] = value
    if written:
        return _of_text(leaf, position, metrics, values, filtered, written)
    if leaf.task.OUTPUT_TYPE == "multiple_choice":
        return _of_choices(leaf, position, values, [s.logprob for s in scores])
    return _of_likelihood(leaf, position, values, scores)


def _answers(
    instances: Sequence[Any], scores: Iterator[ContinuationScore], written: Iterator[Generation], repeats: int
) -> list[Any]:
    """lm-eval's requests with the answers in them, in its own form. A greedy answer repeated is the same again."""
    answered = []
    for instance in instances:
        value: Any
        if instance.request_type == "generate_until":
            value = next(written).text
        else:
            score = next(scores)
            value = (score.logprob, score.is_greedy)
            if instance.request_type == "loglikelihood_rolling":
                value = score.logprob
        answered.append(replace(instance, resps=[value] * repeats, filtered_resps={}))
    return answered


def gold_of(leaf: Leaf, position: int) -> tuple[list[int], str]:
    """(places of the right options, empty where there are none; the reference as text)."""
    task, doc = leaf.task, leaf.docs[position]
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return [], ""
    # Where the options are in the prompt, lm-eval keeps the right one's place in what is else the text.
    target = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else task.doc_to_target(doc)
    options = choices_of(leaf, position)
    targets = target if isinstance(target, list) else [target]
    if not options:
        return [], " | ".join(str(t) for t in targets)
    places = [options.index(t) if t in options else -1 if isinstance(t, str) else int(t) for t in targets]
    places = [p for p in places if 0 <= p < len(options)]
    return places, " | ".join(options[p] for p in places)


def choices_of(leaf: Leaf, position: int) -> list[str]:
    """The options, as lm-eval has them; empty for a task without any."""
    if getattr(leaf.task.config, "doc_to_choice", None) is None:
        return []
    return [str(c) for c in leaf.task.doc_to_choice(leaf.docs[position])]


def _of_choices(leaf: Leaf, position: int, values: dict[str, float], logprobs: list[float]) -> Judged:
    options = choices_of(leaf, position)
    shown = [_short(c) for c in options]
    # Under mutual information the same options follow once more, without the question.
    asked, alone = logprobs[: len(options)], logprobs[len(options) :]
    best = first_argmax(asked)
    places, _ = gold_of(leaf, position)
    if best in places:
        why = f"'{shown[best]}' is the most likely of {len(options)} options and the answer"
    elif places:
        gap = asked[best] - max(asked[p] for p in places)
        why = f"'{shown[best]}' is more likely than the answer '{shown[places[0]]}' by {gap:.2f} nats"
    else:
        why = f"'{shown[best]}' is the most likely of {len(options)} options; the task names no right one"
    others = {k: v for k, v in values.items() if k != "acc" and v in (0.0, 1.0) and v != values.get("acc", v)}
    if others:
        why += "; " + ", ".join(f"by {name} the choice is {'right' if v else 'wrong'}" for name, v in others.items())
    lines = [f"{text} {value:.4f}" for text, value in zip(shown, asked, strict=False)]
    if alone:
        lines.append("without the question: " + ", ".join(f"{v:.4f}" for v in alone))
    return Judged(values, "ok", output=" | ".join(lines), extracted=options[best], why=f"{why}.")


def _of_likelihood(leaf: Leaf, position: int, values: dict[str, float], scores: Sequence[ContinuationScore]) -> Judged:
    total, greedy = sum(s.logprob for s in scores), all(s.is_greedy for s in scores)
    tokens = sum(s.n_tokens for s in scores)
    _, gold = gold_of(leaf, position)
    if leaf.task.OUTPUT_TYPE == "loglikelihood_rolling":
        why = f"The text of {tokens} tokens has a log-likelihood of {total:.2f}."
    else:
        verb = "is" if greedy else "is not"
        why = f"The answer '{_short(gold)}' {verb} what greedy decoding writes ({total:.2f} nats)."
    extracted = gold if greedy and gold else None
    return Judged(values, "ok", output=f"{total:.4f} over {tokens} tokens", extracted=extracted, why=why)


def _of_text(
    leaf: Leaf,
    position: int,
    metrics: Metrics,
    values: dict[str, float],
    filtered: dict[str, list[Any]],
    written: Sequence[Generation],
) -> Judged:
    text = _joined(written)
    name = metrics.kept[0].filter if metrics.kept else next(iter(filtered))
    taken = _taken(filtered[name])
    primary = values.get(metrics.kept[0].name) if metrics.kept else None
    _, gold = gold_of(leaf, position)
    whole = name == UNNAMED
    found = "The output is" if whole else f"The filter {name} took"
    if taken is None:
        why = "The output is empty" if whole else f"The filter {name} found nothing in the output"
    else:
        why = f"{found} '{_short(taken)}'"
    why += f"; the reference is '{_short(gold)}'" if gold else ""
    why += f"; {metrics.kept[0].name} is {primary:g}." if primary is not None else "."
    reasons: list[FinishReason] = [g.finish_reason for g in written]
    outcome = outcome_of(
        text,
        correct=primary is not None and primary >= 1.0,
        extracted=taken,
        finish_reason="length" if "length" in reasons else "stop",
    )
    return Judged(values, outcome, output=text, extracted=taken, why=why)


def _taken(filtered: Sequence[Any]) -> str | None:
    """What the filter made of the item's texts; None where it found nothing."""
    for value in filtered:
        while isinstance(value, list | tuple):
            value = value[0] if value else ""
        if isinstance(value, str) and value.strip() not in _NOTHING:
            return value
    return None


def _joined(written: Sequence[Generation]) -> str:
    return "\n\n".join(g.text for g in written)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
