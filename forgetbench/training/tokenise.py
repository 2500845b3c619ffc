"""Training files to token ids and loss masks. Every bad sample is found here, before the first step.

A line is a conversation (`messages`, or `conversations` with from/value), a pair (`prompt`, `question` or
`instruction` [+ `input` or `context`, + `system`] with `answer`, `response`, `completion`, `output` or `chosen`), or
plain text (`text`, or a paragraph of a .txt). Beside it may stand `task_type`, `weight` and `tools`. A pair becomes a
conversation where the tokenizer has a chat template, unless its file says `style: raw`. Plain text longer than the
limit is cut into pieces; an answer never is: a longer sample is an error.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from forgetbench.config_fields import TaskTypePath
from forgetbench.errors import UsageError, combined
from forgetbench.training.chat import Template, Turn, Turns, answers, inside, template_of
from forgetbench.training.collate import Document, collate
from forgetbench.training.data import ANSWERS, examples, keys_of
from forgetbench.training.losses import Floats, mask_surprising, sample_weights, token_weights
from forgetbench.training.recipe import Recipe
from forgetbench.training.reference import document_nll
from forgetbench.yamlio import shown

ROLES = ("system", "developer", "user", "assistant", "tool")
_FROM = {"human": "user", "gpt": "assistant"}
MOST_ERRORS = 20
Style = Literal["auto", "chat", "raw"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One document: what the model reads, and what it learns to say."""

    ids: NDArray[np.int64]
    """[length]"""
    mask: Floats
    """[length]: 1 where the token is supervised, else 0; entry 0 is 0."""
    task_type: str | None
    factor: float
    """Weight of the sample: its own times its file's."""
    where: str
    """`file:line`"""


@dataclass(frozen=True, slots=True)
class Source:
    """A data file and how it is read."""

    file: Path
    weight: float = 1.0
    task_type: str | None = None
    """For samples that name none."""
    style: Style = "auto"


@dataclass(frozen=True, slots=True)
class Reading:
    """What holds for all files of a run."""

    max_length: int
    on: Turns = "all"
    need_task_type: bool = False


def read_samples(sources: Sequence[Source], tokenizer: Any, reading: Reading) -> list[Sample]:
    """All samples of all files, in their order. Raises every mistake found (at most 20 are listed) at once."""
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError("tokenizer", "has no fast version, which loss masks need", "convert it to tokenizer.json")
    template = template_of(tokenizer)
    samples: list[Sample] = []
    errors: list[UsageError] = []
    for source in sources:
        found = len(samples) + len(errors)
        for sample in _samples(source, tokenizer, template, reading):
            if isinstance(sample, UsageError):
                errors.append(sample)
            else:
                samples.append(sample)
        if len(samples) + len(errors) == found:
            errors.append(UsageError(str(source.file), "holds no sample", "check the file"))
    raise_all(errors)
    return samples


def raise_all(errors: Sequence[UsageError]) -> None:
    """All of them in one, at most 20 in words; nothing where there is none."""
    if len(errors) > MOST_ERRORS:
        more = UsageError("training data", f"{len(errors) - MOST_ERRORS} more mistakes", "mend these first")
        errors = [*errors[:MOST_ERRORS], more]
    if errors:
        raise combined(errors)


class Example(NamedTuple):
    """A line as it is learnt, before any tokenizer."""

    kind: Literal["chat", "pair", "text"]
    turns: list[dict[str, Any]]
    """With role and content; a pair ends in its answer, a plain text is one turn without a role."""
    tools: Any
    task_type: str | None
    weight: float


