"""Which checkpoints one engine serves, and what engines of one command share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.engines.pool import EnginePool, together

pytestmark = pytest.mark.unit
PARTS = {"weights": "w", "config": "c", "tokenizer": "t", "template": "m", "adapter": "none", "stop_ids": "s"}


def point(alias: str, engine: str = "vllm", dtype: str = "auto", **parts_or_args: Any) -> Checkpoint:
    parts = PARTS | {k: v for k, v in parts_or_args.items() if k in PARTS}
    arguments = {k: v for k, v in parts_or_args.items() if k not in PARTS}
    spec = ModelSpec(alias=alias, path="m", engine=engine, dtype=dtype, engine_args=arguments)
    return Checkpoint(alias, spec, Path("m"), alias, parts, True, (0,))


def grouped(*points: Checkpoint) -> list[list[str]]:
    return [[p.alias for p in group] for group in together(points)]


def test_a_base_and_its_adapters_are_one_group_in_the_order_given() -> None:
    assert grouped(
        point("full", weights="other"),
        point("a", adapter="1"),
        point("base"),
        point("other-full", weights="other2"),
        point("b", adapter="2", template="own"),
    ) == [["full"], ["a", "base", "b"], ["other-full"]]


@pytest.mark.parametrize(
    "changed", [{p: "x"} for p in ("weights", "config", "tokenizer", "stop_ids")] + [{"dtype": "float32"}, {"seed": 1}]
)
def test_anything_else_that_differs_makes_two_groups(changed: dict[str, Any]) -> None:
    assert grouped(point("base"), point("a", adapter="1", **changed)) == [["base"], ["a"]]


def test_engine_args_in_another_order_are_the_same() -> None:
    assert grouped(point("base", a=1, b=[2]), point("x", adapter="1", b=[2], a=1)) == [["base", "x"]]


@pytest.mark.parametrize("engine", ["transformers", "openai", "ray", "scripted"])
def test_other_engines_serve_one_checkpoint_each(engine: str) -> None:
    assert grouped(point("base", engine), point("a", engine, adapter="1"), point("v")) == [["base"], ["a"], ["v"]]


def test_one_host_for_all_vllm_engines_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[list[str], Any, dict[str, Any]]] = []

    class Host:
        closed = 0

        def close(self) -> None:
            Host.closed += 1

    class Vllm:
        def __init__(self, checkpoints: Any, *, host: Any = None, **more: Any) -> None:
            made.append(([c.alias for c in checkpoints], host, more))

    for name, attribute, value in (("vllm_engine", "VllmEngine", Vllm), ("vllm_host", "VllmHost", Host)):
        module = ModuleType(name)
        setattr(module, attribute, value)
        monkeypatch.setitem(sys.modules, f"forgetbench.engines.{name}", module)
    with EnginePool() as pool:
        for group in together([point("base", seed=3), point("a", adapter="1", seed=3), point("full", weights="x")]):
            pool.engine(group)
        assert [m[0] for m in made] == [["base", "a"], ["full"]]
        assert made[0][1] is made[1][1]
        assert [m[2] for m in made] == [{"seed": 3}, {}]
        assert Host.closed == 0
    assert Host.closed == 1


def test_a_pool_without_vllm_imports_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "forgetbench.engines.vllm_engine", None)  # an import of it would fail
    with EnginePool() as pool:
        engine = pool.engine([point("base", "transformers")])
        assert engine.identity["name"] == "transformers"
        with pytest.raises(ValueError, match="serves one checkpoint"):
            pool.engine([point("base", "transformers"), point("a", "transformers")])
