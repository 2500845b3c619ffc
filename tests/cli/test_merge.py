"""`forgetbench merge`: on small folders, and on the demo's checkpoints up to the answers of the merged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints.resolve import resolve
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.cli.merge import merge
from forgetbench.engines.registry import make_engine
from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.types import Generate, Message, Prompt, Request
from forgetbench.workspace import open_workspace
from tests.merging import models

from . import workspace


def small(tmp_path: Path) -> Any:
    models.trio(tmp_path)
    config = {"models": {n: {"path": n} for n in ("base", "one", "two")}}
    return open_workspace(workspace.write(tmp_path, forgetbench__yaml=config), models=["base", "one"])


@pytest.mark.unit
def test_a_sweep_gives_a_folder_for_each_alpha(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws = small(tmp_path)
    out = tmp_path / "wise"
    merge(ws, method="wise-ft", alphas="0,.25,.5,.75,1", out=out, as_json=True)
    told = json.loads(capsys.readouterr().out)["merged"]
    names = ["alpha-0", "alpha-0.25", "alpha-0.5", "alpha-0.75", "alpha-1"]
    assert [Path(t["path"]).name for t in told] == names
    assert [t["alpha"] for t in told] == [0, 0.25, 0.5, 0.75, 1]
    assert models.bits(out / "alpha-0") == models.bits(tmp_path / "base")
    assert models.bits(out / "alpha-1") == models.bits(tmp_path / "one")
    with pytest.raises(ManyUsageErrors, match=r"alpha-0.5: is there already"):
        merge(ws, method="wise-ft", alphas=".5,1", out=out)


@pytest.mark.unit
def test_one_result_takes_the_name_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws = small(tmp_path)
    merge(ws, method="slerp", alphas=".3", out=tmp_path / "mid", like="base")
    out = capsys.readouterr().out
    assert f"wrote {tmp_path / 'mid'}: 11 tensors" in out
    assert f"forgetbench compare base {tmp_path / 'mid'}" in out
    assert json.loads((tmp_path / "mid" / "merge.json").read_text())["like"] == "base"
    merge(ws, method="slerp", alphas=".3", out=tmp_path / "my merge")
    assert f"forgetbench compare base '{tmp_path / 'my merge'}'" in capsys.readouterr().out  # as a shell reads it


@pytest.mark.unit
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "wise-ft", "alphas": "0,2"}, r"--alphas: 2 is not in \[0, 1\]"),
        ({"method": "linear", "like": "three"}, "--like: 'three' is none of the models merged; use one of base, one"),
        ({"method": "cat", "adapters": True}, "model 'base': has no adapter"),
        ({"method": "cat", "adapters": True, "dtype": "float32"}, "--dtype: has no part in --adapters"),
        ({"method": "cat"}, "'cat' is no way to merge full weights"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        merge(small(tmp_path), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.unit
def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    ws = open_workspace(workspace.write(tmp_path), models=["base", "sft"])
    with pytest.raises(UsageError, match=r"model 'base': has no weights to read"):
        merge(ws, method="linear", out=tmp_path / "out")


def answers(folder: Path, prompts: list[str]) -> list[str]:
    """What the transformers engine says to them, as chat."""
    point = resolve(ModelSpec(alias="merged", path=str(folder)))
    requests = [
        Request(
            str(i),
            point.digest,
            Prompt(text=point.render_chat([Message("user", p)]), add_special_tokens=False),
            Generate(max_tokens=12),
        )
        for i, p in enumerate(prompts)
    ]
    engine = make_engine(point)
    try:
        found = {r.request_id: r.generations[0].text for r in engine.run(requests)}
    finally:
        engine.close()
    return [found[r.request_id].strip() for r in requests]


def asked(demo: Path, name: str, count: int = 24) -> tuple[list[str], list[str]]:
    items = [json.loads(line) for line in (demo / "sets" / f"{name}.jsonl").read_text().splitlines()]
    step = max(1, len(items) // count)
    return [i["prompt"] for i in items[::step][:count]], [i["references"][0] for i in items[::step][:count]]


def right(folder: Path, prompts: list[str], references: list[str]) -> int:
    return sum(a == r for a, r in zip(answers(folder, prompts), references, strict=True))


@pytest.mark.slow
def test_the_demos_merges_load_and_answer(demo_world: Path, tmp_path: Path) -> None:
    ws = open_workspace(demo_world / "forgetbench.yaml", models=["sft_v1", "sft_v2"])
    merge(ws, method="wise-ft", alphas="0,.5,1", out=tmp_path / "wise")
    tickets, knowledge = asked(demo_world, "support"), asked(demo_world, "knowledge")
    for alpha, name in (("0", "sft_v1"), ("1", "sft_v2")):
        given, made = demo_world / "models" / name, tmp_path / "wise" / f"alpha-{alpha}"
        assert models.bits(made) == models.bits(given)
        assert answers(made, tickets[0]) == answers(given, tickets[0])
    for method, names in (("ties", ["base", "sft_v1", "sft_v2"]), ("dare", ["base", "sft_v1", "sft_v2"])):
        ws = open_workspace(demo_world / "forgetbench.yaml", models=names)
        merge(ws, method=method, out=tmp_path / method, density=0.5)
        assert resolve(ModelSpec("m", str(tmp_path / method))).has_chat_template
        said = answers(tmp_path / method, tickets[0])
        assert sum(map(bool, said)) > len(said) / 2  # a merge may end some at once
    # The careless fine-tune lost facts; halfway back to sft_v1 some are there again.
    assert right(tmp_path / "wise" / "alpha-0.5", *knowledge) > right(demo_world / "models" / "sft_v2", *knowledge)
