"""Bad weather at an endpoint: nothing lost, nothing doubled, every answer right."""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgetbench.engines import openai_client
from forgetbench.engines.registry import make_engine
from forgetbench.errors import EngineError, UsageError
from forgetbench.runs.segments import scan_folder
from forgetbench.runs.store import Run
from forgetbench.types import Generate, Prompt, Request, Response, Score
from tests.engines import faulty_endpoint as faulty
from tests.engines.conftest import generate, score
from tests.engines.endpoint_runner import N_ITEMS, run, served

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "_FIRST_PAUSE", 0.01)


def stormy(body: dict[str, Any], attempt: int) -> str:
    """Every request fails in one or two ways of its own before it is answered; the probe's are let through."""
    if body.get("max_tokens") == 1 or "quick brown" in faulty.as_text(body):
        return ""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    kinds = [k for k in faulty.KINDS if k != "foreign" or body.get("echo")]
    if attempt <= 1 + digest[0] % 2:
        return kinds[digest[attempt] % len(kinds)]
    return "double" if digest[3] % 3 == 0 else ""


def assert_right(done: Run, n: int) -> None:
    """Each record there once, and each answer the one that the server gives to that very prompt."""
    assert done.incomplete == ()
    records = done.read_records()
    keys = [(r.task, r.content_hash, r.view, r.decode_id, r.sample) for r in records]
    assert len(keys) == len(set(keys)) == n + n + n + n // 2 + 3 * max(n // 4, 2)
    assert {r.outcome for r in records} == {"ok"}
    for r in records:
        assert r.prompt is not None
        if r.task == "pick":
            wanted = [faulty.logprob(r.prompt, f" {c}") for c in "abc"]
            assert r.extra["choice_logprobs"] == pytest.approx(wanted)
            assert r.extracted == str(wanted.index(max(wanted)))
        elif r.task == "dice":
            assert r.output in {faulty.said(r.prompt, s) for s in SEEDS[r.prompt]}
            assert r.n_output_tokens == 3
        else:
            prompt = r.prompt if r.view != "chat" else "\n".join(m["content"] for m in json.loads(r.prompt))
            assert r.output == faulty.said(prompt)
            assert r.n_output_tokens == 3


SEEDS: dict[str, set[int]] = {}


def learn_seeds(endpoint: faulty.Endpoint) -> None:
    SEEDS.clear()
    for body in endpoint.asked:
        if "seed" in body:
            SEEDS.setdefault(faulty.as_text(body), set()).add(body["seed"])


def test_a_suite_in_a_storm(tmp_path: Path) -> None:
    with faulty.running(stormy) as endpoint:
        done = run(tmp_path, endpoint.base_url)
        learn_seeds(endpoint)
        assert_right(done, N_ITEMS)
        assert set(faulty.KINDS) <= set(endpoint.suffered)  # every kind of fault was met
        assert endpoint.most_under_way > 1
        asked = len(endpoint.asked)
        again = run(tmp_path, endpoint.base_url)  # all of it lies on disk
        assert len(endpoint.asked) == asked
        assert again.read_records() == done.read_records()


def test_killed_and_resumed(tmp_path: Path) -> None:
    with faulty.running(stormy, delay=0.01) as endpoint:
        for enough in (30, 90):
            command = [sys.executable, "-m", "tests.engines.endpoint_runner", str(tmp_path), endpoint.base_url]
            child = subprocess.Popen(command, cwd=REPOSITORY)
            end = time.monotonic() + 60
            while len(endpoint.answered) < enough and child.poll() is None and time.monotonic() < end:
                time.sleep(0.005)
            assert child.poll() is None, "it ended before it was killed"
            child.send_signal(signal.SIGKILL)
            child.wait()
            stored = {i for f in (tmp_path / "run").glob("tasks/*/responses") for i in scan_folder(f).locations}
        assert stored
        asked: list[str] = []
        done = run(tmp_path, endpoint.base_url, on_stored=asked.append)
        assert not stored & set(asked), "an answer that was stored was asked again"
        learn_seeds(endpoint)
        assert_right(done, N_ITEMS)


