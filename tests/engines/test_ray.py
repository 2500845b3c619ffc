"""The Ray engine on a real cluster of two nodes: the same answers as without it, whatever happens to actors."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.ray_engine import RayEngine
from forgetbench.engines.transformers_engine import TransformersEngine
from forgetbench.engines.vllm_engine import VllmEngine
from forgetbench.errors import EngineError, Exit, ModelLoadError
from tests.engines import tiny
from tests.engines.conftest import generate, read, score, serve
from tests.engines.ray_world import Scripted, World, by_id, questions, two_nodes
from tests.engines.vllm_installed import needs_vllm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORGETBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        with two_nodes() as made:
            yield made


def test_answers_equal_those_of_the_plain_engine(world: World, qwen: Checkpoint) -> None:
    asked = [score(f"s{i}", f"Question: {i} apples and {i % 7} pears. Answer:", " one", " two") for i in range(40)]
    asked += [generate(f"g{i}", f"If a shop sells {i}", 8) for i in range(20)]
    asked += [generate("sampled", "The quick brown", 8, temperature=1.0, seeds=(3, 4))]
    asked += [read(f"r{i}", (5 + i,), tuple(range(20, 40)), top_m=3, at=((7, 8),) * 20) for i in range(4)]
    plain = TransformersEngine(qwen)
    expected = {r.request_id: r for r in plain.run(asked)}
    engine = RayEngine(qwen, address=world.address, group_requests=16)
    try:
        assert engine.identity == plain.identity
        got = by_id(list(engine.run(asked)), asked)
        for name, response in got.items():
            assert response.prompt_token_hash == expected[name].prompt_token_hash
            for a, b in zip(response.scores, expected[name].scores, strict=True):
                assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
            for c, d in zip(response.generations, expected[name].generations, strict=True):
                assert (c.token_ids, c.text, c.finish_reason) == (d.token_ids, d.text, d.finish_reason)
            assert (response.reading is None) == (expected[name].reading is None)
            if response.reading is not None and (told := expected[name].reading) is not None:
                assert response.reading.logprobs == pytest.approx(told.logprobs, abs=1e-4)
                for e, f in zip(response.reading.at or (), told.at or (), strict=True):
                    assert e == pytest.approx(f, abs=1e-4)
                assert [t.ids for t in response.reading.top or ()] == [t.ids for t in told.top or ()]
        usage = engine.usage
        assert (usage.requests, usage.new_tokens) == (plain.usage.requests, plain.usage.new_tokens)
        assert usage.prompt_tokens == plain.usage.prompt_tokens
        # The actors live on: the second call is answered by the same ones, at once.
        begin = time.monotonic()
        by_id(list(engine.run(asked[:4])), asked[:4])
        assert time.monotonic() - begin < 3
        assert engine.usage.requests == usage.requests + 4
    finally:
        engine.close()
    assert engine.usage.requests == plain.usage.requests + 4


def test_both_nodes_work_and_answers_stream_back(world: World, tmp_path: Path) -> None:
    model, asked = Scripted(tmp_path, delay=0.05), questions(40)
    engine = model.engine(world.address, group_requests=20)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        seen: list[int] = []
        got = []
        for response in engine.run(asked):
            seen.append(len(model.asked()))
            got.append(response)
        assert by_id(got, asked)["question007"].generations[0].text == "<question 007>"
        assert seen[0] < 20  # the first came long before its group was through
        assert len(model.processes()) == 2
        assert set(model.asked().values()) == {1}
        assert signal.getsignal(signal.SIGTERM) is handler  # Ray would put its own in place
    finally:
        engine.close()


def test_a_driver_outside_the_cluster(world: World, tmp_path: Path) -> None:
    """Over ray://, where Ray's own streaming does not work; a lost actor is made good as well."""
    model = Scripted(tmp_path, delay=0.02)
    asked = [*questions(30), generate("o", "once only", 99), *questions(10, "later")]
    engine = model.engine(f"ray://127.0.0.1:{world.client_port}", group_requests=10)
    try:
        seen = [len(model.asked()) for _ in zip(range(1), engine.run(asked), strict=False)]
        assert seen[0] < 10
        got = by_id(list(engine.run(asked)), asked)
        assert got["o"].generations[0].text == "<once only>"
        assert all(r.error is None for r in got.values())
        assert (model.folder / "happened").exists()
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("failures", "why"),
    [
        (2, "Starting Ray client server failed. See"),
        (1, "Traceback:\npsutil.ZombieProcess: PID still exists but it's a zombie (pid=14045)"),
        (9, "Starting Ray client server failed. See"),
    ],
)
def test_a_clients_server_that_does_not_start(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, why: str
) -> None:
    """It is started again, and when that does not help, the next connection of this process is none the worse."""
    from ray.util.client.worker import Worker

    begin, left = Worker._server_init, [None] * failures

    def failing(self: object, *args: object) -> None:
        if left:
            left.pop()
            raise ConnectionAbortedError(f"Initialization failure from server:\n{why}")
        begin(self, *args)

    monkeypatch.setattr(Worker, "_server_init", failing)
    model, asked = Scripted(tmp_path), questions(5)
    engine = model.engine(f"ray://127.0.0.1:{world.client_port}")
    try:
        if failures > 2:
            with pytest.raises(ModelLoadError, match=r"no Ray cluster can be used at ray://.*client server failed"):
                list(engine.run(asked))
            assert len(left) == failures - 3
        else:
            by_id(list(engine.run(asked)), asked)
    finally:
        engine.close()
    inside = model.engine(world.address)
    try:
        by_id(list(inside.run(asked)), asked)
    finally:
        inside.close()