def read_example(example: Any, where: str, task_type: str | None = None, *, need_task_type: bool = False) -> Example:
    """One example of `data.examples`. task_type: where it names none. Raises UsageError for whatever is wrong with it
    under any tokenizer."""
    if isinstance(example, UsageError):
        raise example
    if isinstance(example, str):
        example = {"text": example}
    if not isinstance(example, Mapping):
        raise UsageError(where, "is not an object", "write one JSON object to a line")
    task_type = _task_type(example.get("task_type") or task_type, where, need_task_type)
    weight = _weight(example.get("weight"), where)
    kind: Literal["chat", "pair", "text"] = "chat"
    turns = _turns(example, where)
    if turns is None:
        kind, turns = "pair", _pair(example, where)
    if turns is None:
        kind, turns = "text", [{"content": _text(example, where)}]
    check_characters([turns, example.get("tools"), task_type], where)
    return Example(kind, turns, example.get("tools"), task_type, weight)


def _samples(
    source: Source, tokenizer: Any, template: Template | None, reading: Reading
) -> Iterator[Sample | UsageError]:
    try:
        for line, example in examples(source.file):
            try:
                yield from _sample(example, f"{source.file}:{line}", source, tokenizer, template, reading)
            except UsageError as error:
                yield error
    except UsageError as error:
        yield error


def _sample(
    example: Any, where: str, source: Source, tokenizer: Any, template: Template | None, reading: Reading
) -> Iterator[Sample]:
    read = read_example(example, where, source.task_type, need_task_type=reading.need_task_type)
    texts = [turn["content"] for turn in read.turns]
    if read.kind == "text":
        pieces = _pieces(texts[0], tokenizer, reading.max_length)
    elif read.kind == "pair" and (source.style == "raw" or (template is None and source.style != "chat")):
        pieces = [_raw_pair("\n".join(texts[:-1]), texts[-1], tokenizer)]
    elif template is None:
        raise UsageError(where, "is a chat, and the tokenizer has no chat template", "give one that has")
    else:
        pieces = [_chat(read.turns, read.tools, where, tokenizer, template, reading.on)]
    for ids, mask in pieces:
        if len(ids) > reading.max_length:
            problem = f"has {len(ids)} tokens, the limit is {reading.max_length}"
            raise UsageError(where, problem, "shorten it, or raise `max_length`")
        mask[:1] = 0.0
        if not mask.any():
            raise UsageError(where, "has no token to learn", "give an answer, or a longer text")
        yield Sample(ids, mask, read.task_type, source.weight * read.weight, where)


def _chat(
    turns: Sequence[Turn], tools: Any, where: str, tokenizer: Any, template: Template, on: Turns
) -> tuple[NDArray[np.int64], Floats]:
    text, spans = answers(template, turns, on, where, tools=tools)
    # The template has written BOS where it wants it.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    twin = _untrimmed(tokenizer)
    offsets = encoded["offset_mapping"] if twin is None else twin.encode(text, add_special_tokens=False).offsets
    return np.asarray(encoded["input_ids"], dtype=np.int64), inside(offsets, spans)


@lru_cache(maxsize=2)
def _untrimmed(tokenizer: Any) -> Any:
    """Where a tokenizer's offsets leave out the blanks of a token (`trim_offsets`, as RoBERTa's and GPT-NeoX's do), a
    twin of its backend that keeps them; else None.

    Trimmed, a space that a template's header ends with begins where the answer does, and would be learnt with it.
    """
    backend = tokenizer.backend_tokenizer
    processor = backend.post_processor
    if processor is None or b'"trim_offsets":true' not in processor.__getstate__():
        return None
    twin = copy.deepcopy(backend)
    twin.post_processor = None  # it adds special tokens, which are not asked for, and trims
    twin.no_truncation()
    twin.no_padding()
    return twin


def _raw_pair(prompt: str, answer: str, tokenizer: Any) -> tuple[NDArray[np.int64], Floats]:
    """Prompt and answer tokenised apart, as at inference; the answer ends in EOS."""
    before = list(tokenizer(prompt)["input_ids"])
    if before and before[-1] == tokenizer.eos_token_id:
        before.pop()
    after = _ended(list(tokenizer(answer, add_special_tokens=False)["input_ids"]), tokenizer)
    mask = np.r_[np.zeros(len(before)), np.ones(len(after))].astype(np.float32)
    return np.asarray([*before, *after], dtype=np.int64), mask


