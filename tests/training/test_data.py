"""Training data in every layout, and every mistake in one line with file, line, field and cure."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import ForgetbenchError
from forgetbench.training.data import read_training

pytestmark = pytest.mark.unit

CHAT = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}], "id": 7}
LAYOUTS: list[tuple[dict[str, Any], list[str]]] = [
    (CHAT, ["Hi?", "Yes."]),
    ({"conversations": [{"from": "human", "value": "Hi?"}]}, ["Hi?"]),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}]}, ["Hi?"]),
    ({"messages": [{"role": "assistant", "content": None, "tool_calls": [1]}]}, []),
    ({"instruction": "Do", "input": "this", "output": "ok"}, ["Do", "this", "ok", "Do\nthis"]),
    ({"instruction": "Do", "input": "", "output": "ok"}, ["Do", "ok"]),
    ({"prompt": "P", "response": "R"}, ["P", "R"]),
    ({"question": "Q", "context": "C", "answer": "A"}, ["Q", "A", "C", "Q\nC"]),
    ({"prompt": "P", "chosen": "C", "rejected": "R"}, ["P", "C", "R"]),
    ({"prompt": [{"role": "user", "content": "P"}], "completion": "C"}, ["P", "C"]),
    ({"question": "Q", "answer": "A", "meta": {"x": 1}}, ["Q", "A"]),
    ({"text": "T"}, ["T"]),
]


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def _texts(file: Path) -> list[tuple[str, str]]:
    return [(t.text, t.where.split(":")[-1]) for t in read_training([file])]


@pytest.mark.parametrize(("row", "texts"), LAYOUTS)
def test_layouts(tmp_path: Path, row: dict[str, Any], texts: list[str]) -> None:
    file = _write(tmp_path, "t.jsonl", json.dumps(row) + "\n" + json.dumps({"text": "end"}))
    assert [t for t, _ in _texts(file)] == [*texts, "end"]


def test_lines_of_every_format(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b\u2028c"}]
    jsonl = "\n" + "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    assert _texts(_write(tmp_path, "a.jsonl", jsonl)) == [("a", "2"), ("b\u2028c", "3")]
    assert _texts(_write(tmp_path, "a.jsonl.gz", gzip.compress(jsonl.encode()))) == [("a", "2"), ("b\u2028c", "3")]
    array = json.dumps(rows, indent=1, ensure_ascii=False)
    assert _texts(_write(tmp_path, "b.json", array)) == [("a", "2"), ("b\u2028c", "5")]
    assert _texts(_write(tmp_path, "c.json", '{"version": 1,\n "data": [\n' + json.dumps(rows[0]) + "]}")) == [
        ("a", "3")
    ]
    other = '{"note": "data [1", "meta": {"data": [1]}, "n": 1,\n "\\u0064ата": [\n{"text": "a"}]}'
    assert _texts(_write(tmp_path, "c2.json", other)) == [("a", "3")]
    assert _texts(_write(tmp_path, "c3.json", '{"данные":[{"prompt":"q","answer":"a"}]}')) == [("q", "1"), ("a", "1")]
    assert _texts(_write(tmp_path, "d.csv", 'text,n\n"a\nb",1\nc,2\n')) == [("a\nb", "2"), ("c", "4")]
    assert _texts(_write(tmp_path, "e.txt", "a\nb\n\n\n  c\n")) == [("a\nb", "1"), ("  c", "5")]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"instruction": ["Do"], "output": ["ok"]}), tmp_path / "t.parquet")
    assert [t for t, _ in _texts(tmp_path / "t.parquet")] == ["Do", "ok"]


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("t.jsonl", '{"a": 1}\n', ":1: no field that holds a question: a; name the fields messages"),
    ("t.jsonl", '{"text": "x"}\n{"text":\n', ":2: not JSON"),
    ("t.jsonl", "[1]\n", ":1: is not an object"),
    ("t.jsonl", '{"prompt": 3}\n', ":1: prompt: 3 is not a text; write a text"),
    ("t.jsonl", '{"messages": "hi"}\n', ":1: messages: not JSON"),
    ("t.jsonl", '{"messages": {"role": "user"}}\n', ":1: messages: {'role': 'user'} is not a list of turns"),
    ("t.jsonl", '{"messages": [{"role": "user"}]}\n', ":1: messages[0]: has no text under content or value"),
    ("t.jsonl", b'{"text": "\xff"}\n', ":1: byte 0xff is not UTF-8"),
    ("t.jsonl", "", "holds no text"),
    ("t.json", '[\n{"text": "a"},\n{"text" "b"}]', ":3: not JSON"),
    ("t.json", '{"a": [1], "b": [2]}', "is not an array of examples"),
    ("t.csv", "a,b\n1,2\n", ":1: no column that holds a question: a, b"),
    ("t.csv", "text,b\n1\n", ":2: the row has 1 cells, the header 2"),
    ("t.csv", 'text\n"x\n', ":2: not CSV"),
    ("t.jsonl.gz", b"plain", "cannot be read"),
    ("t.parquet", b"plain", "not a readable Parquet file"),
    ("t.xyz", "x", "the ending '.xyz' is none that is known"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN, ids=[f"{n} {m[:30]}" for n, _, m in BROKEN])
def test_mistakes_are_one_line_with_a_cure(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    file = _write(tmp_path, name, content)
    with pytest.raises(ForgetbenchError) as failed:
        read_training([file])
    assert str(failed.value).startswith(str(file))
    assert message in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "; " in str(failed.value)


def test_all_mistakes_of_all_files_at_once(tmp_path: Path) -> None:
    first = _write(tmp_path, "a.jsonl", 'x\n{"text": "ok"}\n{"prompt": 1}\n')
    second = _write(tmp_path, "b.csv", "q\n")
    with pytest.raises(ForgetbenchError) as failed:
        read_training([first, second, tmp_path / "c.txt"])
    places = [line.split(": ")[0].rsplit("/", 1)[-1] for line in str(failed.value).splitlines()]
    assert places == ["a.jsonl:1", "a.jsonl:3", "b.csv:1", "c.txt"]


def test_a_thousand_mistakes_are_cut(tmp_path: Path) -> None:
    with pytest.raises(ForgetbenchError) as failed:
        read_training([_write(tmp_path, "a.jsonl", "x\n" * 1000)])
    assert len(str(failed.value).splitlines()) <= 22


@pytest.mark.realdata
def test_published_instruction_sets_are_read(data_dir: Path) -> None:
    folder = data_dir / "instructions_small"
    wanted = {
        "rasbt_instruction-data.json": 1100,
        "llamafactory_alpaca_zh_demo.json.gz": 1000,
        "self_instruct_seed_tasks.jsonl.gz": 175,
    }
    for name, n in wanted.items():
        assert len({t.where for t in read_training([folder / name])}) == n
