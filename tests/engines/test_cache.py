"""The cached engine: what hits, what misses, what is never stored, and that trouble with the file stops nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines.cache import CachedEngine, cached, cached_many, response_key
from forgetbench.engines.cache_store import ResponseCache
from forgetbench.errors import EngineError
from forgetbench.execute import execute
from forgetbench.planning.plan import TaskJob, request_id
from forgetbench.types import (
    Decode,
    Generate,
    Generation,
    Message,
    Prompt,
    Read,
    Reading,
    Request,
    Response,
    Score,
    TopTokens,
)
from tests.engines.tiny import edit_json
from tests.runs.fakes import IDENTITY, FakeEngine, FakeTask, answer, checkpoint, job, jobs, plan

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.unit


def ask(
    path: Path,
    requests: Sequence[Request],
    model: Any = None,
    engine: FakeEngine | None = None,
    identity: Mapping[str, str] = IDENTITY,
    **more: Any,
) -> tuple[int, list[str]]:
    """(hits, what the inner engine was asked); every request is answered once, as the fake engine answers."""
    inner = engine or FakeEngine(identity=identity)
    wrapped = cached(inner, model or checkpoint(), identity, path, **more)
    got = {r.request_id: r for r in wrapped.run(requests)}
    wrapped.close()
    assert inner.closed
    assert got == {r.request_id: answer(r) for r in requests}
    return wrapped.hits, inner.asked


def requests_of(model: Any = None, replicate: int = 0, n: int = 12, todo: list[TaskJob] | None = None) -> list[Request]:
    return list(plan(todo or jobs(n), model, replicate).requests)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "responses.sqlite"


def test_what_was_answered_once_is_not_asked_again(file: Path) -> None:
    requests = requests_of()
    hits, asked = ask(file, requests)
    assert (hits, sorted(asked)) == (0, sorted(r.request_id for r in requests))
    hits, asked = ask(file, requests[::-1], checkpoint(alias="another name"))
    assert (hits, asked) == (len(requests), [])
    more = requests_of(n=15)
    hits, asked = ask(file, more)
    assert sorted(asked) == sorted({r.request_id for r in more} - {r.request_id for r in requests})
    assert hits == len(more) - len(asked) > 0


def test_hits_come_first_and_misses_once(file: Path) -> None:
    requests = requests_of()
    ask(file, requests[::2])
    inner = FakeEngine()
    wrapped = cached(inner, checkpoint(), IDENTITY, file)
    order = [r.request_id for r in wrapped.run(requests)]
    wrapped.close()
    assert order[: wrapped.hits] == [r.request_id for r in requests[::2]]
    assert sorted(order) == sorted(r.request_id for r in requests)
    assert wrapped.usage.requests == len(inner.asked) == len(requests) - wrapped.hits


@pytest.fixture(scope="module")
def stored(
    make_checkpoint: Callable[[str], Checkpoint], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, Path]:
    """A real checkpoint and a cache with all its answers."""
    point = make_checkpoint("qwen3")
    path = tmp_path_factory.mktemp("stored") / "responses.sqlite"
    ask(path, requests_of(point), point)
    return point, path


def _copy(point: Checkpoint, to: Path) -> Path:
    shutil.copytree(point.folder, to)
    return to


def _again(folder: Path) -> Checkpoint:
    return resolve(ModelSpec("again", str(folder)), cache_dir=folder.parent / "digests")


def test_the_same_checkpoint_elsewhere_hits(stored: tuple[Checkpoint, Path], tmp_path: Path) -> None:
    point, path = stored
    same = _again(_copy(point, tmp_path / "copy"))
    requests = requests_of(same)
    assert ask(path, requests, same) == (len(requests), [])


def _flip_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _change_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text() + " ")


def _change_stop(folder: Path) -> None:
    edit_json(folder / "generation_config.json", eos_token_id=[1, 3])


@pytest.mark.parametrize("change", [_flip_weights, _change_template, _change_stop])
def test_a_changed_checkpoint_misses(
    stored: tuple[Checkpoint, Path], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    point, path = stored
    folder = _copy(point, tmp_path / "copy")
    change(folder)
    other = _again(folder)
    requests = requests_of(other)
    hits, asked = ask(Path(shutil.copy(path, tmp_path)), requests, other)
    assert hits == 0
    assert len(asked) == len(requests)


@pytest.mark.parametrize("part", [{"version": "2"}, {"dtype": "bfloat16"}, {"name": "other"}, {"attention": "eager"}])
def test_another_engine_misses(file: Path, part: dict[str, str]) -> None:
    requests = requests_of()
    ask(file, requests)
    hits, asked = ask(file, requests, identity={**IDENTITY, **part})
    assert (hits, len(asked)) == (0, len(requests))
    assert ask(file, requests) == (len(requests), [])  # and did not take the first ones' place


def test_another_replicate_misses_also_where_requests_are_the_same(file: Path) -> None:
    greedy = [job(FakeTask("add", 5))]
    assert requests_of(todo=greedy) == requests_of(todo=greedy, replicate=1)
    for replicate in (0, 1):
        hits, _ = ask(file, requests_of(todo=greedy, replicate=replicate), replicate=replicate)
        assert hits == 0
    assert ask(file, requests_of(todo=greedy, replicate=1), replicate=1) == (5, [])


def test_another_rule_of_decoding_misses(file: Path) -> None:
    task = FakeTask("dice", 4)

    def of(**rule: Any) -> list[Request]:
        return requests_of(todo=[job(task, decode=Decode(**rule))])

    ask(file, of(temperature=0.7, top_p=0.9, n=2))
    for rule in ({"temperature": 0.8, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.8}, {"temperature": 0.0}):
        assert ask(file, of(**{"n": 2, **rule}))[0] == 0
    assert ask(file, requests_of(todo=[job(task, max_tokens=9)]))[0] == 0
    assert ask(file, requests_of(todo=[job(task, stop=("x",))]))[0] == 0
    assert ask(file, of(temperature=0.7, top_p=0.9, n=2))[0] == 4


def test_keys_are_stable_and_tell_parts_apart() -> None:
    assert response_key({"a": "1", "b": "2"}, "r") == response_key({"b": "2", "a": "1"}, "r")
    keys = {
        response_key(identity, request, replicate)
        for identity in ({"a": "1"}, {"a": "1", "b": ""}, {"a": "1\n0"}, {"a\n": "1"})
        for request in ("r", "0\nr")
        for replicate in (0, 1, 10)
    }
    assert len(keys) == 4 * 2 * 3
    # Written down: another value would make every cache there is useless without anybody noticing.
    expected = hashlib.sha256(b'1\n1\n{"name":"x"}\n2\nabc').digest()
    assert response_key({"name": "x"}, "abc", 2) == expected


def test_a_request_id_hashes_every_field_of_prompt_and_body() -> None:
    prompt = Prompt(messages=(Message("user", "ä\ud800"),))
    for body in (SAMPLED.body, RANK.body, READ.body):
        kind = "score" if isinstance(body, Score) else "read" if isinstance(body, Read) else "generate"
        parts = ["digest", dataclasses.asdict(prompt), kind, dataclasses.asdict(body)]
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        expected = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        assert request_id("digest", prompt, body) == expected


def test_request_ids_are_those_of_earlier_versions() -> None:
    """Written down: other ones would make every stored run and cache useless without anybody noticing."""
    ids = [request_id("digest", r.prompt, r.body) for r in (SAMPLED, RANK, READ)]
    assert ids == ["4d3fa007ac77e0dac08e4570", "6998e8d1f50a636b7fa7e0e0", "833e08c1f75fb3599d1d64b9"]


class Odd:
    """Answers to each request what a test says."""

    capabilities, identity = FakeEngine.capabilities, dict(IDENTITY)
    usage = FakeEngine().usage

    def __init__(self, say: Callable[[Request], Response]) -> None:
        self.say, self.asked = say, 0

    def run(self, requests: Sequence[Request]) -> Any:
        for request in requests:
            self.asked += 1
            yield self.say(request)

    def close(self) -> None:
        pass


GOOD = Generation("x", (1,), "stop")
WRONG: dict[str, Callable[[Request], Response]] = {
    "failed": lambda r: Response(r.request_id, error="out of memory"),
    "empty": lambda r: Response(r.request_id),
    "a failed sample": lambda r: Response(r.request_id, (GOOD, dataclasses.replace(GOOD, finish_reason="error"))),
    "too few samples": lambda r: Response(r.request_id, (GOOD,)),
    "another kind": lambda r: Response(r.request_id, scores=answer(RANK).scores[:2]),
}
RANK = Request("f" * 24, "c0ffee0123456789", Prompt(text="?"), Score((" a", " b", " c")))
SAMPLED = Request("e" * 24, "c0ffee0123456789", Prompt(text="?"), Generate(5, temperature=1.0, seeds=(1, 2)))
READ = Request("d" * 24, "c0ffee0123456789", Prompt(text="?"), Read((4, 5), top_m=1, at=((1, 2), ()), nucleus=0.9))
READING = Reading((-0.5, -1.0), (0.1, 0.2), (1, 2), (4, 9), (TopTokens((4,), (-0.5,), 0.4),) * 2, ((-3.0, -4.0), ()))


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_not_a_whole_answer_is_never_stored(file: Path, name: str) -> None:
    for expected in (1, 1):
        inner = Odd(WRONG[name])
        wrapped = cached(inner, checkpoint(), IDENTITY, file)
        assert [r.request_id for r in wrapped.run([SAMPLED])] == [SAMPLED.request_id]
        wrapped.close()
        assert inner.asked == expected
    with ResponseCache(file) as store:
        assert store.ls() == []


def test_a_reading_comes_back_as_it_was_and_half_of_one_is_not_stored(file: Path) -> None:
    short = Reading((-0.5,), (0.1,), (1,), (4,))
    for said in (short, READING):
        response = Response(READ.request_id, reading=said, prompt_tokens=1)
        inner = Odd(lambda r, response=response: response)  # type: ignore[misc]
        wrapped = cached(inner, checkpoint(), IDENTITY, file)
        assert list(wrapped.run([READ])) == list(wrapped.run([READ])) == [response]
        assert (wrapped.hits, inner.asked) == ((1, 1) if said is READING else (0, 2))
        wrapped.close()


def test_an_answer_to_something_else_is_passed_on_and_not_stored(file: Path) -> None:
    wrapped = cached(Odd(lambda r: Response("0" * 24, (GOOD, GOOD))), checkpoint(), IDENTITY, file)
    assert [r.request_id for r in wrapped.run([SAMPLED])] == ["0" * 24]
    wrapped.close()
    with ResponseCache(file) as store:
        assert store.ls() == []


def test_a_response_comes_back_as_it_was(file: Path) -> None:
    generation = Generation("né\ud800", (1, 2), "length", (-0.1, float("-inf")), (0.3, 1e-17))
    said = Response(SAMPLED.request_id, (generation, GOOD), (), 7, "h", 1, 5, 0.25, 1.5)
    wrapped = cached(Odd(lambda r: said), checkpoint(), IDENTITY, file)
    assert list(wrapped.run([SAMPLED])) == [said]
    assert list(wrapped.run([SAMPLED])) == [said]  # timings too: those of the run that it comes from
    assert wrapped.hits == 1
    wrapped.close()


def test_a_dying_engine_loses_nothing_that_came(file: Path) -> None:
    requests = requests_of()
    wrapped = cached(FakeEngine(die_after=9), checkpoint(), IDENTITY, file)
    got: list[str] = []
    with pytest.raises(EngineError, match="the engine died"):
        got.extend(r.request_id for r in wrapped.run(requests))
    wrapped.close()
    assert len(got) == 9
    hits, asked = ask(file, requests)
    assert hits == 9
    assert not set(asked) & set(got)


def test_a_caller_that_stops_early_loses_nothing_that_came(file: Path) -> None:
    requests = requests_of()
    wrapped = cached(FakeEngine(), checkpoint(), IDENTITY, file)
    stream = wrapped.run(requests)
    for _ in range(5):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    wrapped.close()
    assert ask(file, requests)[0] == 5


def test_several_checkpoints_of_one_engine_and_one_that_is_not_reusable(file: Path) -> None:
    points = [checkpoint(c * 16, name) for c, name in (("a", "base"), ("b", "lora"), ("c", "endpoint"))]
    points[2].reusable = False
    identities = [{**IDENTITY, "adapter": name} for name in ("none", "served", "none")]
    requests = [r for p in points for r in requests_of(p, n=4)]
    each = len(requests) // 3

    def run() -> tuple[int, list[str], CachedEngine]:
        inner = FakeEngine()
        served = {p.digest: (p, i) for p, i in zip(points, identities, strict=True)}
        wrapped = cached_many(inner, served, file)
        assert {r.request_id for r in wrapped.run(requests)} == {r.request_id for r in requests}
        wrapped.close()
        return wrapped.hits, inner.asked, wrapped

    assert len(run()[1]) == 3 * each
    hits, asked, wrapped = run()
    assert hits == 2 * each
    assert sorted(asked) == sorted(r.request_id for r in requests if r.checkpoint == "c" * 16)
    assert wrapped.identity_of(points[1]) == IDENTITY  # the inner engine's own word
    with ResponseCache(file) as store:
        assert {(s.alias, s.checkpoint, s.engine["adapter"]) for s in store.ls()} == {
            ("base", "a" * 16, "none"),
            ("lora", "b" * 16, "served"),
        }
    # A LoRA candidate's answers hit alone, and only under the identity that they were given under.
    alone = requests_of(points[1], n=4)
    assert ask(file, alone, points[1], identity=identities[1])[0] == each
    assert ask(file, alone, points[1], identity=identities[0])[0] == 0


def test_a_run_in_a_new_folder_asks_nothing(file: Path, tmp_path: Path) -> None:
    todo, model = jobs(), checkpoint()
    runs = []
    for name in ("first", "second"):
        inner = FakeEngine()
        wrapped = cached(inner, model, IDENTITY, file)
        run = execute(plan(todo), todo, model, lambda w=wrapped: w, tmp_path / name, engine_identity=IDENTITY)
        runs.append((run.read_records(), inner.asked, wrapped.hits))
    n = len(plan(todo).requests)
    assert (len(runs[0][1]), runs[0][2]) == (n, 0)
    assert (runs[1][1], runs[1][2]) == ([], n)
    assert runs[0][0] == runs[1][0]


def test_what_failed_in_a_run_is_asked_again_in_the_next(file: Path, tmp_path: Path) -> None:
    todo, model = jobs(), checkpoint()
    bad = plan(todo).requests[3].request_id
    for name, n_asked in (("first", len(plan(todo).requests) + 1), ("second", 1)):
        inner = FakeEngine(fails=lambda request_id, attempt, n=name: request_id == bad and n == "first")
        wrapped = cached(inner, model, IDENTITY, file)
        execute(plan(todo), todo, model, lambda w=wrapped: w, tmp_path / name, engine_identity=IDENTITY)
        assert len(inner.asked) == n_asked
        assert set(inner.asked[-1:]) == {bad} or name == "first"


LIGHT = """
import sys
from pathlib import Path
from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.engines.cache import cached
from forgetbench.engines.registry import make_engine
from forgetbench.execute import execute
from tests.runs.fakes import jobs, plan
model, path, folder = sys.argv[1:]
point = resolve(ModelSpec("tiny", model))
todo = jobs(6)
inner = make_engine(point)
engine = cached(inner, point, inner.identity, Path(path))
run = execute(plan(todo, point), todo, point, lambda: engine, Path(folder), engine_identity=inner.identity)
heavy = [m for m in ("torch", "transformers", "tokenizers", "safetensors") if m in sys.modules]
print(engine.hits, len(run.read_records()), *heavy)
"""


def test_hits_load_neither_torch_nor_a_tokenizer(qwen: Checkpoint, file: Path, tmp_path: Path) -> None:
    def run(folder: str) -> list[str]:
        command = [sys.executable, "-c", LIGHT, str(qwen.folder), str(file), str(tmp_path / folder)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split()

    hits, records, *heavy = run("first")
    assert hits == "0"
    assert "torch" in heavy  # so that the next line can fail
    assert run("second") == [str(len(requests_of(qwen, n=6))), records]


def test_a_run_out_of_the_cache_is_within_a_loose_multiple_of_its_bar(tmp_path: Path) -> None:
    """1,000 records; the figure itself is benchmarks/cache.py's. CPU time, as other work moves wall time."""
    from benchmarks.cache import BAR, measure

    _, again, _ = measure(tmp_path, 500, 2, say=lambda line: None)  # raises where an answer was asked or differs
    assert [t.records for t in again] == [1000, 1000]
    assert min(t.cpu for t in again) < 10 * BAR * 1000 / 20_000
