"""Read the lines of a custom set, JSONL or CSV (or either gzipped), and report every mistake in one pass.

Mistakes are collected, not raised one by one: a file of 500 lines that someone else exported is mended in one
go. Each names file and line, the field, what was found there, and the cure.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forgetbench.errors import UsageError
from forgetbench.tasks.custom_fields import Source, apply_fields
from forgetbench.tasks.custom_lines import Line, check_scoring

MAX_LINE = 1_000_000
"""Characters in one line or CSV row. A longer one is a file that is not what it says."""
MAX_UNPACKED = 1 << 30
"""Bytes that a gzipped set may unpack to: a few kilobytes can hold a terabyte of zeros."""

_EXPECTED = {
    "task_type": ("not a two-level path", "write it as ability/kind, such as reasoning/arithmetic"),
    "prompt": ("not a text", "write a text that is not blank"),
    "chat_prompt": ("not a text", "write a text that is not blank"),
    "statement": ("not a text", "write the beginning of a sentence that the answer ends"),
    "messages": (
        "not a conversation",
        'write [{"role": "user", "content": "..."}], roles system, user, assistant',
    ),
    "references": ("not a text or a list of texts", 'write ["..."], numbers in quotes too'),
    "scorer": ("not a scorer", "choose exact, contains, regex, numeric or choice"),
    "choices": ("not a list of 2 to 26 texts", 'write ["...", "..."], numbers in quotes too'),
    "answer": ("not a text or an index", "write the right option's text, its letter, or its index from 0"),
    "tolerance": ("not a number from 0", "write a number such as 0.01"),
    "id": ("not a text or a whole number", "write a text that is not empty"),
    "cluster": ("not a text", "write a text that is not blank"),
    "frequency": ("not a number of 0 or more", "write how often the fact occurs, or leave it out"),
}
_JSON_CELLS = ("messages", "choices", "references")


class Found(list[UsageError]):
    """The mistakes found so far in one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def add(self, line: int | None, problem: str, cure: str, field: str | None = None) -> None:
        where = str(self._path) if line is None else f"{self._path}:{line}"
        self.append(UsageError(f"{where}: {field}" if field else where, problem, cure))


def read_lines(
    path: Path, default_scorer: str, fields: Mapping[str, Source] | None = None
) -> tuple[list[tuple[int, Line]], list[UsageError]]:
    """The good lines with their line numbers (from 1; a CSV row: where it starts), and all mistakes.

    `fields` maps our fields to the file's columns (custom_fields.py); without it they have our names.
    """
    found = Found(path)
    text = _read_text(path, found)
    if text is None:
        return [], found
    suffix = _kind(path)
    if suffix not in (".jsonl", ".csv"):
        problem = f"the ending '{path.suffix}' is not .jsonl or .csv (or either with .gz)"
        found.add(None, problem, "save it as JSONL or CSV")
        return [], found
    documents = _csv_documents(text, found, fields) if suffix == ".csv" else _json_documents(text, found)
    lines: list[tuple[int, Line]] = []
    ids: dict[str, int] = {}
    for number, document in documents:
        if fields is not None and suffix == ".jsonl" and isinstance(document, dict):
            document = _mapped(document, fields, number, found)
            if document is None:
                continue
        line = _validate(document, number, found)
        if line is None:
            continue
        if default_scorer == "none" and line.scorer is not None:
            found.add(number, "the set's scorer is none, so no line can be scored", "drop it", "scorer")
            continue
        problems = check_scoring(line, line.scorer or default_scorer)
        for field, problem, cure in problems:
            found.add(number, problem, cure, field)
        if line.id is not None:
            first = ids.setdefault(str(line.id), number)
            if first != number:
                found.add(number, f"{line.id!r} is also the id of line {first}", "make ids unique", "id")
                continue
        if not problems:
            lines.append((number, line))
    if not lines and not found:
        found.add(None, "the file holds no questions", "add at least one line")
    return lines, found


