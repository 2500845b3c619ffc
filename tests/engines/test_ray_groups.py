"""What the Ray engine decides without Ray: arguments, groups, who gets which, how many actors fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.config import Config
from forgetbench.engines.ray_cluster import capacity, describe, reason
from forgetbench.engines.ray_engine import RayEngine
from forgetbench.engines.ray_groups import Group, Shelf, cut_groups, group_size
from forgetbench.engines.registry import make_engine
from forgetbench.errors import UsageError
from forgetbench.types import Generate, Prompt, Request
from tests.engines import tiny
from tests.engines.conftest import generate, read, score

pytestmark = pytest.mark.unit


def flat(groups: list[Group]) -> list[str]:
    return [r.request_id for g in groups for r in g.requests]


def test_groups_are_cut_where_neighbours_share_least() -> None:
    subjects = [("algebra", 7), ("botany", 6), ("chess", 9)]
    asked = [score(f"{s}{i}", s * 40 + f" question {i}", " A") for s, n in subjects for i in range(n)]
    groups = cut_groups(asked, 10, 1 << 20)
    assert flat(groups) == [r.request_id for r in asked]
    assert [len(g.requests) for g in groups] == [7, 6, 9]
    # The tail of the plan is never cut, a subject too long for one group is.
    assert [len(g.requests) for g in cut_groups(asked[13:], 5, 1 << 20)] == [5, 4]


def test_groups_keep_their_limits() -> None:
    asked = [score(f"r{i}", "x" * 100, " yes", " no") for i in range(50)]
    assert max(len(g.requests) for g in cut_groups(asked, 8, 1 << 20)) <= 8
    small = cut_groups(asked, 50, 1000)
    assert flat(small) == [r.request_id for r in asked]
    assert max(len(g.requests) for g in small) == 9  # 107 characters each
    # One request over the limit is still asked, alone.
    assert [len(g.requests) for g in cut_groups([score("a", "x" * 5000, "y"), *asked[:2]], 50, 1000)] == [1, 2]
    tokens = [Request(f"t{i}", "x", Prompt(token_ids=tuple(range(250))), Generate(4)) for i in range(3)]
    assert [len(g.requests) for g in cut_groups(tokens, 50, 1000)] == [1, 1, 1]
    assert cut_groups([], 8, 1000) == []


def test_scores_and_generations_part_before_texts_do() -> None:
    asked = [score(f"s{i}", "the same beginning", " A") for i in range(6)]
    asked += [generate(f"g{i}", "the same beginning") for i in range(6)]
    asked += [read(f"r{i}", "the same beginning", (1, 2)) for i in range(6)]
    assert [len(g.requests) for g in cut_groups(asked, 8, 1 << 20)] == [6, 6, 6]
    long = [read(f"l{i}", (), tuple(range(200))) for i in range(4)]
    assert [len(g.requests) for g in cut_groups(long, 8, 1601)] == [2, 2]


def test_group_size_fills_batches_and_leaves_something_to_share_out() -> None:
    assert [group_size(n, 4) for n in (10, 2048, 8000, 100_000)] == [64, 64, 250, 512]


def test_neighbours_stay_with_one_actor_until_another_has_nothing() -> None:
    groups = [Group(0, (score(str(i), "x", " y"),)) for i in range(8)]
    shelf = Shelf(groups, 2)

    def take(row: int) -> str | None:
        group = shelf.take(row)
        return None if group is None else group.requests[0].request_id

    assert [take(0), take(1), take(0), take(0), take(0)] == ["0", "4", "1", "2", "3"]
    # Row 0 is through: it takes over the later half of what row 1 has left (5, 6, 7).
    assert [take(0), take(1), take(0), take(1)] == ["6", "5", "7", None]
    assert len(shelf) == 0
    shelf.put_back([groups[3]])
    assert (len(shelf), take(1), take(0)) == (1, "3", None)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_every_group_is_handed_out_once_under_its_own_number(rows: int) -> None:
    groups = [Group(0, (score(str(i), "x", " y"),)) for i in range(5)]
    shelf = Shelf(groups, rows)
    got = []
    row = 0
    while (group := shelf.take(row % rows)) is not None:
        got.append(group)
        row += 7
    assert sorted(g.requests[0].request_id for g in got) == list("01234")
    assert len({g.number for g in got}) == 5


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"memory": 1e9, **resources}}


def test_actors_fit_node_by_node() -> None:
    nodes = [node(CPU=8.0, GPU=2.0), node(CPU=3.0, GPU=4.0), node(False, CPU=99.0, GPU=9.0), node()]
    assert capacity(nodes, 1, 1) == 2 + 3
    assert capacity(nodes, 2, 0) == 4 + 1
    assert capacity(nodes, 1, 0.5) == 4 + 3
    assert capacity(nodes, 1, 3) == 1  # never across two nodes
    assert capacity(nodes, 16, 0) == 0
    assert describe(nodes) == "3 nodes, 11 CPUs, 6 GPUs"


def test_reasons_are_one_short_line() -> None:
    died = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n\tip: 10.0.0.1\n"
        "The actor is dead because its node has died."
    )
    assert reason(RuntimeError(died)) == "The actor is dead because its node has died."
    failed = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::A()\x1b[39m\n"
        "  File \"x.py\", line 3\nModuleNotFoundError: No module named 'forgetbench'"
    )
    assert reason(RuntimeError(failed)) == "ModuleNotFoundError: No module named 'forgetbench'"
    assert reason(RuntimeError("")) == "RuntimeError"
    assert len(reason(RuntimeError("x " * 999))) <= 300


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"actor": 3}, r"engine_args\.actor: is unknown to the ray engine; use engine, "),
        ({"engine": "openai"}, "engine: is 'openai'; use one of transformers, vllm, scripted"),
        ({"engine": "ray"}, "engine: is 'ray'"),
        ({"actors": 0}, "actors: is 0; give a whole number, 1 or more"),
        ({"actors": True}, "actors: is True"),
        ({"max_restarts": -1}, "max_restarts: is -1; give a whole number, 0 or more"),
        ({"gpus_per_actor": "all"}, "gpus_per_actor: is 'all'; give a number"),
        ({"cpus_per_actor": float("inf")}, "cpus_per_actor: is inf"),
        ({"engine_args": ["x"]}, "engine_args: is .* give a mapping"),
        ({"address": 6379}, "address: is 6379"),
        ({"runtime_env": {"env_vars": {"HF_TOKEN": "x"}}}, r"env_vars\.HF_TOKEN: would be stored"),
        ({"engine_args": {"batchrows": 1}}, "batchrows: is unknown to the transformers engine"),
    ],
)
def test_arguments_are_checked(qwen: Checkpoint, args: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RayEngine(qwen, **args)


def test_the_config_takes_it() -> None:
    args = {
        "engine": "vllm",
        "engine_args": {"max_model_len": 4096},
        "gpus_per_actor": 1,
        "address": "ray://head:10001",
    }
    model = Config(models={"m": {"path": "x", "engine": "ray", "engine_args": args}}).models["m"]
    assert (model.engine, model.engine_args) == ("ray", args)


def test_identity_digest_and_capabilities_are_those_of_the_engine_inside(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    inner = {"max_length": 100, "device": "cpu"}
    plain = resolve(ModelSpec("m", str(folder), engine_args=inner), cache_dir=tmp_path)
    args = {"engine_args": inner, "actors": 2, "gpus_per_actor": 0}
    over_ray = resolve(ModelSpec("m", str(folder), engine="ray", engine_args=args), cache_dir=tmp_path)
    assert (over_ray.digest, over_ray.spec.engine) == (plain.digest, "ray")
    assert over_ray.spec.served == plain.spec
    engine = make_engine(over_ray)
    assert isinstance(engine, RayEngine)
    assert engine.identity == make_engine(plain).identity
    assert engine.capabilities == make_engine(plain).capabilities


def test_the_device_follows_from_the_gpus_of_an_actor(qwen: Checkpoint) -> None:
    def device(**args: Any) -> tuple[str, float]:
        engine = RayEngine(qwen, **args)
        return engine.identity["device"], engine.gpus

    assert device(gpus_per_actor=1) == ("cuda", 1)
    assert device(gpus_per_actor=0) == ("cpu", 0)
    assert device(engine_args={"device": "cuda"}) == ("cuda", 1)
    assert device(engine_args={"device": "cpu"}) == ("cpu", 0)


def test_a_script_inside_is_resolved_like_a_script(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"default": {"text": "x", "choice": 0}}')
    inner = {"script": str(tmp_path / "s.json")}
    plain = resolve(ModelSpec("m", engine="scripted", engine_args=inner))
    args = {"engine": "scripted", "engine_args": inner}
    over_ray = resolve(ModelSpec("m", engine="ray", engine_args=args))
    assert over_ray.digest == plain.digest
    assert make_engine(over_ray).identity == make_engine(plain).identity


def test_without_ray_one_line_says_so(qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util
    from dataclasses import replace

    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "ray" else original(n, *a))
    checkpoint = replace(qwen, spec=replace(qwen.spec, engine="ray"))
    with pytest.raises(UsageError, match=r"models.qwen3.engine: needs ray.*install forgetbench\[ray\]"):
        make_engine(checkpoint)


def test_making_the_engine_imports_neither_ray_nor_torch(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    code = f"""
import sys
from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.engines.registry import make_engine
engine = make_engine(resolve(ModelSpec("m", {str(folder)!r}, engine="ray")))
engine.identity, engine.capabilities, engine.usage
engine.close()
heavy = {{"ray", "torch", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