def _pieces(text: str, tokenizer: Any, limit: int) -> list[tuple[NDArray[np.int64], Floats]]:
    ids = _ended(list(tokenizer(text)["input_ids"]), tokenizer)
    cut = [ids[i : i + limit] for i in range(0, len(ids), limit)]
    if len(cut) > 1 and len(cut[-1]) < 2:  # one token alone predicts nothing
        cut.pop()
    return [(np.asarray(piece, dtype=np.int64), np.ones(len(piece), dtype=np.float32)) for piece in cut]


def _ended(ids: list[int], tokenizer: Any) -> list[int]:
    end = tokenizer.eos_token_id
    return ids if end is None or (ids and ids[-1] == end) else [*ids, int(end)]


def _turns(example: Mapping[str, Any], where: str) -> list[dict[str, Any]] | None:
    key = next((k for k in ("messages", "conversations") if example.get(k) is not None), None)
    if key is None:
        return None
    given = example[key]
    cure = f'write `{key}` as [{{"role": "user", "content": "..."}}, ...]'
    if isinstance(given, str):  # a CSV cell
        try:
            given = json.loads(given)
        except ValueError:
            raise UsageError(where, f"`{key}` is a text that is not JSON", cure) from None
    if isinstance(given, Mapping | str) or not hasattr(given, "__iter__"):
        raise UsageError(where, f"`{key}` is not a list", cure)
    turns = []
    for number, turn in enumerate(given, 1):
        if not isinstance(turn, Mapping):
            raise UsageError(where, f"turn {number} is not an object", cure)
        role = turn.get("role", _FROM.get(str(turn.get("from")), turn.get("from")))
        if role not in ROLES:
            raise UsageError(where, f"turn {number} has the unknown role {role!r}", f"use one of {', '.join(ROLES)}")
        rest = {k: v for k, v in turn.items() if k not in ("role", "from", "value", "content")}
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list) and all(isinstance(p, Mapping) and "text" in p for p in content):
            content = "".join(str(part["text"]) for part in content)
        if content is None and rest.get("tool_calls"):
            content = ""
        if not isinstance(content, str):
            raise UsageError(where, f"turn {number} has no text under content or value", cure)
        if role == "assistant" and not content.strip() and not rest.get("tool_calls"):
            raise UsageError(where, f"turn {number} is an empty answer", "write the answer, or drop the sample")
        turns.append({"role": role, "content": content, **rest})
    if not any(turn["role"] == "assistant" for turn in turns):
        raise UsageError(where, "has no assistant turn", "add the answer, or give it as plain text")
    return _below_system(turns, example.get("system"), where)


def _below_system(turns: list[dict[str, Any]], system: object, where: str) -> list[dict[str, Any]]:
    """A chat below the `system` that stands beside it, as ShareGPT's layout has it."""
    if not system:
        return turns
    if not isinstance(system, str):
        raise UsageError(where, "`system` is not a text", "write a text, or a turn of that role")
    own = [turn["content"] for turn in turns if turn["role"] == "system"]
    if own and own != [system]:
        raise UsageError(where, "has `system` and another system turn", "keep one of the two")
    return turns if own else [{"role": "system", "content": system}, *turns]


def _pair(example: Mapping[str, Any], where: str) -> list[dict[str, Any]] | None:
    keys = keys_of(example)
    if keys.question is None:
        return None
    if keys.answer is None:
        raise UsageError(where, f"has `{keys.question}` and no answer", f"add one of {', '.join(ANSWERS)}")
    for key in (keys.question, keys.answer, keys.more):
        if key is not None and not isinstance(example[key], str):
            raise UsageError(where, f"`{key}` is not a text", "write a text, or a chat as `messages`")
    if not example[keys.answer].strip():
        raise UsageError(where, "is an empty answer", "write the answer, or drop the sample")
    prompt = example[keys.question] if keys.more is None else f"{example[keys.question]}\n{example[keys.more]}"
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": example[keys.answer]}]
    return _below_system(turns, example.get("system"), where)


