"""Read the texts of training data, whatever layout it has, to look for benchmark questions in it.

    .jsonl .json   one object per line, or an array of them (at the top or under one key)
    .csv .parquet  one row per example
    .txt .md       paragraphs
    each may end in .gz (not Parquet)

An object is one of: chat (`messages`, or `conversations` with from/value), alpaca (`instruction`, `input`,
`output`), `prompt` with `response`, `completion` or `chosen`/`rejected`, `question` with `answer`, or `text`.
`keys_of` says which of them count where several stand in one object, for every reader of training data. Every
text of it is looked at: a question may have leaked into an answer. Other keys are left alone. Mistakes are
collected over all files and name file, line, field and cure.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from forgetbench.errors import UsageError, combined

KEYS = ("messages", "conversations", "instruction", "prompt", "question", "text")
"""An example has at least one of these."""
QUESTIONS = ("prompt", "question", "instruction")
ANSWERS = ("answer", "response", "completion", "output", "chosen")
_MORE = ("input", "context")
_BESIDE = ("input", "output", "response", "completion", "answer", "chosen", "rejected", "system", "context")
_MOST_ERRORS = 20
_LAYOUTS = "messages, conversations, instruction/input/output, prompt/response, question/answer or text"


class TrainingText(NamedTuple):
    text: str
    where: str
    """`file:line`."""


class Keys(NamedTuple):
    """Of an example that is no chat: the keys that its question and its answer stand under."""

    question: str | None
    answer: str | None
    more: str | None
    """What belongs below the question."""


def keys_of(example: Mapping[str, Any]) -> Keys:
    """The first key of each kind that is there counts."""

    def first(keys: Sequence[str]) -> str | None:
        return next((k for k in keys if example.get(k) is not None), None)

    return Keys(first(QUESTIONS), first(ANSWERS), next((k for k in _MORE if example.get(k)), None))


def read_training(files: Sequence[Path]) -> list[TrainingText]:
    """All texts of all files. Raises every mistake at once (at most 20 are listed)."""
    texts: list[TrainingText] = []
    errors: list[UsageError] = []
    for file in files:
        try:
            for line, example in examples(file):
                where = f"{file.name}:{line}"
                if isinstance(example, UsageError):
                    errors.append(example)
                    continue
                try:
                    texts += [TrainingText(t, where) for t in _texts(example, f"{file}:{line}") if t.strip()]
                except UsageError as e:
                    errors.append(e)
        except UsageError as e:
            errors.append(e)
        if len(errors) > _MOST_ERRORS:
            more = UsageError("training data", f"{len(errors) - _MOST_ERRORS} more mistakes", "mend these first")
            errors = [*errors[:_MOST_ERRORS], more]
            break
    if errors:
        raise combined(errors)
    if not texts and files:
        raise UsageError(str(files[0]), "holds no text", "give the data that the candidate was trained on")
    return texts


def examples(file: Path) -> Iterator[tuple[int, Any]]:
    """(line, example) of a file; a plain text's paragraphs are examples that are texts, a UsageError is a
    line that cannot be read."""
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    if suffix == ".parquet":
        return _parquet(file)
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".txt": _plain, ".md": _plain}
    if suffix not in readers:
        raise UsageError(
            str(file), f"the ending '{suffix}' is none that is known", f"use {', '.join(readers)}, .parquet"
        )
    return readers[suffix](file, _read(file))


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
        if file.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except (OSError, EOFError, ValueError, zlib.error) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise UsageError(
            str(file), f"cannot be read ({reason})", "give the file that the candidate was trained on"
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise UsageError(
            f"{file}:{line}", f"byte 0x{data[e.start]:02x} is not UTF-8", "save the file as UTF-8"
        ) from None


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    # split("\n"), not splitlines(): a text may hold U+2028, which is no line end in JSON.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, _parsed(line, f"{file}:{number}")
            except UsageError as e:
                yield number, e


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as e:
        raise UsageError(where, f"not JSON ({_short(str(e))})", "write one JSON object to a line") from None


def _json(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The objects of an array, one by one, so that each has its line."""
    start = _array(file, text)
    decoder = json.JSONDecoder()
    position, line = start, text.count("\n", 0, start) + 1
    while True:
        begin = _next(text, position)
        line += text.count("\n", position, begin)
        if begin >= len(text) or text[begin] == "]":
            return
        try:
            example, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as e:
            raise UsageError(f"{file}:{line}", f"not JSON ({_short(str(e))})", "write an array of objects") from None
        yield line, example
        line += text.count("\n", begin, end)
        position = end


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,":
        position += 1
    return position