def test_a_poisoned_request_ends_as_its_own_error(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Scripted(tmp_path, dying=1)  # the answers before it have left the actor by then
    asked = [*questions(15), generate("bad", "poison", 9), *questions(15, "more")]
    engine = model.engine(world.address, group_requests=10)
    try:
        with caplog.at_level(logging.WARNING, "forgetbench"):
            got = by_id(list(engine.run(asked)), asked)
    finally:
        engine.close()
    assert str(got["bad"].error).startswith("no answer from 3 Ray actors, at last: ")
    assert [n for n, r in got.items() if r.error is not None] == ["bad"]
    assert model.asked()["bad"] == 3
    told = [r.getMessage() for r in caplog.records if "is lost" in r.getMessage()]
    assert len(told) == 3
    assert all("unanswered requests go to others" in line and "\n" not in line for line in told)


def test_an_engine_that_fails_in_its_actor_is_started_anew(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Scripted(tmp_path)
    asked = [*questions(5), generate("o", "once only", 99), *questions(5, "more")]
    engine = model.engine(world.address, actors=1)
    try:
        with caplog.at_level(logging.WARNING, "forgetbench"):
            got = by_id(list(engine.run(asked)), asked)
        assert all(r.error is None for r in got.values())
        assert len(model.processes()) == 2
        assert engine.usage.requests == len(asked)  # those of the lost life are counted too
    finally:
        engine.close()
    assert "SystemExit: the card fell off the bus" in caplog.text


def test_when_all_actors_are_lost_one_line_says_so_after_what_was_finished(world: World, tmp_path: Path) -> None:
    engine = Scripted(tmp_path, dying=1).engine(world.address, actors=1, max_restarts=0)
    got: list[str] = []
    try:
        with pytest.raises(
            EngineError, match=r"models\.s: all Ray actors are lost \(1, .*; the last reason: ."
        ) as caught:
            # An extend keeps what came before the error.
            got.extend(r.request_id for r in engine.run([*questions(20), generate("bad", "poison", 9)]))
    finally:
        engine.close()
    assert "\n" not in str(caught.value)
    assert sorted(got) == [r.request_id for r in questions(20)]


def test_a_node_with_other_weights_under_the_same_path_is_refused(world: World, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    checkpoint = resolve(ModelSpec("m", str(folder), engine="ray"), cache_dir=tmp_path)
    tiny.save(folder, seed=1)  # what a node finds there is not what the driver saw
    engine = RayEngine(checkpoint, address=world.address)
    try:
        with pytest.raises(ModelLoadError, match=r"^node .+ \(.+\): models\.m: other weights lie there under /") as e:
            list(engine.run([score("a", "x", " y")]))
    finally:
        engine.close()
    assert e.value.exit_code == Exit.USAGE
    assert "\n" not in str(e.value)


def test_a_node_without_the_model_is_refused(world: World, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    checkpoint = resolve(ModelSpec("m", str(folder), engine="ray"), cache_dir=tmp_path)
    folder.rename(tmp_path / "elsewhere")
    engine = RayEngine(checkpoint, address=world.address, actors=1)
    try:
        with pytest.raises(ModelLoadError, match=r"^node .+ \(.+\): models\.m\.path: "):
            list(engine.run([score("a", "x", " y")]))
    finally:
        engine.close()


def test_a_model_that_does_not_load_is_not_tried_again(world: World, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    tiny.edit_json(folder / "config.json", num_attention_heads="many")
    checkpoint = resolve(ModelSpec("m", str(folder), engine="ray"), cache_dir=tmp_path)
    engine = RayEngine(checkpoint, address=world.address, actors=1)
    try:
        with pytest.raises(ModelLoadError, match=r"^node .+ \(.+\): models\.m .*cannot be loaded"):
            list(engine.run([score("a", "x", " y")]))
    finally:
        engine.close()


def test_a_cluster_without_room_is_one_line(world: World, tmp_path: Path) -> None:
    model = Scripted(tmp_path)
    for args, words in (
        ({"gpus_per_actor": 1}, r"no node has room for an actor of 1 CPUs and 1 GPUs \(2 nodes, 2 CPUs, 0 GPUs\)"),
        ({"cpus_per_actor": 3}, "no node has room for an actor of 3 CPUs and 0 GPUs"),
    ):
        engine = model.engine(world.address, **args)
        with pytest.raises(ModelLoadError, match=words):
            list(engine.run(questions(1)))
    engine = model.engine(world.address, cpus_per_actor=3, actors=1, start_seconds=1)
    try:
        with pytest.raises(EngineError, match=r"no Ray actor of 3 CPUs and 0 GPUs got a place within \d s"):
            list(engine.run(questions(1)))
    finally:
        engine.close()


def test_two_engines_share_the_connection(world: World, tmp_path: Path) -> None:
    """A base and a candidate side by side: the first to end leaves the other one working."""
    import ray

    one, two = Scripted(tmp_path / "one"), Scripted(tmp_path / "two")
    first, second = one.engine(world.address, actors=1), two.engine(world.address, actors=1)
    asked = questions(6)
    try:
        by_id(list(first.run(asked)), asked)
        by_id(list(second.run(asked)), asked)
        first.close()
        by_id(list(second.run(asked)), asked)
    finally:
        first.close()
        second.close()
    assert not ray.is_initialized()
    assert (sum(one.asked().values()), sum(two.asked().values())) == (6, 12)


def test_a_connection_of_the_users_own_stays_open(world: World, tmp_path: Path) -> None:
    import ray

    ray.init(world.address, log_to_driver=False, logging_level="ERROR")
    try:
        engine = Scripted(tmp_path).engine(world.address, actors=1)
        by_id(list(engine.run(questions(3))), questions(3))
        engine.close()
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@needs_vllm
@pytest.mark.parity
def test_vllm_in_two_actors_answers_as_transformers_does_here(world: World, qwen: Checkpoint) -> None:
    shots = "Question: What is the capital of Arvenia? Answer: Tolmis.\n" * 9
    asked = [score(f"s{i}", f"{shots}Question: {i}? Answer:", " A", " B", " the fox") for i in range(24)]
    asked += [generate(f"g{i}", f"If a shop sells {i}", 12) for i in range(12)]
    asked = [replace(r, checkpoint=qwen.digest) for r in asked]
    engine = RayEngine(qwen, engine="vllm", address=world.address, group_requests=6)
    try:
        assert engine.identity == VllmEngine(qwen).identity
        got = by_id(list(engine.run(asked)), asked)
        usage = engine.usage
    finally:
        engine.close()
    expected = serve(qwen, asked)
    for name, response in got.items():
        for a, b in zip(response.scores, expected[name].scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        for c, d in zip(response.generations, expected[name].generations, strict=True):
            assert (c.token_ids, c.text) == (d.token_ids, d.text)
    assert usage.requests == len(asked)
    # Each actor read the shots about once: groups of neighbours stay together.
    assert usage.computed_tokens < 0.6 * usage.prompt_tokens