def check_characters(texts: Any, where: str) -> None:
    """Raises UsageError for half of a surrogate pair, which JSON can escape and no tokenizer reads."""
    try:
        json.dumps(texts, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise UsageError(where, f"holds {half}, half of a character", "mend the text, or drop the sample") from None


def _text(example: Mapping[str, Any], where: str) -> str:
    text = example.get("text")
    if not isinstance(text, str) or not text.strip():
        have = ", ".join(map(str, example))[:80] or "none"
        raise UsageError(where, f"no field to train on: {have}", "name messages, prompt and answer, or text")
    return text


def _weight(value: Any, where: str) -> float:
    if value is None or value == "":  # an empty CSV cell
        return 1.0
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # a CSV cell is a text
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        raise UsageError(where, f"`weight` is {shown(value)}", "write a number above 0")
    return number


def _task_type(value: Any, where: str, needed: bool) -> str | None:
    if value is None:
        if needed:
            raise UsageError(where, "has no task_type", "add it to the line, or to its file in the recipe")
        return None
    problem = _bad_task_type(str(value)) if isinstance(value, str) else "write a text"
    if problem:
        raise UsageError(where, f"the task_type is {value!r}", problem)
    return str(value)


@lru_cache(maxsize=4096)
def _bad_task_type(value: str) -> str | None:
    try:
        TypeAdapter(TaskTypePath).validate_python(value)
    except ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return None


def token_ids(names: Mapping[str, float], tokenizer: Any) -> dict[int, float]:
    """Weights by token id from weights by token. Raises UsageError for what is no single token."""
    found = {}
    for name, weight in names.items():
        ids = tokenizer(name, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            where = f"loss.token_weights: {name!r}"
            raise UsageError(where, f"is {len(ids)} tokens of this tokenizer", "name single tokens")
        found[int(ids[0])] = weight
    return found


def weigh(
    samples: Sequence[Sample], recipe: Recipe, tokenizer: Any, model: Any, pad_id: int, stm: Sequence[int]
) -> tuple[list[Document], tuple[str, ...]]:
    """Documents with their final weights, and the names of their channels (task_types).

    With `stm_threshold` the samples of `stm` are first read by `model`, which must still be the base, and their
    surprising tokens are not learnt. Raises UsageError where nothing is left to learn, and for a weight of a task_type
    that no sample has.
    """
    by_token = token_ids(recipe.loss.token_weights, tokenizer)
    names = [s.task_type or "(none)" for s in samples]
    channels = tuple(sorted(set(names)))
    for key in recipe.loss.task_weights:
        if not any(s.task_type is not None and f"{s.task_type}/".startswith(f"{key}/") for s in samples):
            have = f"the samples have: {', '.join(channels)}"
            raise UsageError(f"loss.task_weights: {key}", "no sample has this task_type", have)
    masks = [s.mask for s in samples]
    if recipe.stm_threshold is not None:
        plain = [Document(samples[i].ids, masks[i]) for i in stm]
        at = range(0, len(plain), 8)
        batches = (collate(plain, [(i,) for i in range(a, min(a + 8, len(plain)))], pad_id) for a in at)
        for i, nll in zip(stm, document_nll(model, batches), strict=True):
            masks[i] = mask_surprising(masks[i], nll, recipe.stm_threshold)
    documents = []
    for sample, name, mask in zip(samples, names, masks, strict=True):
        factor = sample.factor * recipe.loss.task_weight(sample.task_type)
        weights = sample_weights(token_weights(sample.ids, mask, by_token), recipe.loss.reduction, factor)
        documents.append(Document(sample.ids, weights, channels.index(name)))
    if not any(d.weights.any() for d in documents):
        raise UsageError("loss", "no token has a weight above 0", "raise stm_threshold or the weights")
    return documents, channels