def _array(file: Path, text: str) -> int:
    """Where the elements of the array begin: at the top, or under the only key that has one."""
    begin = _next(text, 0)
    if text[begin : begin + 1] == "[":
        return begin + 1
    whole = _parsed(text, str(file))
    lists = [k for k, v in whole.items() if isinstance(v, list)] if isinstance(whole, dict) else []
    if len(lists) != 1 or set(whole) & set(KEYS):
        raise UsageError(str(file), "is not an array of examples", "write [{...}, ...], or save it as JSONL")
    # Read on value by value: the key may be written with escapes or without, and may stand in a text before.
    decoder = json.JSONDecoder()
    position = begin + 1
    while True:
        _, position = decoder.raw_decode(text, _next(text, position))
        position = _next(text, text.index(":", position) + 1)
        if text[position] == "[":
            return position + 1
        _, position = decoder.raw_decode(text, position)


def _csv(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for row in reader:
            number, start = start, reader.line_num + 1
            if header is None:
                header = [cell.strip() for cell in row]
                _check_columns(file, header, number)
            elif row:
                if len(row) != len(header):
                    problem = f"the row has {len(row)} cells, the header {len(header)}"
                    yield number, UsageError(f"{file}:{number}", problem, "quote cells that hold commas or line ends")
                else:
                    yield number, dict(zip(header, row, strict=True))
    except csv.Error as e:
        raise UsageError(
            f"{file}:{start}", f"not CSV ({e})", "quote cells that hold quotes, commas or line ends"
        ) from None


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as e:
        raise UsageError(
            str(file), f"not a readable Parquet file ({_short(str(e))})", "save it again, or as JSONL"
        ) from None
    _check_columns(file, list(table.column_names), 1)
    yield from enumerate(table.to_pylist(), 1)


def _check_columns(file: Path, names: Sequence[str], line: int) -> None:
    if not set(names) & set(KEYS):
        problem = f"no column that holds a question: {', '.join(names)[:80]}"
        raise UsageError(f"{file}:{line}", problem, f"name the columns {_LAYOUTS}")


def _plain(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    paragraph: list[str] = []
    start = 1
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            if not paragraph:
                start = number
            paragraph.append(line)
        elif paragraph:
            yield start, "\n".join(paragraph)
            paragraph = []


def _texts(example: Any, where: str) -> Iterator[str]:
    if isinstance(example, str):
        yield example
        return
    if not isinstance(example, Mapping):
        raise UsageError(where, "is not an object", f"write an object with {_LAYOUTS}")
    if not set(example) & set(KEYS):
        have = ", ".join(map(str, example))[:80] or "none"
        raise UsageError(where, f"no field that holds a question: {have}", f"name the fields {_LAYOUTS}")
    for key in ("messages", "conversations"):
        if example.get(key) is not None:
            yield from _turns(example[key], f"{where}: {key}")
    found = {}
    for key in (*KEYS[2:], *_BESIDE):
        value = example.get(key)
        if value is None or value == "":
            continue
        if isinstance(value, list) and key in ("prompt", "chosen", "rejected", "completion"):
            yield from _turns(value, f"{where}: {key}")  # trl's conversational layouts
            continue
        if not isinstance(value, str):
            raise UsageError(f"{where}: {key}", f"{_short(repr(value))} is not a text", "write a text")
        found[key] = value
    yield from found.values()
    keys = keys_of(found)
    if keys.question and keys.more:
        yield f"{found[keys.question]}\n{found[keys.more]}"  # the question may begin in one and end in the other


def _turns(turns: Any, where: str) -> Iterator[str]:
    cure = 'write [{"role": "user", "content": "..."}, ...]'
    if isinstance(turns, str):  # a CSV cell
        turns = _parsed(turns, where)
    if not isinstance(turns, Iterable) or isinstance(turns, Mapping):
        raise UsageError(where, f"{_short(repr(turns))} is not a list of turns", cure)
    for number, turn in enumerate(turns):
        content = None
        if isinstance(turn, Mapping):
            content = turn.get("content") if turn.get("content") is not None else turn.get("value")
            if isinstance(content, list):  # parts of a multimodal message
                content = "\n".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping))
            if content is None and turn.get("tool_calls"):
                continue
        if not isinstance(content, str):
            raise UsageError(f"{where}[{number}]", "has no text under content or value", cure)
        yield content


def _short(text: str, limit: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
