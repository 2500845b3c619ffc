"""Record <-> Parquet with a fixed schema.

`scores` and `extra` are JSON text columns, so that a new metric changes no schema. The file is made in memory
and written by tmp + fsync + rename; its sha256 goes into the manifest.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.errors import UsageError
from forgetbench.runs.files import atomic_write
from forgetbench.types import Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

RECORDS_VERSION = 1
JSON_COLUMNS = ("scores", "extra")
COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(Record))

_CURE = "delete it and run the same command again: records are made anew from the stored responses"


def _kinds() -> dict[str, tuple[type, bool]]:
    """Column -> (int, float or str; whether it may be null), read off the Record so that they cannot part."""
    kinds: dict[str, tuple[type, bool]] = {}
    for name, hint in typing.get_type_hints(Record).items():
        if not isinstance(hint, types.UnionType) and typing.get_origin(hint) is not typing.Union:
            parts, nullable = (hint,), False
        else:
            parts = tuple(a for a in typing.get_args(hint) if a is not type(None))
            nullable = True
        kinds[name] = (parts[0] if parts[0] in (int, float) else str, nullable)
    return kinds


KINDS = _kinds()
"""The schema in plain Python: (type, nullable) by column."""


def schema() -> pa.Schema:
    import pyarrow as pa

    arrow = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    return pa.schema([pa.field(name, arrow[kind], nullable=null) for name, (kind, null) in KINDS.items()])


def _text(value: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate becomes U+FFFD (the response keeps it exactly)."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _column(name: str, values: list[Any]) -> list[Any]:
    if name in JSON_COLUMNS:
        return [_json(v) for v in values]
    kind, _ = KINDS[name]
    if kind is str:
        return [None if v is None else _text(v) for v in values]
    return [None if v is None else kind(v) for v in values]


def to_table(records: Sequence[Record], metadata: Mapping[str, str] | None = None) -> pa.Table:
    """`records` in their order, as they are stored."""
    import pyarrow as pa

    meta = {"forgetbench.records_version": str(RECORDS_VERSION), **(metadata or {})}
    columns = [_column(name, [getattr(r, name) for r in records]) for name in COLUMNS]
    full = schema().with_metadata(meta)
    arrays = [pa.array(values, type=f.type) for values, f in zip(columns, full, strict=True)]
    return pa.Table.from_arrays(arrays, schema=full)


def write_records(path: Path, records: Sequence[Record], metadata: Mapping[str, str] | None = None) -> str:
    """Write `records` in their order; return the file's sha256. Raises DiskFullError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = to_table(records, metadata)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    blob = buffer.getvalue().to_pybytes()
    atomic_write(path, blob)
    return hashlib.sha256(blob).hexdigest()


def file_sha256(path: Path) -> str | None:
    """sha256 of a file's content; None when there is no such file."""
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def read_table(path: Path, *, sha256: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a records file; columns that its writer did not know yet, and that may be null, are null.

    Raises UsageError when the file is missing, damaged, or not the hashed one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        blob = path.read_bytes()
    except OSError as e:
        raise UsageError(str(path), f"records cannot be read ({e.strerror})", _CURE) from e
    if sha256 is not None and hashlib.sha256(blob).hexdigest() != sha256:
        raise UsageError(str(path), "records are not the ones that manifest.json has the hash of", _CURE)
    try:
        # No pq.read_table and no Python file object: pyarrow's I/O threads then hold Python objects, and one
        # that lets go of them while the interpreter exits aborts the process (rc 134, 5 of 300 on busy cores).
        file = pq.ParquetFile(pa.BufferReader(blob), pre_buffer=False)
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        table.validate(full=True)  # offsets and UTF-8, which a damaged page may have wrong
    except (pa.ArrowException, OSError) as e:
        raise UsageError(str(path), f"not a Parquet file of records ({str(e).splitlines()[0]})", _CURE) from e
    missing = [c for c in columns or COLUMNS if c not in table.column_names]
    needed = [c for c in missing if not KINDS[c][1]]
    if needed:
        raise UsageError(str(path), f"columns are missing: {', '.join(needed)}", _CURE)
    types = {f.name: f.type for f in schema()}
    other = [f"{f.name} is {f.type}" for f in table.schema if types.get(f.name, f.type) != f.type]
    if other:
        raise UsageError(str(path), f"columns are not of their types: {', '.join(other[:3])}", _CURE)
    for name in missing:
        field = schema().field(name)
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def to_frame(tables: Sequence[pa.Table], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One DataFrame whose dtypes do not depend on the data.

    Text is `str` (null: nan), integers that are never null are int64, other numbers float64 (null: nan).
    """
    import pyarrow as pa

    names = list(columns or COLUMNS)
    if not tables:
        full = schema()
        tables = [pa.table({n: pa.array([], type=full.field(n).type) for n in names})]
    frame: pd.DataFrame = pa.concat_tables([t.select(names) for t in tables]).to_pandas(use_threads=False)
    dtypes = {n: "float64" if KINDS[n][1] else "int64" for n in names if KINDS[n][0] is not str}
    dtypes |= {n: "str" for n in names if KINDS[n][0] is str}
    return frame.astype(dtypes)


def to_records(table: pa.Table) -> list[Record]:
    """The rows of a whole table as Records."""
    rows: list[dict[str, Any]] = table.select(list(COLUMNS)).to_pylist()
    return [Record(**{**row, **{c: json.loads(row[c]) for c in JSON_COLUMNS}}) for row in rows]