def _read_text(path: Path, found: Found) -> str | None:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as e:  # ValueError: a null byte in the path
        if isinstance(e, FileNotFoundError):
            near = difflib.get_close_matches(path.name, _siblings(path), 1)
            cure = f"did you mean '{near[0]}'?" if near else "check the path; it starts at the suite file's folder"
            found.add(None, "there is no such file", cure)
        else:
            reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            found.add(None, f"cannot be read ({reason})", "give a readable .jsonl or .csv file")
        return None
    if path.suffix.lower() == ".gz":
        try:
            data = _unpack(data)
        except (OSError, EOFError, ValueError, zlib.error) as e:
            found.add(None, f"cannot be unpacked ({e})", "give a whole gzip file, or an unpacked one")
            return None
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        name = "UTF-8" if data.startswith(b"\xef") else "UTF-16"
        found.add(1, f"the file starts with a {name} byte order mark", "save it as UTF-8 without BOM")
        return None
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        found.add(line, "there is a null byte", "save it as plain UTF-8 text")
        return None
    if not data.strip():
        found.add(None, "the file is empty", "add at least one line")
        return None
    # Each broken line is named, not the first alone; the good ones are still checked.
    rows = data.split(b"\n")
    for number, row in enumerate(rows, 1):
        try:
            row.decode("utf-8")
        except UnicodeDecodeError as e:
            problem = f"byte {e.start + 1} of the line, 0x{row[e.start]:02x}, is not UTF-8"
            found.add(number, problem, "save the file as UTF-8")
            rows[number - 1] = b""
    return b"\n".join(rows).decode("utf-8")


