"""The evaluation sets as files: valid lines, enough of them, dev apart from test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.demo.sets import REQUIRED, SETS, write_sets
from forgetbench.demo.world import make_world

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets")
    write_sets(out, make_world(), "test")
    write_sets(out / "dev", make_world(), "dev")
    return out


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_at_most_six_required_types_with_400_items_each(folder: Path) -> None:
    assert len(REQUIRED) <= 6
    for name in SETS:
        lines = _lines(folder / f"{name}.jsonl")
        assert len(lines) >= 400
        assert len({line["id"] for line in lines}) == len({line["prompt"] for line in lines}) == len(lines)
        assert {line["task_type"].split("/")[0] for line in lines} == {name}


def test_lines_are_valid_custom_set_lines(folder: Path) -> None:
    from forgetbench.tasks.custom_lines import Line

    for path in folder.rglob("*.jsonl"):
        for line in _lines(path):
            Line.model_validate(line)


def test_shots_lie_beside_each_set_and_are_never_asked(folder: Path) -> None:
    for name in SETS:
        asked = {line["prompt"] for part in ("", "dev/") for line in _lines(folder / f"{part}{name}.jsonl")}
        for part in ("", "dev/"):
            shots = _lines(folder / f"{part}{name}.shots.jsonl")
            assert not asked & {line["prompt"] for line in shots}
            for task_type in {line["task_type"] for line in _lines(folder / f"{part}{name}.jsonl")}:
                assert sum(line["task_type"] == task_type for line in shots) >= 3


def test_dev_and_test_share_no_item(folder: Path) -> None:
    for name in SETS:
        test, dev = ({x["prompt"] for x in _lines(folder / f"{p}{name}.jsonl")} for p in ("", "dev/"))
        assert not test & dev


def test_facts_are_asked_of_200_countries_and_share_clusters(folder: Path) -> None:
    lines = _lines(folder / "knowledge.jsonl")
    clusters = {line["cluster"] for line in lines}
    assert len(clusters) >= 300
    dev = {line["cluster"] for line in _lines(folder / "dev" / "knowledge.jsonl")}
    assert not clusters & dev


def test_sets_are_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    write_sets(tmp_path, make_world(), "test")
    for path in tmp_path.glob("*.jsonl"):
        assert path.read_bytes() == (folder / path.name).read_bytes()
