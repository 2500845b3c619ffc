"""Files of results as text: gzipped or not, JSONL, JSON or CSV, with the line that each row stands on.

A broken row is noted with file, line and cure, and the reading goes on: a file that somebody else wrote is
mended in one go.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.runs.importers.types import Mistakes

MAX_BYTES = 1 << 30
"""That a file may unpack to: a few kilobytes can hold a terabyte of zeros."""
_GZIP = b"\x1f\x8b"
_RESTORE = "export or copy the file again"


def read_bytes(path: Path) -> bytes:
    """A file, unpacked where it is gzipped. Raises UsageError."""
    if path.is_dir():
        raise UsageError(str(path), "is a folder", "name its files")
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise UsageError(str(path), f"cannot be read ({reason})", "check the path") from None
    if data.startswith(_GZIP):
        data = _unpacked(path, data)
    if not data.strip():
        raise UsageError(str(path), "is empty", _RESTORE)
    return data


def _unpacked(path: Path, data: bytes) -> bytes:
    """All members of a gzip file, one after another as `gzip` reads them."""
    parts: list[bytes] = []
    size = 0
    while data.startswith(_GZIP):
        inflate = zlib.decompressobj(wbits=31)
        try:
            parts.append(inflate.decompress(data, MAX_BYTES - size + 1))
        except zlib.error as e:
            raise UsageError(str(path), f"damaged gzip ({e})", _RESTORE) from None
        size += len(parts[-1])
        if size > MAX_BYTES:
            raise UsageError(str(path), f"unpacks to more than {MAX_BYTES >> 20} MiB", "split it")
        if not inflate.eof:
            raise UsageError(str(path), "gzip ends in the middle", _RESTORE)
        data = inflate.unused_data
    return b"".join(parts)


def sha256(path: Path) -> str:
    """Of the file as it lies on disk."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text(path: Path, data: bytes) -> str:
    """UTF-8, with or without a byte order mark. Raises UsageError naming the line."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise UsageError(f"{path}:{line}", f"byte {e.start} is not UTF-8", "save the file as UTF-8") from None


def rows(path: Path, content: str, mistakes: Mistakes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of every row of a JSONL, JSON or CSV file, told apart by what it begins with."""
    begin = content.lstrip()[:1]
    if begin == "[":
        yield from _json_list(path, content, mistakes)
    elif begin == "{":
        yield from _json_lines(path, content, mistakes)
    else:
        yield from _csv_rows(path, content, mistakes)


def parse(value: str) -> Any:
    """JSON. Raises ValueError for what is none, in one line."""
    try:
        return json.loads(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json_lines(path: Path, content: str, mistakes: Mistakes) -> Iterator[tuple[str, dict[str, Any]]]:
    # split("\n"), not splitlines(): a text may hold U+2028, which is no line end in JSON.
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = parse(line)
        except ValueError as e:
            if number == 1 and (whole := _whole(content)) is not None:
                yield where, whole
                return
            mistakes.add(where, f"not JSON ({e})", "write one JSON object a line")
            continue
        if isinstance(value, dict):
            yield where, value
        else:
            mistakes.add(where, f"is {kind(value)}, not an object", "write one JSON object a line")


def _whole(content: str) -> dict[str, Any] | None:
    """A file that is one object over several lines."""
    try:
        value = parse(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _json_list(path: Path, content: str, mistakes: Mistakes) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        values = parse(content)
    except ValueError as e:
        mistakes.add(str(path), f"not JSON ({e})", _RESTORE)
        return
    for number, value in enumerate(values):
        if isinstance(value, dict):
            yield f"{path}[{number}]", value
        else:
            mistakes.add(f"{path}[{number}]", f"is {kind(value)}, not an object", "write a list of JSON objects")


def _csv_rows(path: Path, content: str, mistakes: Mistakes) -> Iterator[tuple[str, dict[str, Any]]]:
    # newline='': the csv module must see the line ends inside quotes unchanged.
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for values in reader:
            where = f"{path}:{start}"
            start = reader.line_num + 1
            if not values:
                continue
            if header is None:
                header = [name.strip() for name in values]
                if len(set(header)) < len(header) or not all(header):
                    mistakes.add(where, "the header has a column twice, or one without a name", "name each once")
                    return
                if len(header) < 2:
                    problem = "is neither JSON nor CSV: its first line has a single column"
                    mistakes.add(where, problem, "write one JSON object a line, or CSV with a header")
                    return
            elif len(values) != len(header):
                mistakes.add(where, f"the row has {len(values)} fields, the header {len(header)}", "mend the row")
            else:
                # An empty cell says nothing: CSV has no null.
                yield where, {k: v for k, v in zip(header, values, strict=True) if v != ""}
    except csv.Error as e:
        mistakes.add(f"{path}:{start}", f"not CSV ({e})", "mend the quotes, or write JSONL")


def kind(value: Any) -> str:
    """A JSON value's type, for people."""
    if value is None:
        return "null"
    names: Mapping[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")


def shown(value: Any) -> str:
    """A value as it stands in a message, cut."""
    written = json.dumps(value, ensure_ascii=False, default=str)
    return written if len(written) <= 60 else f"{written[:57]}..."


def number(value: Any) -> float | None:
    """A finite number, or a text (of a CSV cell) that is one. None: it is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int | float):
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:
            return None
    return None


def whole(value: Any) -> int | None:
    """A whole number; None: it is none."""
    found = None if isinstance(value, bool) else number(value)
    return int(found) if found is not None and found.is_integer() else None
