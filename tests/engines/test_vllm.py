"""The vLLM engine against the transformers engine: log-probabilities within 1e-4, greedy texts equal (float32)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.engines.vllm_engine import VllmEngine
from forgetbench.engines.vllm_host import VllmHost
from forgetbench.errors import EngineError, ModelLoadError
from forgetbench.types import Generate, Message, Prompt, Request, Response, Score, TokenStats
from tests.engines import tiny
from tests.engines.conftest import break_weights, generate, read, score, serve
from tests.engines.vllm_installed import needs_vllm

pytestmark = [pytest.mark.parity, needs_vllm]
SHOTS = "Question: What is the capital of Arvenia? Answer: Tolmis.\n" * 12


@pytest.fixture(scope="module")
def host() -> Iterator[VllmHost]:
    """One engine for the module: starting is what costs."""
    host = VllmHost()
    yield host
    host.close()


@pytest.fixture
def ask(host: VllmHost) -> Callable[..., dict[str, Response]]:
    def ask(checkpoint: Checkpoint, requests: list[Request], **args: Any) -> dict[str, Response]:
        answers = list(VllmEngine(checkpoint, host=host, **args).run(requests))
        assert sorted(a.request_id for a in answers) == sorted(r.request_id for r in requests)
        return {a.request_id: a for a in answers}

    return ask


REQUESTS = [
    score("letters", SHOTS + "x Answer:", " A", " B", " C", " D"),
    score("letters without a space", SHOTS + "y Answer: ", "A", "B"),
    score("words", SHOTS + "z Answer:", " Tolmis is one", " the quick brown fox", " A", " Tolmis"),
    score("two with one beginning", SHOTS + "w Answer:", " Tolmis is", " Tolmis was"),
    score("same twice", "A. one", " B. two", " B. two"),
    score("empty prompt", "", "The quick", " A"),
    score("space at the end", "The quick ", "brown fox", "b"),
    score("every byte", "B", *[chr(c) for c in range(33, 127)], *[chr(c) for c in range(0xC0, 0x17F)]),
    score("too long", "word " * 400, " A", " the fox"),
    score("nothing", "abc", ""),
    generate("plain", SHOTS + "Question:"),
    generate("stops", "The quick", stop=("fox", "\n", "</s>")),
    generate("stops at a special token's text", "Tolmis", 40, stop=("<|", ">")),
    generate("one token", "A", 1),
    generate("too long to generate", "word " * 400),
    generate("no room", "word", 4096),
    generate("top", "def add", stats=TokenStats(top_m=5)),
    generate("no statistics", "def add(", stats=TokenStats(logprobs=False, entropy=False)),
    read(
        "read", SHOTS + "z Answer:", (40, 41, 300, 17, 40), top_m=5, at=((1, 2), (), (3,), (300,), (40, 5)), nucleus=0.8
    ),
    read("read from the start", "", tuple(range(20, 60))),
    Request("messages", "x", Prompt(messages=(Message("user", "Hi"), Message("assistant", "So"))), Generate(8)),
]


def same(ours: Response, theirs: Response) -> None:
    """Within float32's rounding, and equal where nothing is rounded."""
    assert (ours.error is None) == (theirs.error is None), (ours.error, theirs.error)
    if ours.error is not None:
        return
    assert ours.prompt_token_hash == theirs.prompt_token_hash
    assert len(ours.scores) == len(theirs.scores)
    assert len(ours.generations) == len(theirs.generations)
    for a, b in zip(ours.scores, theirs.scores, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert (a.is_greedy, a.n_tokens) == (b.is_greedy, b.n_tokens)
    for g, h in zip(ours.generations, theirs.generations, strict=True):
        assert (g.text, g.token_ids, g.finish_reason) == (h.text, h.token_ids, h.finish_reason)
        assert (g.logprobs is None, g.entropies is None) == (h.logprobs is None, h.entropies is None)
        assert g.logprobs is None or g.logprobs == pytest.approx(h.logprobs, abs=1e-4)
        assert g.entropies is None or g.entropies == pytest.approx(h.entropies, abs=1e-4)
        assert (g.top is None) == (h.top is None)
        for s, t in zip(g.top or (), h.top or (), strict=True):
            assert s.ids == t.ids
            assert (*s.logprobs, s.tail_mass) == pytest.approx((*t.logprobs, t.tail_mass), abs=1e-4)
    assert (ours.reading is None) == (theirs.reading is None)
    if ours.reading is None or theirs.reading is None:
        return
    p, q = ours.reading, theirs.reading
    assert (p.argmax, p.top is None, p.at is None) == (q.argmax, q.top is None, q.at is None)
    assert p.logprobs == pytest.approx(q.logprobs, abs=1e-4)
    assert p.entropies == pytest.approx(q.entropies, abs=1e-4)
    # Where the mass meets the nucleus, rounding may need a token more or less.
    assert max(abs(a - b) for a, b in zip(p.nucleus_sizes, q.nucleus_sizes, strict=True)) <= 1
    for s, t in zip(p.top or (), q.top or (), strict=True):
        assert s.ids == t.ids
        assert (*s.logprobs, s.tail_mass) == pytest.approx((*t.logprobs, t.tail_mass), abs=1e-4)
    for a, b in zip(p.at or (), q.at or (), strict=True):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_answers_are_those_of_the_transformers_engine(
    kind: str, make_checkpoint: Callable[[str], Checkpoint], ask: Callable[..., dict[str, Response]]
) -> None:
    checkpoint = make_checkpoint(kind)
    ours, theirs = ask(checkpoint, REQUESTS), serve(checkpoint, REQUESTS)
    for request in REQUESTS:
        if request.request_id != "too long":
            same(ours[request.request_id], theirs[request.request_id])
    # vLLM counts a continuation's last token, so one more of the prompt is dropped; lm-eval's vLLM backend too.
    assert all(
        ours["too long"].truncated_left == serve(checkpoint, [r], max_length=511)["too long"].truncated_left
        for r in REQUESTS
        if r.request_id == "too long"
    )
    assert ours["too long to generate"].truncated_left == theirs["too long to generate"].truncated_left > 0
    assert {n for n, r in ours.items() if r.error} == {"nothing", "no room"}


def test_a_choice_in_a_mixed_batch_is_what_it_is_alone(
    qwen: Checkpoint, ask: Callable[..., dict[str, Response]]
) -> None:
    together = ask(qwen, REQUESTS)
    for request in REQUESTS[::3]:
        same(ask(qwen, [request])[request.request_id], together[request.request_id])


def test_a_read_that_does_not_fit(qwen: Checkpoint, ask: Callable[..., dict[str, Response]]) -> None:
    """One token less than under transformers, for prompt and for tokens; and beyond the vocabulary."""
    ids = tuple(5 + i % 300 for i in range(600))
    asked = [read("cut", ids, ids[:30], top_m=2), read("full", (7,), ids[:511]), read("over", (7,), ids[:512])]
    asked.append(read("unknown", (7,), (8,), at=((10**6,),)))
    ours, theirs = ask(qwen, asked), serve(qwen, asked, max_length=511)
    for name in ("cut", "full"):
        same(ours[name], theirs[name])
        assert ours[name].truncated_left == theirs[name].truncated_left
        assert ours[name].reading is not None
    assert "512 tokens to read exceed the 511" in (ours["over"].error or "")
    assert ours["unknown"].error == theirs["unknown"].error


def test_a_sample_is_the_same_alone_and_in_a_batch(qwen: Checkpoint, ask: Callable[..., dict[str, Response]]) -> None:
    wanted = generate("s", "The quick", temperature=1.0, top_p=0.9, seeds=(11, 2**62, 13))
    alone = ask(qwen, [wanted])["s"]
    batch = ask(qwen, [generate("o", "A. one", temperature=1.0, seeds=tuple(range(9))), wanted, *REQUESTS])["s"]
    assert [g.token_ids for g in alone.generations] == [g.token_ids for g in batch.generations]
    assert len({g.token_ids for g in alone.generations}) == 3
    again = ask(qwen, [generate("s", "The quick", temperature=1.0, top_p=0.9, seeds=(13,))])["s"]
    assert again.generations[0].token_ids == alone.generations[2].token_ids


def test_a_shared_prefix_is_computed_once(qwen: Checkpoint, host: VllmHost) -> None:
    engine = VllmEngine(qwen, host=host)
    list(engine.run([score("first", "unseen " + SHOTS + "x Answer:", " A", " B")]))
    before = engine.usage
    answers = list(engine.run([score(f"r{i}", f"unseen {SHOTS}{i} Answer:", " A", " B") for i in range(20)]))
    done = engine.usage.computed_tokens - before.computed_tokens
    assert done == sum(a.computed_tokens or 0 for a in answers)
    assert all(0 < (a.computed_tokens or 0) <= 2 * 32 for a in answers)
    assert engine.usage.prompt_tokens - before.prompt_tokens == sum(a.prompt_tokens for a in answers) > 10 * done


def test_timings_are_told(qwen: Checkpoint, ask: Callable[..., dict[str, Response]]) -> None:
    answer = ask(qwen, [generate("t", "The quick brown", 32)])["t"]
    assert answer.first_token_seconds is not None
    assert answer.seconds is not None
    assert 0 < answer.first_token_seconds < answer.seconds < 60


def siblings(root: Path, kind: str) -> list[Checkpoint]:
    """Three checkpoints of one architecture, and one of another."""
    bos = kind == "llama"
    folders = [tiny.save(root / f"v{seed}", kind, bos=bos, seed=seed) for seed in (0, 1, 2)]
    folders.append(tiny.save(root / "shorter", kind, bos=bos, seed=3, max_length=256))
    return [resolve(ModelSpec(f.name, str(f)), cache_dir=root / "cache") for f in folders]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    return siblings(tmp_path_factory.mktemp("family"), "llama")


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_weights_are_swapped_and_the_prefix_cache_forgotten(kind: str, tmp_path: Path) -> None:
    """The same prompts go to each checkpoint: keys and values that were left behind would answer for the next.

    One with an output layer of its own, and one whose output layer is tied to the embedding.
    """
    family = siblings(tmp_path, kind)
    host, asked = VllmHost(), [r for r in REQUESTS if r.request_id not in ("too long", "no room")]
    try:
        for checkpoint in (family[0], family[1], family[2], family[0]):
            answers = {a.request_id: a for a in VllmEngine(checkpoint, host=host).run(asked)}
            theirs = serve(checkpoint, asked)
            for name, answer in answers.items():
                same(answer, theirs[name])
        assert (host.starts, host.swaps) == (1, 3)
        short = [score("s", "The quick", " brown fox", " A"), generate("g", "The quick")]
        for name, answer in {a.request_id: a for a in VllmEngine(family[3], host=host).run(short)}.items():
            same(answer, serve(family[3], short)[name])
        assert (host.starts, host.swaps) == (2, 3), "another architecture needs another engine"
    finally:
        host.close()


def test_a_base_and_its_adapters_in_one_batch(tmp_path: Path, family: list[Checkpoint]) -> None:
    base, asked_of_each = (
        family[0],
        [r for r in REQUESTS if r.request_id in ("letters", "words", "plain", "stops", "top")],
    )

    def tuned(seed: int) -> Checkpoint:
        folder = tiny.save_adapter(base.folder, tmp_path / f"a{seed}", seed)
        return resolve(ModelSpec(f"a{seed}", str(base.folder), adapter=str(folder)), cache_dir=tmp_path / "cache")

    host, adapters = VllmHost(), [tuned(seed) for seed in (1, 2, 3, 4)]
    try:
        for pair in (adapters[:2], adapters[2:]):  # the second pair must not find the first in its places
            everyone = [base, *pair]
            engine = VllmEngine(everyone, host=host)
            # The same prompt of all three side by side.
            asked = [
                Request(f"{c.alias}/{r.request_id}", c.digest, r.prompt, r.body)
                for r in asked_of_each
                for c in everyone
            ]
            answers = {a.request_id: a for a in engine.run(asked)}
            assert len(answers) == len(asked)
            for checkpoint in everyone:
                theirs = serve(checkpoint, asked_of_each)
                for request in asked_of_each:
                    same(answers[f"{checkpoint.alias}/{request.request_id}"], theirs[request.request_id])
            said = {answers[f"{c.alias}/plain"].generations[0].text for c in everyone}
            assert len(said) == 3, "the adapters change what is said"
        assert host.starts == 1
        assert engine.identity_of(base) == VllmEngine(base).identity
        assert engine.identity_of(adapters[0]) != engine.identity_of(base)
    finally:
        host.close()


def test_broken_weights_are_errors_of_their_requests(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "nan", "qwen3")
    break_weights(folder)
    checkpoint = resolve(ModelSpec("nan", str(folder)), cache_dir=tmp_path / "cache")
    engine = VllmEngine(checkpoint)
    answers = list(engine.run([score("a", "x", " A", " B"), score("b", "x", " one two"), generate("c", "x", 4)]))
    engine.close()
    assert [a.error is not None and "not finite" in a.error for a in answers] == [True] * 3


def test_a_dead_engine_is_one_line_and_what_was_finished_is_kept(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = VllmEngine(qwen, max_num_seqs=2)
    asked = [generate(f"g{i}", f"word {i}", 4) for i in range(12)]
    assert len(list(engine.run(asked[:1]))) == 1
    llm, steps = engine.host.llm, iter(range(100))
    real = llm.llm_engine.step

    def step() -> Any:
        if next(steps) == 9:
            raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")
        return real()

    monkeypatch.setattr(llm.llm_engine, "step", step)
    got: list[str] = []
    with pytest.raises(EngineError, match=r"models\.qwen3: vLLM failed \(.*illegal memory access was enc") as caught:
        got.extend(answer.request_id for answer in engine.run(asked))
    assert "\n" not in str(caught.value)
    assert 0 < len(got) < len(asked)
    rest = [r for r in asked if r.request_id not in got]
    assert len(list(engine.run(rest))) == len(rest), "a new engine goes on"
    assert engine.host.starts == 2
    engine.close()


def test_out_of_memory_halves_the_batch_and_says_so(
    qwen: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = VllmEngine(qwen, max_num_seqs=8)
    asked = [generate(f"g{i}", f"word {i}", 4) for i in range(12)]
    list(engine.run(asked[:1]))

    def no_memory() -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(engine.host.llm.llm_engine, "step", no_memory)
    with caplog.at_level(logging.WARNING):
        answers = list(engine.run(asked))
    engine.close()
    assert sorted(a.request_id for a in answers) == sorted(r.request_id for r in asked)
    assert "out of memory; going on with 4 requests at a time" in caplog.text


def test_what_vllm_refuses_is_one_line(qwen: Checkpoint) -> None:
    with pytest.raises(ModelLoadError, match=r"models\.qwen3 .* vLLM cannot start") as caught:
        list(VllmEngine(qwen, no_such_argument=1).run(REQUESTS[:1]))
    assert "\n" not in str(caught.value)
    assert "no_such_argument" in str(caught.value)


def test_stopping_to_listen_takes_requests_back(qwen: Checkpoint, host: VllmHost) -> None:
    engine = VllmEngine(qwen, host=host)
    listening = iter(engine.run([generate(f"g{i}", f"word {i}", 64) for i in range(8)]))
    next(listening)
    listening.close()  # type: ignore[attr-defined]
    assert not host.llm.llm_engine.has_unfinished_requests()
    same(next(iter(engine.run(REQUESTS[:1]))), serve(qwen, REQUESTS[:1])["letters"])
    assert isinstance(REQUESTS[0].body, Score)
