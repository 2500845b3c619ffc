"""Broken custom sets: every mistake in one line, all at once, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forgetbench import resources
from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.tasks.custom import SetSpec, load_set
from forgetbench.tasks.custom_lines import Line, json_schema
from forgetbench.tasks.custom_read import MAX_LINE

pytestmark = pytest.mark.unit

GOOD = {"task_type": "a/b", "prompt": "Q?", "references": ["x"]}
CHOICE = {"task_type": "a/b", "prompt": "Q?", "scorer": "choice", "choices": ["x", "y"], "answer": "x"}


def errors_of(path: Path, **changes: Any) -> list[str]:
    try:
        load_set(SetSpec(name="s", path=path, **changes)).load()
    except (UsageError, ManyUsageErrors) as e:
        caught = e
    else:
        return []
    lines = [str(e) for e in caught.errors] if isinstance(caught, ManyUsageErrors) else [str(caught)]
    assert str(caught).split("\n") == lines
    for line in lines:
        assert "\n" not in line
        assert len(line) < 500
        assert line.startswith(str(path))
        assert "; " in line  # problem; cure
    return lines


def but(base: dict[str, Any] = GOOD, **changes: Any) -> str:
    line = {**base, **changes}
    return json.dumps({k: v for k, v in line.items() if v is not ...})


LINES = [
    ("not json", "nonsense", "not JSON (Expecting value at character 1)"),
    ("cut off", '{"task_type": "a/b"', "not JSON"),
    ("list", "[1, 2]", "the line is a list, not an object"),
    ("number", "5", "the line is a number, not an object"),
    ("null", "null", "the line is null, not an object"),
    ("no task_type", but(task_type=...), "task_type: missing"),
    ("one level", but(task_type="math"), 'task_type: "math" is not a two-level path'),
    ("three levels", but(task_type="a/b/c"), "task_type"),
    ("blank level", but(task_type="a/ "), "task_type"),
    ("number as type", but(task_type=5), "task_type: 5 is not"),
    ("no prompt", but(prompt=...), "prompt: the line has neither prompt nor messages"),
    ("both", but(messages=[{"role": "user", "content": "x"}]), "both prompt and messages"),
    ("blank prompt", but(prompt="  \n"), "prompt"),
    ("number prompt", but(prompt=5), "prompt: 5 is not a text"),
    ("messages text", but(prompt=..., messages="hi"), "messages"),
    ("no messages", but(prompt=..., messages=[]), "messages"),
    ("bad role", but(prompt=..., messages=[{"role": "bot", "content": "x"}]), "messages"),
    ("no content", but(prompt=..., messages=[{"role": "user"}]), "messages"),
    (
        "extra in message",
        but(prompt=..., messages=[{"role": "user", "content": "x", "name": "y"}]),
        "messages",
    ),
    ("ends assistant", but(prompt=..., messages=[{"role": "assistant", "content": "x"}]), "not the user's"),
    ("no references", but(references=...), "references: missing, and the scorer is exact"),
    ("null references", but(references=None), "references: missing"),
    ("empty references", but(references=[]), "references"),
    ("blank reference", but(references=[""]), "references"),
    ("numbers as references", but(references=[5]), "numbers in quotes too"),
    ("bad scorer", but(scorer="fuzzy"), 'scorer: "fuzzy" is not a scorer'),
    ("bad pattern", but(scorer="regex", references=["("]), "'(' is not a pattern"),
    ("not a number", but(scorer="numeric", references=["five"]), "references: 'five' is not a number"),
    ("negative tolerance", but(scorer="numeric", references=["5"], tolerance=-1), "tolerance"),
    ("tolerance elsewhere", but(tolerance=0.1), "tolerance: it is for numeric"),
    ("no choices", but(CHOICE, choices=...), "choices: missing, and the scorer is choice"),
    ("one choice", but(CHOICE, choices=["x"]), "choices"),
    ("27 choices", but(CHOICE, choices=[str(n) for n in range(27)], answer=0), "choices"),
    ("equal choices", but(CHOICE, choices=["x", "x"]), "two options are equal"),
    ("no answer", but(CHOICE, answer=...), "answer: missing"),
    ("index too large", but(CHOICE, answer=2), "'2' is none of the 2 options"),
    ("letter too large", but(CHOICE, answer="C"), "'C' is none of the 2 options"),
    ("negative index", but(CHOICE, answer=-1), "answer"),
    ("true as answer", but(CHOICE, answer=True), "answer"),
    ("references for choice", but(CHOICE, references=["x"]), "use choices and answer"),
    ("choices for exact", but(choices=["x", "y"]), "choices are given and the scorer is exact"),
    ("unknown field", but(referenes=["x"]), "referenes: there is no such field; did you mean 'references'?"),
    ("unknown field 2", but(zzz=1), "zzz: there is no such field; use task_type, prompt"),
    ("fraction as id", but(id=1.5), "id"),
    ("empty id", but(id=""), "id"),
    ("list as cluster", but(cluster=["x"]), "cluster"),
    (
        "key twice",
        '{"task_type": "a/b", "prompt": "x", "prompt": "y", "references": "z"}',
        "'prompt' occurs twice",
    ),
    (
        "NaN",
        '{"task_type": "a/b", "prompt": "x", "references": "z", "tolerance": NaN}',
        "NaN is not a JSON value",
    ),
    (
        "lone surrogate",
        '{"task_type": "a/b", "prompt": "\\ud800", "references": "z"}',
        "prompt: half of a surrogate",
    ),
    (
        "surrogate key",
        '{"task_type": "a/b", "\\ud800": "x", "prompt": "x", "references": "z"}',
        "half of a surrogate pair",
    ),
    ("deep", "[" * 100_000, "not JSON"),
    ("long number", '{"id": ' + "9" * 5000 + "}", "not JSON"),
    ("huge", json.dumps({**GOOD, "prompt": "x" * MAX_LINE}), "characters, over"),
]


@pytest.mark.parametrize(("line", "message"), [c[1:] for c in LINES], ids=[c[0] for c in LINES])
def test_a_bad_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    [error] = errors_of(path)
    assert error.startswith(f"{path}:2")
    assert message in error


def test_all_bad_lines_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(c[1] for c in LINES), encoding="utf-8")
    lines = errors_of(path)
    assert {int(e.removeprefix(f"{path}:").split(":")[0]) for e in lines} == set(range(1, len(LINES) + 1))


def test_several_mistakes_in_one_line_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(but(task_type="x", prompt=5, scorer="y", zzz=1) + "\n")
    assert [e.split(": ")[1] for e in errors_of(path)] == ["task_type", "prompt", "scorer", "zzz"]


FILES = [
    ("empty", b"", "the file is empty"),
    ("blank", b" \n\n ", "the file is empty"),
    ("BOM", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "UTF-8 byte order mark"),
    ("UTF-16", json.dumps(GOOD).encode("utf-16"), "UTF-16 byte order mark"),
    ("null byte", json.dumps(GOOD).encode() + b"\n\0", ":2: there is a null byte"),
    (
        "not UTF-8",
        json.dumps(GOOD).encode() + b'\n{"prompt": "\xff"}',
        ":2: byte 13 of the line, 0xff, is not UTF-8",
    ),
]


@pytest.mark.parametrize(("data", "message"), [c[1:] for c in FILES], ids=[c[0] for c in FILES])
def test_a_bad_file(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(data)
    [error] = errors_of(path)
    assert message in error


def test_broken_utf8_on_two_lines_hides_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\xff\n" + json.dumps(GOOD).encode() + b"\n\xfe\nnonsense\n")
    assert [e.split(": ")[0].rsplit(":", 1)[1] for e in errors_of(path)] == ["1", "3", "4"]


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "capitals.jsonl").write_text(json.dumps(GOOD))
    [error] = errors_of(tmp_path / "capital.jsonl")
    assert "there is no such file; did you mean 'capitals.jsonl'?" in error
    [error] = errors_of(tmp_path / "zzz.jsonl")
    assert "check the path" in error
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    [error] = errors_of(folder)
    assert "cannot be read (Is a directory)" in error
    text = tmp_path / "s.txt"
    text.write_text(json.dumps(GOOD))
    [error] = errors_of(text)
    assert "the ending '.txt' is not .jsonl or .csv" in error


def test_ids_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join([but(id="a"), but(id="b"), but(id="a"), but(id=1), but(id="1")]))
    assert errors_of(path) == [
        f"{path}:3: id: 'a' is also the id of line 1; make ids unique",
        f"{path}:5: id: '1' is also the id of line 4; make ids unique",
    ]


def test_mistakes_in_the_set_and_in_its_shots_come_together(tmp_path: Path) -> None:
    path, shots = tmp_path / "s.jsonl", tmp_path / "shots.jsonl"
    path.write_text("nope\n")
    shots.write_text("nope either\n")
    with pytest.raises(ManyUsageErrors) as caught:
        load_set(SetSpec("s", path, fewshot=shots)).load()
    assert [e.where for e in caught.value.errors] == [f"{path}:1", f"{shots}:1"]


CSVS = [
    ("no header", "a/b,Q?,x\n", ":1: the header has no column task_type"),
    ("only a header", "task_type,prompt,references\n", "the file holds no questions"),
    ("column twice", "task_type,prompt,prompt\na/b,x,y\n", "two columns are called 'prompt'"),
    ("short row", "task_type,prompt,references\na/b,x\n", ":2: the row has 2 cells, the header 3"),
    ("open quote", 'task_type,prompt,references\na/b,"x,y\n', ":2: not CSV"),
    ("unknown column", "task_type,prompt,references,note\na/b,Q?,x,hm\n", ":2: note: there is no such field"),
    ("bad list", 'task_type,prompt,choices\na/b,Q?,"[x, y]"\n', ":2: choices: not a JSON list"),
    ("bad tolerance", "task_type,prompt,references,scorer,tolerance\na/b,Q?,5,numeric,abc\n", "tolerance"),
    ("later row", 'task_type,prompt,references\na/b,"two\nlines",x\nmath,Q?,x\n', ":4: task_type"),
]


@pytest.mark.parametrize(("text", "message"), [c[1:] for c in CSVS], ids=[c[0] for c in CSVS])
def test_a_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    [error] = errors_of(path)
    assert message in error


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".jsonl", ".csv"]))
def test_any_bytes_end_in_items_or_in_usage_errors(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    path.write_bytes(data)
    errors_of(path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=st.sampled_from([GOOD, CHOICE]), field=st.sampled_from(list(Line.model_fields)), value=_JSON)
def test_any_value_in_any_field_and_the_schema_agrees(
    tmp_path: Path, base: dict[str, Any], field: str, value: Any
) -> None:
    """A line that our reader accepts is valid under the published schema."""
    document = {**base, field: value}
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")
    if not errors_of(path):
        jsonschema.validate(document, json_schema())


@pytest.mark.parametrize(("line", "message"), [c[1:] for c in LINES], ids=[c[0] for c in LINES])
def test_the_schema_refuses_what_one_line_alone_shows_to_be_wrong(line: str, message: str) -> None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return
    # These depend on the set's scorer, on Python's patterns and numbers, or on another field's value.
    beyond = (
        *("the scorer is exact", "references: missing", "is not a pattern", "is not a number"),
        *("it is for numeric", "options are equal", "is none of the", "use choices and answer"),
        *("not the user's", "NaN", "prompt: half", "occurs twice", "characters, over"),
    )
    valid = jsonschema.Draft202012Validator(json_schema()).is_valid(document)
    assert valid is any(b in message for b in beyond)


def test_the_published_schema_is_up_to_date() -> None:
    """Regenerate with: python -m forgetbench.tasks.custom_lines > suites/custom_set.schema.json"""
    published = json.loads((resources.path("suites") / "custom_set.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema()
    jsonschema.Draft202012Validator.check_schema(published)
