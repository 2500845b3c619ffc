"""Self-distillation: the base rewrites the answers in its own words, and learns those.

An answer that the base would give itself moves it less than one from elsewhere. Where a rewritten answer fails its
check the original one stays. Source: Yang et al., "Self-Distillation Bridges Distribution Gap in Language Model
Fine-Tuning", ACL 2024, arXiv 2402.13669 (the wording of the request is ours).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.plan import request_id
from forgetbench.scoring.outcome import outcome_of
from forgetbench.scoring.refusal import is_refusal
from forgetbench.scoring.scorers import TEXT_SCORERS, Normalise, Reference
from forgetbench.training.asking import Ask
from forgetbench.training.check.rows import Row, row_of
from forgetbench.training.data import examples, keys_of
from forgetbench.training.manifest import seal
from forgetbench.training.mix import to_jsonl
from forgetbench.training.recipe import SelfDistillation
from forgetbench.training.tokenise import raise_all, read_example
from forgetbench.types import Generate, Generation, Message, Prompt, Request, TokenStats

FOLDER = "rewritten"
_ASKED = (
    "{question}\n\nA correct answer is:\n{answer}\n\n"
    "Answer in your own words. Keep every fact of that answer, add none, and do not speak of it."
)
_RAW = "Q: {question}\nA correct answer is: {answer}\nThe same answer in other words:"
_RAW_STOP = ("\n",)


class Rewritten(NamedTuple):
    lines: list[dict[str, Any]]
    """The examples as they are learnt, each with its provenance."""
    new: int
    """Answers that were replaced."""
    asked: int


def check(files: Sequence[Path]) -> None:
    """Raises every mistake of every file: hours of the base's answers come before training reads them itself."""
    errors: list[UsageError] = []
    for file in files:
        try:
            for line, example in examples(file):
                try:
                    read_example(example, f"{file}:{line}")
                except UsageError as error:
                    errors.append(error)
        except UsageError as error:
            errors.append(error)
    raise_all(errors)


def rewritten(
    file: Path, point: Checkpoint, ask: Ask, wanted: SelfDistillation, task_type: str | None = None
) -> Rewritten:
    """Every example of a training file, its last answer in the base's words where they pass the check.

    Plain text is passed on. A check by a scorer holds the new answer against the old one (letter case aside). Beside
    it an answer must have ended by itself, say something, and refuse only where the old one did. Raises the mistakes of
    the file's lines, all at once.
    """
    check([file])
    found: list[tuple[Any, Row, Request | None]] = []
    for line, example in examples(file):
        row = row_of(example, f"{file.name}:{line}")
        found.append((example, row, _request(point, row, wanted)))
    answers = ask([request for _, _, request in found if request is not None])
    lines: list[dict[str, Any]] = []
    new = 0
    for example, row, request in found:
        if request is None:
            lines.append({"text": example} if isinstance(example, str) else dict(example))
            continue
        response = answers.get(request.request_id)
        generations = response.generations if response is not None else ()
        why = _wrong(generations[0], row.answer or "", wanted) if generations else "the engine failed on it"
        text = generations[0].text.strip() if generations and not why else None
        new += text is not None
        provenance = {
            "source": row.where, "model": point.alias, "digest": point.digest, "rewritten": text is not None,
            "why": why or "passed its check", "original": row.answer,
        }  # fmt: skip
        lines.append({**(dict(example) if text is None else _replaced(example, text)), "provenance": provenance})
    return Rewritten(lines, new, sum(request is not None for _, _, request in found))


def keep(folder: Path, files: Sequence[Rewritten]) -> None:
    """Write `0.jsonl`, `1.jsonl`, ... into `folder`, sealed with their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, made in enumerate(files):
        (folder / f"{number}.jsonl").write_bytes(to_jsonl(made.lines))
    seal(folder)


def _request(point: Checkpoint, row: Row, wanted: SelfDistillation) -> Request | None:
    """The question and its answer as a request to say it in other words; None: nothing of the row is an answer."""
    if row.plain or not (row.answer or "").strip() or not row.prompt.strip():
        return None
    last = max(i for i, t in enumerate(row.turns) if t.role == "assistant")
    turns = [t for t in row.turns[:last] if t.role in ("system", "user", "assistant")]
    stop: tuple[str, ...] = ()
    if point.has_chat_template and turns and turns[-1].role == "user":
        asked = _ASKED.format(question=turns[-1].text, answer=row.answer)
        messages = [*(Message(t.role, t.text) for t in turns[:-1]), Message("user", asked)]  # type: ignore[arg-type]
        prompt = Prompt(text=point.render_chat(messages), add_special_tokens=False)
    else:
        prompt, stop = Prompt(text=_RAW.format(question=row.prompt, answer=row.answer)), _RAW_STOP
    body = Generate(
        wanted.max_tokens, stop=stop, temperature=wanted.temperature, stats=TokenStats(logprobs=False, entropy=False)
    )
    return Request(request_id(point.digest, prompt, body), point.digest, prompt, body)


def _wrong(made: Generation, original: str, wanted: SelfDistillation) -> str:
    """Why a rewritten answer is not used; empty: it is."""
    text = made.text.strip()
    if not text:
        return "it is empty"
    correct, extracted = True, text
    if wanted.check != "none":
        normalise = Normalise(ignore_case=True)
        correct, extracted, why = TEXT_SCORERS[wanted.check](text, Reference((original.strip(),)), normalise)  # type: ignore[assignment]
        if not correct:
            return f"it fails the check: {why}"
    outcome = outcome_of(
        text, correct=False, extracted=extracted, finish_reason=made.finish_reason, refusal_wanted=is_refusal(original)
    )
    return "" if outcome == "ok" else f"it is {outcome}"


def _replaced(example: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The example with another last answer."""
    key = next((k for k in ("messages", "conversations") if example.get(k) is not None), None)
    if key is None:
        return {**example, str(keys_of(example).answer): text}
    given = example[key]
    turns = [dict(turn) for turn in (json.loads(given) if isinstance(given, str) else given)]
    last = max(i for i, t in enumerate(turns) if (t.get("role") or t.get("from")) in ("assistant", "gpt"))
    turns[last]["value" if turns[last].get("content") is None else "content"] = text
    return {**example, key: turns}
