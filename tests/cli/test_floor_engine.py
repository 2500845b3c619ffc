"""The noise floor of a real model: asked twice, through batches of two shapes, with the answers really computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.workspace import CONFIG, SUITE, write
from tests.engines import tiny

Run = Callable[..., int]
pytestmark = pytest.mark.unit


def test_a_tiny_model_against_itself(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path / "tiny", "llama")
    model = {"path": "tiny", "engine": "transformers", "dtype": "float32", "engine_args": {"batch_rows": 32}}
    suite = {**SUITE, "tasks": [{**SUITE["tasks"][0], "limit": 60}]}
    write(tmp_path, forgetbench__yaml={**CONFIG, "models": {"base": model}}, suite__yaml=suite)
    monkeypatch.chdir(tmp_path)
    from forgetbench.engines.transformers_engine import TransformersEngine

    rows: list[object] = []
    made = TransformersEngine.__init__

    def watched(self: TransformersEngine, checkpoint: object, **arguments: object) -> None:
        rows.append(arguments.get("batch_rows"))
        made(self, checkpoint, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TransformersEngine, "__init__", watched)
    assert run("floor", "base", "--json") == 0
    told = capsys.readouterr()
    (row,) = json.loads(told.out)["floors"]
    assert told.err.count("of 60 requests") >= 2
    assert told.err.count("prompt tokens computed") == 2  # the second time nothing came out of the cache
    assert set(rows) == {32, 16}
    assert row["n"] == 60
    assert row["logprob"] is not None
    assert row["logprob"] < 1e-3
    runs = list((tmp_path / ".forgetbench" / "runs").iterdir())
    assert len(runs) == 1  # one run: the shape of a batch is no part of its identity