def _kind(path: Path) -> str:
    """The ending without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _unpack(data: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        unpacked = packed.read(MAX_UNPACKED + 1)
    if len(unpacked) > MAX_UNPACKED:
        raise ValueError(f"it unpacks to over {MAX_UNPACKED:,} bytes")
    return unpacked


def _mapped(
    document: Mapping[str, Any], fields: Mapping[str, Source], number: int, found: Found
) -> dict[str, Any] | None:
    made, mistakes = apply_fields(document, fields)
    for field, problem, cure in mistakes:
        found.add(number, problem, cure, field)
    return None if mistakes else made


def _siblings(path: Path) -> list[str]:
    try:
        return [p.name for p in path.parent.iterdir() if _kind(p) in (".jsonl", ".csv")]
    except OSError:
        return []


def _json_documents(text: str, found: Found) -> Iterator[tuple[int, Any]]:
    # split("\n"), not splitlines(): a text may hold U+2028, which is no line end in JSON.
    for number, row in enumerate(text.split("\n"), 1):
        if len(row) > MAX_LINE:
            problem = f"the line has {len(row):,} characters, over {MAX_LINE:,}"
            found.add(number, problem, "put each question on a line of its own, or shorten it")
        elif row.strip():
            try:
                yield number, _json(row)
            except _JSON_ERRORS as e:
                found.add(number, f"not JSON ({_reason(e)})", "write one JSON object to a line")


def _csv_documents(text: str, found: Found, fields: Mapping[str, Source] | None) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for row in reader:
            number, start = start, reader.line_num + 1
            if not any(row):
                continue
            if header is None:
                header = [name.strip() for name in row]
                twice = next((name for name in header if header.count(name) > 1), None)
                if twice is not None:
                    found.add(number, f"two columns are called '{twice}'", "make column names unique")
                    return
                if fields is None and "task_type" not in header:
                    problem = f"the header has no column task_type: {', '.join(header)[:80]}"
                    found.add(number, problem, "put the field names into the first row")
                    return
            elif len(row) != len(header):
                problem = f"the row has {len(row)} cells, the header {len(header)}"
                found.add(number, problem, "quote cells that hold commas or line ends")
            elif sum(map(len, row)) > MAX_LINE:
                found.add(number, f"the row has over {MAX_LINE:,} characters", "shorten it")
            else:
                cells: dict[str, Any] | None = dict(zip(header, row, strict=True))
                if fields is not None and cells is not None:
                    cells = _mapped(cells, fields, number, found)
                document = None if cells is None else _row_document(cells, number, found)
                if document is not None:
                    yield number, document
    except csv.Error as e:
        problem = "a cell is too long or a quote is not closed" if "field larger" in str(e) else str(e)
        found.add(start, f"not CSV ({problem})", "quote cells that hold quotes, and double the quotes inside")


def _row_document(row: dict[str, Any], number: int, found: Found) -> dict[str, Any] | None:
    """Cells are texts, an empty one a missing field; lists and numbers are recovered by field."""
    document: dict[str, Any] = {name: cell for name, cell in row.items() if cell != ""}
    good = True
    for name in _JSON_CELLS:
        cell = document.get(name)
        # A reference that merely looks like a list, such as the pattern [a-z]+, stays a text.
        if (
            not isinstance(cell, str)
            or not cell.lstrip().startswith("[")
            or (name == "references" and not _is_json(cell))
        ):
            continue
        try:
            document[name] = _json(cell)
        except _JSON_ERRORS as e:
            found.add(number, f"not a JSON list ({_reason(e)})", 'write it as ["...", "..."]', name)
            good = False
    for name in ("tolerance", "frequency"):
        if name in document:
            with contextlib.suppress(ValueError):  # the validator says what is wrong with it
                document[name] = float(document[name])
    answer = document.get("answer")
    choices = document.get("choices")
    if answer is not None and choices is not None and answer.isdecimal() and answer not in choices:
        document["answer"] = int(answer[:9])
    return document if good else None


def _validate(document: Any, number: int, found: Found) -> Line | None:
    if not isinstance(document, dict):
        kind = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(
            type(document), "a number"
        )
        found.add(number, f"the line is {kind}, not an object", 'write {"task_type": ..., "prompt": ...}')
        return None
    lone = next((k for k, v in document.items() if _has_lone_surrogate(k) or _has_lone_surrogate(v)), None)
    if lone is not None:
        shown = lone.encode("ascii", "backslashreplace").decode()
        found.add(number, "half of a surrogate pair (\\ud800 to \\udfff)", "write the whole character", shown)
        return None
    try:
        return Line.model_validate(document)
    except ValidationError as e:
        reported: set[str] = set()
        for error in e.errors(include_url=False, include_context=True):
            if error["type"] == "line":
                context = error["ctx"]
                found.add(number, context["problem"], context["cure"], context["field"])
                continue
            field = str(error["loc"][0])
            if field in reported:  # a union reports each of its branches
                continue
            reported.add(field)
            found.add(number, *_explain(field, error["type"], document), field[:60])
        return None


def _explain(field: str, kind: str, document: dict[str, Any]) -> tuple[str, str]:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(field, Line.model_fields, 1)
        cure = f"did you mean '{near[0]}'?" if near else f"use {', '.join(Line.model_fields)}"
        return "there is no such field", cure
    if kind == "missing":
        return "missing", _EXPECTED[field][1]
    problem, cure = _EXPECTED[field]
    shown = json.dumps(document[field], ensure_ascii=False)
    return f"{shown if len(shown) <= 60 else shown[:59] + '…'} is {problem}", cure


_SURROGATE = re.compile("[\ud800-\udfff]")


def _has_lone_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(_has_lone_surrogate(k) or _has_lone_surrogate(v) for k, v in value.items())
    return isinstance(value, list) and any(_has_lone_surrogate(v) for v in value)


_JSON_ERRORS = (ValueError, RecursionError)  # JSONDecodeError is a ValueError, as is a number of 5,000 digits


def _json(text: str) -> Any:
    """Strict JSON: no NaN, no key twice (the second would silently win)."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [k for k, _ in pairs]
        twice = next((k for k in keys if keys.count(k) > 1), None)
        if twice is not None:
            raise ValueError(f"the key '{twice[:40]}' occurs twice")
        return dict(pairs)

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON value")

    return json.loads(text, object_pairs_hook=once, parse_constant=constant)


def _is_json(text: str) -> bool:
    try:
        _json(text)
    except _JSON_ERRORS:
        return False
    return True


def _reason(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0][:120]