def ask(endpoint: faulty.Endpoint, tmp_path: Path, requests: list[Request], **args: Any) -> dict[str, Response]:
    found = list(make_engine(served(endpoint.base_url, tmp_path, **args)).run(requests))
    assert sorted(r.request_id for r in found) == sorted(r.request_id for r in requests)
    return {r.request_id: r for r in found}


@pytest.mark.parametrize("kind", [k for k in faulty.KINDS if k != "double"])
def test_a_request_that_never_succeeds_is_an_error_of_its_own(kind: str, tmp_path: Path) -> None:
    def faults(body: dict[str, Any], attempt: int) -> str:
        return kind if "bad" in faulty.as_text(body) else ""

    bad = score("bad", "bad question:", " a") if kind == "foreign" else generate("bad", "bad question:")
    with faulty.running(faults) as endpoint:
        found = ask(endpoint, tmp_path, [bad, generate("good", "good question:")], retries=1, timeout=0.5)
    assert found["bad"].error is not None
    assert found["bad"].error.startswith("no answer after 2 tries")
    assert not found["bad"].generations
    assert not found["bad"].scores
    assert found["good"].generations[0].text == faulty.said("good question:")
    assert sum("bad" in faulty.as_text(b) for b in endpoint.asked) == 2


def test_a_server_that_goes_away_ends_the_run_with_one_line(tmp_path: Path) -> None:
    def faults(body: dict[str, Any], attempt: int) -> str:
        return "reset" if len(endpoint.answered) > 15 else ""

    with faulty.running(faults) as endpoint:
        engine = make_engine(served(endpoint.base_url, tmp_path, retries=1))
        kept: list[Response] = []
        with pytest.raises(EngineError, match="does not answer any more") as caught:
            kept.extend(engine.run([generate(f"g{i}", f"question {i}") for i in range(200)]))
        assert "\n" not in str(caught.value)
        assert len([r for r in kept if r.error is None]) >= 10
        assert len(endpoint.asked) < 100  # it did not go through all 200


@pytest.mark.parametrize("wish", ["0.6", "date"])
def test_retry_after_is_kept_by_all(wish: str, tmp_path: Path) -> None:
    """The pause that one request is told to make holds for those that come after it."""
    times: list[float] = []
    original = faulty._Handler._error

    def error(self: Any, status: int, message: str, headers: Any = None) -> None:
        value = email.utils.formatdate(time.time() + 2, usegmt=True) if wish == "date" else wish
        times.append(time.monotonic())
        original(self, status, message, {"Retry-After": value} if status == 429 else headers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faulty._Handler, "_error", error)
        with faulty.running(lambda b, n: "429" if "first" in faulty.as_text(b) and n == 1 else "") as endpoint:
            engine = make_engine(served(endpoint.base_url, tmp_path, concurrency=1))
            _ = engine.capabilities
            begin = time.monotonic()
            found = list(engine.run([generate("a", "first"), generate("b", "second")]))
    assert [r.error for r in found] == [None, None]
    assert time.monotonic() - begin >= (0.9 if wish == "date" else 0.6)
    assert len(times) == 1


def test_ctrl_c_is_quick(tmp_path: Path) -> None:
    # A shell starts background jobs with SIGINT ignored, and Python then installs no handler of its own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with faulty.running(lambda b, n: "stall" if "slow" in faulty.as_text(b) else "") as endpoint:
        engine = make_engine(served(endpoint.base_url, tmp_path, timeout=30))
        _ = engine.capabilities
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(engine.run([generate(f"g{i}", f"slow {i}") for i in range(40)]))
        assert time.monotonic() - begin < 1.0
        answers = engine.run([generate("one", "quick"), *(generate(f"h{i}", f"slow {i}") for i in range(9))])
        assert next(answers).request_id == "one"
        begin = time.monotonic()
        answers.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begin < 1.0
    assert not [t for t in threading.enumerate() if t.name == "openai-engine"]


