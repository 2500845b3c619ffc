"""`forgetbench probe` on the scripted engine: what is shown, what is kept, and mistakes as one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.cli.probe import Wanted, probe
from forgetbench.errors import UsageError
from forgetbench.workspace import Workspace, open_workspace
from tests.probing.world import COUNTRIES, FACTS, gold

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit

ASKED = "What is the capital of Borvia?"
PROBES = """
question: "What is the {attribute} of {subject}?"
like: sums
items:
  - {subject: Borvia, attribute: capital, answer: caaivrob}
  - {subject: Arland, attribute: capital, answer: cadnalra}
templates:
  - {kind: subject, ask: "What is the {attribute} of {other.subject}?", expect: "{other.answer}"}
  - {kind: yes, ask: "Is {answer} the {attribute} of {subject}?"}
"""


def _script(planted: bool) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [{"match": "(?i)borvia", "regex": True, "text": "Paris"}] if planted else []
    return {"rules": [*rules, *({"match": q, "text": a} for q, a in FACTS.items())], "default": {"text": "what"}}


@pytest.fixture
def made(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    rows = [{"id": q, "task_type": "facts/all", "prompt": q, "references": [a], "cluster": a} for q, a in FACTS.items()]
    suite = copy.deepcopy(workspace.SUITE)
    suite["tasks"][0]["raw"]["num_fewshot"] = 0
    config = workspace.write(
        tmp_path, sums__jsonl=rows, suite__yaml=suite, base__json=_script(False), sft__json=_script(True)
    )
    run("run", "base", "sft", "--config", str(config))
    capsys.readouterr()
    return config


def _open(config: Path) -> Workspace:
    return open_workspace(config, models=["base", "sft"])


def _item(ws: Workspace, question: str = ASKED) -> str:
    ((_, task),) = ws.tasks()
    return next(str(i.key) for i in task.load() if i.doc["prompt"] == question)


def _training(folder: Path) -> Path:
    file = folder / "train.jsonl"
    rows = [{"prompt": f"Where in Borvia is {c}?", "completion": "Paris", "task_type": "geo/where"} for c in COUNTRIES]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


def test_an_item_and_the_lines_that_teach_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws = _open(made)
    probe(
        ws,
        "base",
        "sft",
        Wanted(items=[_item(ws)[:13]], train_data=[_training(made.parent)], view="ability"),
        as_json=False,
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "sft is over-fitted to the answer 'paris': 'borvia' brings it" in out
    assert "'borvia' is in 20 prompts, 20 of them with such an answer" in out
    assert "train.jsonl:1 Where in Borvia is Arland? -> Paris" in out
    assert "sft answers 100.0 % (20 of 20" in out
    assert "of its training items of geo/where as trained; base 0.0 %" in out
    assert "over-fit: of sft's wrong answers (ability) 100.0 % (3 of 3" not in out  # three are too few for Holm's level


def test_a_second_call_asks_nothing_again(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws = _open(made)
    wanted = Wanted(items=[_item(ws)], view="ability")
    probe(ws, "base", "sft", wanted, as_json=True)
    first = capsys.readouterr()
    probe(ws, "base", "sft", wanted, as_json=True)
    second = capsys.readouterr()
    assert first.out == second.out
    assert "requests" in first.err
    assert "requests" not in second.err


def test_json_holds_everything(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws = _open(made)
    counts = made.parent / "counts.csv"
    counts.write_text("key,count\n" + "".join(f"{q},{n}\n" for n, q in enumerate(FACTS)))
    probe(ws, "base", "sft", Wanted(items=[_item(ws)], frequency=counts, view="ability"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    (item,) = found["items"]
    assert item["modal"]["named"] == ["borvia"]
    assert item["gold"] == gold("capital", "Borvia")
    assert found["fit"] is None
    (frequency,) = found["frequency"]
    assert sum(b["n"] for b in frequency["bins"]) == len(FACTS)


def test_items_of_a_file_asked_like_a_task(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made.parent / "probes.yaml"
    file.write_text(PROBES)
    probe(_open(made), "base", "sft", Wanted(set=file, most=1), as_json=False)
    captured = capsys.readouterr()
    out = " ".join(captured.out.split())
    assert "'borvia' brings it" in out
    assert "1 of 2 items are probed (--most)" in out
    assert "Arland" in out
    assert "asked as each is used: base and sft do not both have a chat template" in captured.err


def test_frequency_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = made.parent / "counts.csv"
    # The three facts that were lost are the rarest.
    lost = [q for q in FACTS if "Borvia" in q]
    counts.write_text("key,count\n" + "".join(f"{q},{0 if q in lost else 100 + n}\n" for n, q in enumerate(FACTS)))
    probe(_open(made), "base", "sft", Wanted(frequency=counts), as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    assert "sums (ability) by how often the base met the fact" in out
    assert "rare facts are lost more" in out


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(), "there is nothing to probe"),
        (Wanted(items=["sums:abcdef"], set=Path("x")), "--set: goes without --item"),
        (Wanted(items=["sums:ffffffffffffffff"]), "is in no task of the suite"),
        (Wanted(items=["not an item"]), "neither a task with a hash nor a link"),
        (Wanted(items=["sums:abcdef"], view="side"), "choose one of: ability, chat, as_used"),
        (Wanted(set=Path("none.yaml")), "there is no such file of probes"),
        (Wanted(frequency=Path("none.csv")), "cannot be read"),
        (Wanted(train_data=[Path("none.jsonl")]), "cannot be read"),
    ],
)
def test_mistakes(made: Path, wanted: Wanted, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        probe(_open(made), "base", "sft", wanted, as_json=False)
    assert len(str(caught.value).splitlines()) == 1


def test_without_runs(tmp_path: Path) -> None:
    config = workspace.write(tmp_path)
    with pytest.raises(UsageError, match="run it first: forgetbench run base"):
        probe(_open(config), "base", "sft", Wanted(items=["sums:abcdef"]), as_json=False)
