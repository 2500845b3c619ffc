"""Each comparison says what its base is to the candidate, once however many roles it has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from forgetbench import flow
from forgetbench.cli import compare as command
from tests.cli import workspace

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("locked", "wanted"),
    [
        (None, [[("base",)], [("base",), ("previous",)]]),
        ("base", [[("base", "locked")], [("base", "locked"), ("previous",)]]),
        ("sft", [[("base",)], [("base",), ("locked", "previous")]]),
    ],
)
def test_roles(
    run: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    locked: str | None,
    wanted: list[list[tuple[str, ...]]],
) -> None:
    config = copy.deepcopy(workspace.CONFIG) | ({"locked": locked} if locked else {})
    config["models"]["later"] = {"path": "sft.json", "engine": "scripted", "engine_args": {"script": "sft.json"}}
    file = workspace.write(tmp_path, forgetbench__yaml=config)
    seen: list[flow.Judgement] = []
    monkeypatch.setattr(command, "_show", lambda judged, *_: seen.extend(judged))
    assert run("compare", "base", "sft", "later", "--config", str(file)) == 0
    assert [[c.against for c in j.comparisons] for j in seen] == wanted