def test_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The server quotes it in its errors, and still it is in no file, line, error, identity or repr."""
    key = "sk-very-secret-0123456789"
    caplog.set_level("DEBUG")
    shown: list[str] = []

    def faults(body: dict[str, Any], attempt: int) -> str:
        return "500" if attempt < 9 and "add 1?" in faulty.as_text(body) else ""

    with faulty.running(faults, key=key) as endpoint:
        with pytest.raises(UsageError, match="the variable MY_KEY is not set"):
            _ = make_engine(served(endpoint.base_url, tmp_path, api_key_env="MY_KEY")).capabilities
        monkeypatch.setenv("MY_KEY", key)
        point = served(endpoint.base_url, tmp_path / "cache", api_key_env="MY_KEY", retries=0)
        monkeypatch.setattr("tests.engines.endpoint_runner.served", lambda url, cache: point)
        done = run(tmp_path, endpoint.base_url, 4, on_note=shown.append)
        failed = [r for r in done.read_records() if r.outcome == "infra_error"]
        assert failed
        assert "***" in failed[0].why
        engine = make_engine(point)
        shown += [repr(point), repr(engine), repr(vars(engine)), str(engine.identity), repr(engine.usage)]
        monkeypatch.setenv("MY_KEY", key + "-wrong")
        with pytest.raises(UsageError, match="401: the key is missing or wrong") as caught:
            _ = make_engine(point).capabilities
        shown.append(str(caught.value))
        assert "***" in str(caught.value)
        gone = make_engine(point)
        monkeypatch.setenv("MY_KEY", key)
        gone._served = engine._probed()  # type: ignore[attr-defined]
        monkeypatch.setenv("MY_KEY", key + "-wrong")
        with pytest.raises(EngineError, match="401: the key is missing or wrong") as stopped:
            list(gone.run([generate("g", "question")]))
        shown.append(str(stopped.value))
    out, err = capfd.readouterr()
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) > 5
    for text in (*shown, out, err, caplog.text, *(f.read_bytes().decode("latin-1") for f in files)):
        assert key not in text


def test_equal_scores_are_asked_once_and_no_more_than_concurrency_at_a_time(tmp_path: Path) -> None:
    asked = [score(f"s{i}", "Answer:", " a", " b", " c", " d") for i in range(5)]
    asked += [score(f"t{i}", f"Answer {i}:", " a", " b", " c", " d") for i in range(12)]
    with faulty.running(delay=0.02) as endpoint:
        engine = make_engine(served(endpoint.base_url, tmp_path, concurrency=3))
        _ = engine.capabilities
        endpoint.asked.clear()
        endpoint.most_under_way = 0
        found = {r.request_id: r for r in engine.run(asked)}
        assert len(endpoint.asked) == 4 + 48
        assert endpoint.most_under_way == 3
    assert max(Counter(json.dumps(b) for b in endpoint.asked).values()) == 1
    assert found["s0"].scores == found["s4"].scores
    assert found["s0"].scores[1].logprob == pytest.approx(faulty.logprob("Answer:", " b"))
    assert engine.usage.requests == 17


def test_a_prompt_too_long_is_that_requests_error(tmp_path: Path) -> None:
    with faulty.running(lambda b, n: "400" if "long" in faulty.as_text(b) else "") as endpoint:
        found = ask(endpoint, tmp_path, [generate("a", "long"), generate("b", "short")])
    assert found["a"].error == (
        "the prompt is too long for the endpoint's context (400: This model's maximum context length is 8 tokens)"
    )
    assert found["b"].error is None
    assert sum("long" in faulty.as_text(b) for b in endpoint.asked) == 1  # asking again would not help


def test_stop_strings_are_cut_here_too(tmp_path: Path) -> None:
    """The server ignores `stop`; more than four of them are not even sent."""
    stops = ("zz", "yy", "xx", "ww", " is")
    request = Request("g", "x", Prompt(text="question"), Generate(16, stop=stops))
    with faulty.running() as endpoint:
        answer = ask(endpoint, tmp_path, [request])["g"]
    assert (answer.generations[0].text, answer.generations[0].finish_reason) == (" it", "stop")
    assert endpoint.asked[-1]["stop"] == list(stops[:4])


def test_a_token_across_the_seam_is_said(tmp_path: Path) -> None:
    with faulty.running() as endpoint:
        found = ask(
            endpoint, tmp_path, [score("s", "Answer:", "a"), Request("t", "x", Prompt(text="Q "), Score(("b",)))]
        )
    assert found["s"].error is not None
    assert "a token lies across the end of the prompt" in found["s"].error
    assert found["t"].scores[0].logprob == pytest.approx(faulty.logprob("Q", " b"))
