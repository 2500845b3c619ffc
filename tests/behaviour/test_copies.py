"""Ten questions copied ten times are ten clusters, whatever is measured of them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from forgetbench.analysis.measured import cluster_of
from forgetbench.analysis.outputs import Answered, labels
from forgetbench.behaviour.references import referred, scores_of
from forgetbench.behaviour.texts import answered
from forgetbench.belief.find import _clusters
from forgetbench.types import Generation, Item, ItemKey, Record, Response
from tests.behaviour.test_references import HUGE, custom, point, record, scored, side

pytestmark = pytest.mark.unit

N = 10


def copied(folder: Path, clusters: bool = False) -> Any:
    lines = [
        {"prompt": f"Capital of {i % N}?", "references": ["Lima", "Rome"]} | ({"cluster": f"f{i}"} if clusters else {})
        for i in range(10 * N)
    ]
    return custom(folder, lines)


def count(codes: Any) -> int:
    return int(np.unique(codes).size)


def texts(folder: Path, name: str) -> list[Answered]:
    task = copied(folder)

    def of(item: Item, number: int) -> Record:
        made = record(task, number, "ability", output="Lima")
        return replace(made, occurrence=item.key.occurrence, request_id=str(number), cluster=item.cluster, task=name)

    records = [of(item, number) for number, item in enumerate(task.load())]
    said = Response("r", (Generation("Lima", (1, 2), "stop"),))
    locations = {str(i): 0 for i in range(10 * N)}
    index = SimpleNamespace(locations=locations, reader=lambda: nullcontext(lambda _: said))
    identity = SimpleNamespace(task=name, view="ability", replicate=0, decode={"decode_id": "greedy"})
    run: Any = SimpleNamespace(
        entries=[SimpleNamespace(identity=identity, state="complete")],
        read_records=lambda *_: records,
        responses=lambda _: index,
    )
    (found,) = answered(run, run).values()
    return found


def test_texts(tmp_path: Path) -> None:
    found = texts(tmp_path, "towns")
    assert (len(found), count(labels(found))) == (10 * N, N)


@pytest.mark.parametrize(("name", "verbatim"), [("towns", False), ("humaneval", True), ("mbpp_plus", True)])
def test_programs_stand_as_they_are(tmp_path: Path, name: str, verbatim: bool) -> None:
    assert {o.verbatim for a in texts(tmp_path, name) for o in (*a.base, *a.candidate)} == {verbatim}


def test_references(tmp_path: Path) -> None:
    task = copied(tmp_path)
    sides = [side(point(d), task) for d in ("base", "sft")]
    first = referred(sides[0], sides[1], HUGE, [])
    keys = [(a, replace(a.item.key, occurrence=n)) for a in first for n in range(10)]
    asked = [replace(a, item=replace(a.item, key=key)) for a, key in keys]
    answers = scored({"base": [-1.0, -2.0], "sft": [-1.0, -3.0]})("", [q for a in asked for q in a.requests])
    ((_, _, scores),) = scores_of(asked, answers, [])
    assert (scores.labels.size, count(scores.labels)) == (10 * N, N)


@pytest.mark.parametrize(("clusters", "expected"), [(False, N), (True, 10 * N)])
def test_beliefs(tmp_path: Path, clusters: bool, expected: int) -> None:
    assert count(_clusters(cast("Any", copied(tmp_path, clusters).load()))) == expected


def test_a_cluster_is_no_content() -> None:
    one, two = ItemKey("a", "h", 0), ItemKey("a", "h", 1)
    assert cluster_of(one, None) == cluster_of(two, None) != cluster_of(one, "h")
    assert cluster_of(one, "fact") == cluster_of(ItemKey("b", "x"), "fact")
