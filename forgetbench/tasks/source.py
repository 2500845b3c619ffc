"""Where benchmark data comes from: a folder with the original files, or the Hugging Face hub and its cache.

Dataset revisions are pinned: `main` would let a benchmark drift under a comparison. The pinned commits are
those that other harnesses and published results name for these data sets.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forgetbench.errors import ManyUsageErrors, UsageError

HUB_REVISIONS: Mapping[str, str] = {
    "cais/mmlu": "c30699e8356da336a370243923dbaf21066bb9fe",
    "evalplus/humanevalplus": "d32357cf319e50e9c8d8dab5ea876c72b0fd321b",
    "evalplus/mbppplus": "b2d74c91837c3f2a20c1299ae98133cbe7cfa077",
    "google-research-datasets/mbpp": "4bb6404fdc6cacfda99d4ac4205087b89d32030c",
    "openai/gsm8k": "e53f048856ff4f594e959d75785d2c2d37b678ee",
    "openai/openai_humaneval": "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    "truthfulqa/truthful_qa": "741b8276f2d1982aa3d5b832d3ee81ed3b896490",
    "google/IFEval": "966cd89545d6b6acfd7638bc708b98261ca58e84",
}
"""Dataset id -> commit."""

_TRUE = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True)
class DataSource:
    """A folder (`data_dir`, laid out as <benchmark>/<the original files>) or else the hub.

    `offline`, or HF_HUB_OFFLINE in the environment, means: what is on disk or a one-line error, with no
    look-up and no wait. `hub=False` never asks the hub's cache either.
    """

    data_dir: Path | None = None
    hub: bool = True
    offline: bool = False
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Overrides of HUB_REVISIONS, for a mirror or a newer copy."""
    cache_dir: Path | None = None
    """The hub's cache; None: the one huggingface_hub uses (HF_HUB_CACHE, HF_HOME)."""

    @property
    def is_offline(self) -> bool:
        return self.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE

    def folder(self, name: str) -> Path | None:
        """`data_dir`/`name`; None: the data is to come from the hub. Raises UsageError: it is not there."""
        if self.data_dir is None:
            return None
        folder = self.data_dir / name
        if not folder.is_dir():
            raise UsageError(
                str(self.data_dir),
                f"there is no folder {name}/ in it",
                f"point --data-dir or FORGETBENCH_DATA at the folder that holds {name}/, or leave them out",
            )
        return folder

    def revision(self, dataset: str) -> str:
        return self.revisions.get(dataset) or HUB_REVISIONS[dataset]

    def hub_file(self, dataset: str, filename: str) -> Path:
        """A file of a hub dataset at its pinned revision. Raises UsageError: not to be had, and the cure."""
        revision = self.revision(dataset)
        where = f"{dataset}@{revision[:12]}/{filename}"
        if not self.hub:
            raise UsageError(where, "no data folder was given and the hub is switched off", "pass --data-dir")
        try:
            import huggingface_hub
        except ImportError:
            raise UsageError(
                where, "huggingface_hub is not installed", "install forgetbench[hub], or pass --data-dir"
            ) from None
        # The cache first: a pinned commit never changes, so a look-up could tell nothing new.
        cached = huggingface_hub.try_to_load_from_cache(
            dataset, filename, cache_dir=self.cache_dir, revision=revision, repo_type="dataset"
        )
        if isinstance(cached, str):
            return Path(cached)
        if self.is_offline:
            raise UsageError(
                where,
                "not in the hub's cache, and offline was asked for",
                "run once without --offline and HF_HUB_OFFLINE, or pass --data-dir with the original files",
            )
        try:
            path = huggingface_hub.hf_hub_download(
                dataset, filename, cache_dir=self.cache_dir, revision=revision, repo_type="dataset"
            )
        except Exception as e:  # the hub's client raises a dozen kinds, its HTTP library more: one cure for all
            reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
            raise UsageError(
                where,
                f"could not be downloaded ({type(e).__name__}: {reason[:200]})",
                "check the network and HF_ENDPOINT, or pass --data-dir with the original files",
            ) from e
        return Path(path)


def read_text(path: Path) -> str:
    """A UTF-8 text file, or a gzipped one (`.gz`). Raises UsageError naming file and byte."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError) as e:  # gzip.BadGzipFile is an OSError
        reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        raise UsageError(str(path), f"cannot be read ({reason})", "restore the original file") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise UsageError(f"{path}:{line}", f"byte {e.start} is not UTF-8", "restore the original file") from None


def read_csv(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Rows of a headerless CSV file with the line each starts on; fields may hold line ends.

    Raises ManyUsageErrors naming every row that has not `columns` fields.
    """
    # newline='': the csv module must see the line ends inside quotes unchanged.
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    errors: list[UsageError] = []
    start = 1
    try:
        for row in reader:
            if len(row) == columns:
                rows.append((start, row))
            elif row:
                problem = f"the row has {len(row)} fields, not {columns}"
                errors.append(UsageError(f"{path}:{start}", problem, "restore the original file"))
            start = reader.line_num + 1
    except csv.Error as e:
        errors.append(UsageError(f"{path}:{start}", f"not CSV ({e})", "restore the original file"))
    if errors:
        raise ManyUsageErrors(errors)
    yield from rows


def read_jsonl(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSONL file with their line numbers.

    Raises ManyUsageErrors naming every bad line: not a JSON object, or one of `fields` is not a text.
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    errors: list[UsageError] = []
    # split("\n"), not splitlines(): a text may hold U+2028, which is no line end in JSON.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            doc = json.loads(line)
        except (ValueError, RecursionError) as e:
            errors.append(UsageError(where, f"not JSON ({e})", "restore the original file"))
            continue
        bad = [f for f in fields if not isinstance(doc, dict) or not isinstance(doc.get(f), str)]
        if bad:
            problem = f"no text in field '{bad[0]}'"
            errors.append(UsageError(where, problem, "restore the original file"))
        else:
            rows.append((number, doc))
    if errors:
        raise ManyUsageErrors(errors)
    yield from rows


def read_parquet(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of a Parquet file. Raises UsageError: unreadable, or a column is missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not pq.read_table, whose I/O threads can abort the process at exit (see runs/records.py).
        table = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
    except (OSError, pa.ArrowException) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        cure = "delete it from the hub's cache and run again online"
        raise UsageError(str(path), f"not a readable Parquet file ({reason[:200]})", cure) from None
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        problem = f"no column '{missing[0]}'; it has {', '.join(table.column_names)}"
        raise UsageError(str(path), problem, "use the pinned revision of the dataset")
    rows: list[dict[str, Any]] = table.select(list(columns)).to_pylist()
    return rows
