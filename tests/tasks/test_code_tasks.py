"""The code benchmarks as tasks: their files, damaged ones too, the hub's layout, shots and identity."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.tasks.base import check_ready, in_style, warnings_of
from forgetbench.tasks.code_mbpp import BASE, fenced
from forgetbench.tasks.deployment import BUDGET, deploy
from forgetbench.tasks.registry import CODE_TASKS, get_task
from forgetbench.tasks.source import HUB_REVISIONS, DataSource

pytestmark = pytest.mark.unit

HUMANEVAL = [
    {
        "task_id": f"HumanEval/{n}",
        "prompt": f'def add{n}(x):\n    """Add {n}."""\n',
        "canonical_solution": f"    return x + {n}\n",
        "entry_point": f"add{n}",
        "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
    }
    for n in range(3)
]


def mbpp(n: int) -> dict[str, Any]:
    return {
        "task_id": n,
        "text": f"Write a function that adds {n}.",
        "code": f"def add{n}(x):\n    return x + {n}",
        "test_list": [f"assert add{n}({k}) == {k + n}" for k in range(3)],
        "test_setup_code": "",
    }


MBPP = [mbpp(n) for n in (1, 2, 3, 4, 11, 12, 510, 511)]
PLUS = [
    {
        "task_id": n,
        "prompt": f"Write a function that adds {n}.",
        "code": f"def add{n}(x):\n    return x + {n}",
        "test_imports": ["import math"],
        "test_list": [f"assert add{n}({k}) == {k + n}" for k in range(4)],
        "test": f"assert math.isclose(add{n}(100), {n + 100})",
    }
    for n in (5, 700)
]


def write(folder: Path, **override: Any) -> DataSource:
    files = {
        "humaneval/HumanEval.jsonl": HUMANEVAL,
        "humaneval_plus/HumanEvalPlus-OriginFmt.jsonl": HUMANEVAL,
        "mbpp/mbpp.jsonl": MBPP,
        "mbpp_plus/MbppPlus-OriginFmt.jsonl.gz": PLUS,
    }
    for name, rows in (files | override).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        blob = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(blob) if name.endswith(".gz") else blob)
    return DataSource(data_dir=folder)


def test_items(tmp_path: Path) -> None:
    source = write(tmp_path)
    made = {n: get_task(n, source=source) for n in CODE_TASKS}
    assert {n: len(t.load()) for n, t in made.items()} == {
        "humaneval": 3,
        "humaneval_plus": 3,
        "mbpp": 3,  # problems 11 to 510
        "mbpp_plus": 2,
    }
    assert {i.task_type for t in made.values() for i in t.load()} == {"code/python"}
    assert made["humaneval"].load()[1].gold == HUMANEVAL[1]["prompt"] + HUMANEVAL[1]["canonical_solution"]
    # The tests are no part of what is asked, so an item is the same with other tests; its gold is not.
    other = write(tmp_path, **{"humaneval/HumanEval.jsonl": [{**d, "test": d["test"] + "\n"} for d in HUMANEVAL]})
    for a, b in zip(made["humaneval"].load(), get_task("humaneval", source=other).load(), strict=True):
        assert a.key == b.key
        assert a.gold_hash != b.gold_hash


def test_the_hub_has_the_same(tmp_path: Path) -> None:
    local = write(tmp_path)
    cache = tmp_path / "cache"
    for dataset, file, rows in (
        ("openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet", HUMANEVAL),
        ("evalplus/humanevalplus", "data/test-00000-of-00001-5973903632b82d40.parquet", HUMANEVAL),
        ("google-research-datasets/mbpp", "full/test-00000-of-00001.parquet", MBPP[4:7]),
        ("google-research-datasets/mbpp", "full/prompt-00000-of-00001.parquet", MBPP[:4]),
        ("evalplus/mbppplus", "data/test-00000-of-00001-d5781c9c51e02795.parquet", PLUS),
    ):
        folder = cache / f"datasets--{dataset.replace('/', '--')}" / "snapshots" / HUB_REVISIONS[dataset]
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / file)
    hub = DataSource(offline=True, cache_dir=cache)
    for name in CODE_TASKS:
        here, there = get_task(name, source=local), get_task(name, source=hub)
        assert [i.key for i in here.load()] == [i.key for i in there.load()]
        shots = 3 if name.startswith("mbpp") else 0
        assert here.prompt(here.load()[0], shots) == there.prompt(there.load()[0], shots)


def test_shots(tmp_path: Path) -> None:
    source = write(tmp_path)
    task = get_task("mbpp_plus", source=source)
    spec = task.prompt(task.load()[0], 2)
    assert [s.answer for s in spec.shots] == [f"{mbpp(n)['code']}\n[DONE]" for n in (2, 3)]
    chat = in_style(get_task("mbpp", source=source), "chat")
    assert chat.prompt(chat.load()[0], 1).shots[0].answer == f"\n```python\n{mbpp(2)['code']}\n```"
    with pytest.raises(UsageError, match="4 shots asked for, there are 3"):
        task.prompt(task.load()[0], 4)
    with pytest.raises(UsageError, match="no shots in chat"):
        in_style(task, "chat").prompt(task.load()[0], 1)
    with pytest.raises(UsageError, match="1 shots asked for, it has none"):
        get_task("humaneval", source=source).prompt(HUMANEVAL[0], 1)  # type: ignore[arg-type]
    lost = write(tmp_path, **{"mbpp/mbpp.jsonl": MBPP[3:]})
    with pytest.raises(UsageError, match="mbpp has no problem 2"):
        get_task("mbpp", source=lost).prompt(get_task("mbpp", source=lost).load()[0], 1)


@pytest.mark.parametrize(
    ("task", "file", "row", "found"),
    [
        ("humaneval", "humaneval/HumanEval.jsonl", {**HUMANEVAL[0], "test": 5}, "no text in field 'test'"),
        ("humaneval", "humaneval/HumanEval.jsonl", {**HUMANEVAL[0], "prompt": "def ("}, "not Python"),
        ("mbpp", "mbpp/mbpp.jsonl", {**mbpp(11), "test_list": ["assert 1"]}, "field 'test_list'"),
        ("mbpp", "mbpp/mbpp.jsonl", {**mbpp(11), "task_id": "11"}, "field 'task_id'"),
        ("mbpp_plus", "mbpp_plus/MbppPlus-OriginFmt.jsonl.gz", {**PLUS[0], "test_imports": None}, "'test_imports'"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, task: str, file: str, row: dict[str, Any], found: str) -> None:
    source = write(tmp_path, **{file: [row, {**row, "x": 1}]})
    with pytest.raises(ManyUsageErrors) as caught:
        get_task(task, source=source).load()
    assert [e.where.rsplit(":", 1)[-1] for e in caught.value.errors] == ["1", "2"]
    assert all(found in e.problem for e in caught.value.errors)
    (tmp_path / file).unlink()
    with pytest.raises(UsageError, match="there is no "):
        get_task(task, source=source).load()


def test_the_unsafe_task_is_another_one(tmp_path: Path) -> None:
    source = write(tmp_path)
    safe, unsafe = get_task("humaneval", source=source), get_task("humaneval", source=source, unsafe_exec=True)
    assert unsafe.version == f"{safe.version}+unsafe"
    assert in_style(unsafe, "chat").version == unsafe.version
    assert warnings_of([safe]) == ()
    assert warnings_of([unsafe]) == ("humaneval: programs ran without a sandbox (--unsafe-exec)",)
    assert warnings_of([deploy(unsafe)]) == warnings_of([unsafe])


def test_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from forgetbench.tasks import code

    def nowhere(unsafe: bool) -> None:
        raise UsageError("code tasks", "there is no sandbox", "install one")

    monkeypatch.setattr(code, "get_sandbox", nowhere)
    source = write(tmp_path)
    for task in (get_task("mbpp", source=source), deploy(get_task("mbpp", source=source))):
        with pytest.raises(UsageError, match="there is no sandbox"):
            check_ready([task])
    check_ready([get_task("gsm8k", source=source)])


def test_the_deployment_preset_keeps_the_style(tmp_path: Path) -> None:
    task = deploy(get_task("humaneval", source=write(tmp_path)))
    chat, raw = in_style(task, "chat"), in_style(task, "raw")
    item = task.load()[0]
    assert chat.prompt(item, 0).prefill.endswith(f"```python\n{HUMANEVAL[0]['prompt']}\n")
    assert raw.prompt(item, 0).prefill == ""
    assert chat.prompt(item, 0).max_tokens == BUDGET
    assert chat.version == raw.version == task.version


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("\nx = 1\n```\nfine", "x = 1"),
        ("x = 1\n```", "x = 1"),
        ("x = 1\ny = 2\n\n```", "x = 1\ny = 2\n"),
        ("python\nx = 1\n```", "x = 1"),
        ("x = 1", None),
        ("", None),
        ("```", ""),
    ],
)
def test_fenced(text: str, code: str | None) -> None:
    assert fenced(text) == code


def test_metrics(tmp_path: Path) -> None:
    assert get_task("mbpp_plus", source=write(tmp_path)).metrics == ("pass@1", BASE)
    assert get_task("humaneval", source=write(tmp_path)).metrics == ("pass@1", "pass@1,robust")
