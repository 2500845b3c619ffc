"""Record <-> Parquet: nothing is lost, the dtypes do not depend on the data, damage is one line."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forgetbench.errors import UsageError
from forgetbench.runs import records as rec
from forgetbench.types import Record

pytestmark = pytest.mark.unit

text = st.text(st.characters(codec="utf-8"), max_size=12)
maybe_int = st.none() | st.integers(0, 10**9)
maybe_float = st.none() | st.floats(allow_nan=False)
records = st.builds(
    Record,
    task=text,
    content_hash=text,
    occurrence=st.integers(0, 9),
    task_type=text,
    view=st.sampled_from(["ability", "chat", "as_used"]),
    style=st.sampled_from([None, "raw", "chat"]),
    decode_id=text,
    sample=st.integers(0, 9),
    replicate=st.integers(0, 9),
    outcome=st.sampled_from(["ok", "unparsed", "infra_error"]),
    scores=st.dictionaries(text, st.floats(allow_nan=False), max_size=3),
    output=text,
    extracted=st.none() | text,
    gold=text,
    why=text,
    gold_hash=text,
    cluster=st.none() | text,
    n_choices=maybe_int,
    prompt=st.none() | text,
    request_id=st.none() | text,
    n_output_tokens=maybe_int,
    mean_logprob=maybe_float,
    mean_entropy=maybe_float,
    first_token_seconds=maybe_float,
    seconds=maybe_float,
    successes=maybe_int,
    trials=maybe_int,
    extra=st.dictionaries(text, st.lists(st.integers()) | text, max_size=2),
)


def record(**changes: object) -> Record:
    base = Record(
        task="t",
        content_hash="c",
        occurrence=0,
        task_type="a/b",
        view="ability",
        style="raw",
        decode_id="greedy",
        sample=0,
        replicate=0,
        outcome="ok",
        scores={"acc": 1.0},
        output="o",
        extracted=None,
        gold="g",
        why="w",
        gold_hash="h",
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records, max_size=4))
def test_round_trip(tmp_path: Path, rows: list[Record]) -> None:
    path = tmp_path / "r.parquet"
    sha256 = rec.write_records(path, rows)
    assert rec.to_records(rec.read_table(path, sha256=sha256)) == rows


def test_the_columns_are_those_of_a_record() -> None:
    names = [f.name for f in dataclasses.fields(Record)]
    assert rec.schema().names == names
    kinds = {f.name: (str(f.type), f.nullable) for f in rec.schema()}
    assert kinds["occurrence"] == ("int64", False)
    assert kinds["n_choices"] == ("int64", True)
    assert kinds["mean_logprob"] == ("double", True)
    assert kinds["style"] == ("string", True)
    assert kinds["view"] == ("string", False)
    assert kinds["scores"] == kinds["extra"] == ("string", False)


@pytest.mark.parametrize("filled", [True, False])
def test_dtypes_do_not_depend_on_the_data(tmp_path: Path, filled: bool) -> None:
    full = record(n_choices=4, mean_logprob=-0.5, cluster="c", trials=3, truncated_left=0)
    rec.write_records(tmp_path / "r.parquet", [full if filled else record()])
    frame = rec.to_frame([rec.read_table(tmp_path / "r.parquet")])
    assert list(frame.columns) == list(rec.COLUMNS)
    kinds = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert kinds["n_choices"] == kinds["mean_logprob"] == kinds["trials"] == "float64"
    assert kinds["occurrence"] == kinds["sample"] == kinds["round"] == "int64"
    assert kinds["cluster"] == kinds["style"] == kinds["scores"] == "str"
    assert json.loads(frame["scores"][0]) == {"acc": 1.0}
    assert bool(pd.isna(frame["n_choices"][0])) is not filled
    empty = rec.to_frame([])
    assert {n: str(d) for n, d in empty.dtypes.items()} == kinds
    assert len(empty) == 0


def test_chosen_columns_only(tmp_path: Path) -> None:
    rec.write_records(tmp_path / "r.parquet", [record()])
    table = rec.read_table(tmp_path / "r.parquet", columns=["scores", "task"])
    assert list(rec.to_frame([table], ["scores", "task"]).columns) == ["scores", "task"]


def test_a_file_from_before_the_times_is_read_with_nulls(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    rec.write_records(path, [record(n_output_tokens=7, seconds=1.5, first_token_seconds=0.5)])
    pq.write_table(pq.read_table(path).drop_columns(["first_token_seconds", "seconds"]), path)
    table = rec.read_table(path)
    assert rec.to_records(table) == [record(n_output_tokens=7)]
    frame = rec.to_frame([table])
    assert list(frame.columns) == list(rec.COLUMNS)
    assert str(frame["seconds"].dtype) == "float64"
    assert bool(frame["seconds"].isna().all())
    chosen = rec.read_table(path, columns=["seconds", "task"])
    assert rec.to_frame([chosen], ["seconds", "task"])["task"].tolist() == ["t"]
    new = tmp_path / "new.parquet"
    rec.write_records(new, [record(seconds=2.0)])
    assert rec.to_frame([table, rec.read_table(new)])["seconds"].tolist()[1] == 2.0


def test_a_column_that_may_not_be_null_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    rec.write_records(path, [record()])
    pq.write_table(pq.read_table(path).drop_columns(["scores", "seconds"]), path)
    with pytest.raises(UsageError, match="columns are missing: scores"):
        rec.read_table(path)


def test_text_that_utf8_cannot_hold_is_stored_readably(tmp_path: Path) -> None:
    rec.write_records(tmp_path / "r.parquet", [record(output="a\ud800b", prompt="\ud83d\ude00\x00")])
    (row,) = rec.to_records(rec.read_table(tmp_path / "r.parquet"))
    assert row.output == "a\ufffdb"
    assert row.prompt == "\U0001f600\x00"


def test_a_missing_value_where_none_may_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="null"):
        rec.write_records(tmp_path / "r.parquet", [record(gold=None)])
    assert list(tmp_path.iterdir()) == []


def test_metadata_says_what_the_file_is(tmp_path: Path) -> None:
    rec.write_records(tmp_path / "r.parquet", [record()], {"task": "t"})
    metadata = pq.read_schema(tmp_path / "r.parquet").metadata
    assert metadata[b"task"] == b"t"
    assert metadata[b"forgetbench.records_version"] == b"1"


@pytest.mark.parametrize("damage", ["gone", "flipped", "cut", "other", "columns"])
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "r.parquet"
    sha256: str | None = rec.write_records(path, [record()])
    blob = bytearray(path.read_bytes())
    match damage:
        case "gone":
            path.unlink()
        case "flipped":
            blob[len(blob) // 2] ^= 1
            path.write_bytes(blob)
        case "cut":
            path.write_bytes(blob[: len(blob) // 2])
            sha256 = None
        case "other":
            path.write_text("not parquet")
            sha256 = None
        case "columns":
            sha256 = None
            pd.DataFrame({"task": ["t"]}).to_parquet(path)
    with pytest.raises(UsageError) as caught:
        rec.read_table(path, sha256=sha256)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_reading_and_writing_start_no_threads(tmp_path: Path) -> None:
    """A thread of pyarrow that still holds a Python object at exit aborts the process: exit code 134, not 0."""
    code = """
import os, sys
from pathlib import Path
import pandas, pyarrow.parquet
from forgetbench.runs import records as rec
from tests.runs.test_records import record
before = len(os.listdir("/proc/self/task"))
path = Path(sys.argv[1])
rec.write_records(path, [record()] * 500)
rec.to_frame([rec.read_table(path)])
rec.to_records(rec.read_table(path))
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.parquet")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n"
