"""Endpoints before and around the asking: what they are taken for, what they can do, and what falls out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.checkpoints.endpoint_state import Limits, begin_fresh, known_limits, mark_complete
from forgetbench.cli import main
from forgetbench.engines import openai_client
from forgetbench.engines.registry import make_engine
from forgetbench.errors import UsageError
from forgetbench.planning import render
from forgetbench.planning.askable import askable, within
from forgetbench.planning.plan import build_plan
from forgetbench.runs.asking import check_capabilities
from forgetbench.types import Message, Plan, Prompt, PromptSpec, Read, Request
from tests.engines import faulty_endpoint as faulty
from tests.engines import tiny
from tests.engines.endpoint_runner import served
from tests.runs import fakes

pytestmark = pytest.mark.unit
URL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "_FIRST_PAUSE", 0.01)


def spec(alias: str = "served", path: str = "", **args: Any) -> ModelSpec:
    return ModelSpec(alias, path, engine="openai", engine_args={"base_url": URL, "model": "m", **args})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"base_url": None}, r"base_url: is missing"),
        ({"base_url": "localhost:8000"}, r"is not an address of the form"),
        ({"base_url": "http://joe:hunter2@host/v1"}, r"base_url: holds credentials; .*api_key_env"),
        ({"base_url": "http://host/v1?key=hunter2"}, r"is not an address"),
        ({"model": 3}, r"model: is missing"),
        ({"api_key": "hunter2"}, r"api_key: keys are read from the environment only"),
        ({"concurency": 3}, r"concurency: is unknown to the openai engine; use base_url"),
        ({"concurrency": 0}, r"concurrency: is 0; give a whole number from 1 on"),
        ({"retries": True}, r"retries: is True"),
        ({"timeout": -1}, r"timeout: is -1; give seconds"),
        ({"chat": "yes"}, r"chat: is 'yes'; give true or false"),
        ({"extra_body": [1]}, r"extra_body: is not a mapping"),
        ({"extra_body": {"temperature": 1}}, r"extra_body.temperature: is decided by the suite"),
    ],
)
def test_arguments_are_checked(args: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        resolve(spec(**args), tmp_path)
    assert "hunter2" not in str(caught.value)


def test_what_an_endpoint_is_taken_for(tmp_path: Path) -> None:
    plain = resolve(spec(fingerprint="v1"), tmp_path)
    assert plain.reusable
    assert plain.sends_messages
    assert plain.has_chat_template
    assert (
        resolve(spec(fingerprint="v1", base_url=URL + "/", timeout=5, concurrency=2), tmp_path).digest == plain.digest
    )
    folder = tiny.save(tmp_path / "model")
    others = [
        spec(fingerprint="v2"),
        spec(fingerprint="v1", base_url="http://127.0.0.1:10/v1"),
        spec(fingerprint="v1", model="n"),
        spec(fingerprint="v1", chat=False),
        spec(fingerprint="v1", extra_body={"x": 1}),
        spec(fingerprint="v1", path=str(folder)),
        spec(),
    ]
    digests = [resolve(s, tmp_path).digest for s in others]
    assert len({plain.digest, *digests}) == len(others) + 1
    local = resolve(spec(fingerprint="v1", path=str(folder)), tmp_path)
    assert not local.sends_messages
    assert local.template is not None
    assert local.stop_ids == (1,)
    base = resolve(spec(fingerprint="v1", path=str(folder), chat=False), tmp_path)
    assert not base.has_chat_template
    with pytest.raises(UsageError, match="chat_template: needs a tokenizer"):
        resolve(ModelSpec("s", engine="openai", engine_args=spec().engine_args, chat_template="{{ 1 }}"), tmp_path)


def test_identity_is_known_without_the_server(tmp_path: Path) -> None:
    point = resolve(spec(fingerprint="v1"), tmp_path)
    plain = make_engine(point).identity
    assert plain == {"name": "openai", "base_url": URL, "model": "m", "fingerprint": "v1"}
    assert make_engine(point, max_length=100).identity != plain
    assert make_engine(point, extra_body={"top_k": 1}).identity != plain
    assert make_engine(point, concurrency=3, timeout=9, retries=1).identity == plain


def test_making_one_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from forgetbench.checkpoints import ModelSpec, resolve;"
        "from forgetbench.engines.registry import make_engine;"
        f"p = resolve(ModelSpec('s', engine='openai', engine_args={{'base_url': {URL!r}, 'model': 'm'}}), Path({str(tmp_path)!r}));"
        "make_engine(p).identity; print(sorted({'openai', 'torch', 'transformers', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unfinished_run_keeps_its_nonce_and_a_finished_one_does_not(tmp_path: Path) -> None:
    model = spec()
    first = resolve(model, tmp_path).digest
    assert not resolve(model, tmp_path).reusable
    begin_fresh(model, tmp_path)
    assert resolve(model, tmp_path).digest == first  # interrupted: it resumes
    mark_complete(model, tmp_path)
    assert resolve(model, tmp_path).digest == first  # gate and report still find it
    begin_fresh(model, tmp_path)
    second = resolve(model, tmp_path).digest
    assert second != first
    begin_fresh(model, tmp_path)
    assert resolve(model, tmp_path).digest == second
    assert resolve(spec("other"), tmp_path).digest not in (first, second)
    named = spec(fingerprint="v1")
    before = resolve(named, tmp_path).digest
    mark_complete(named, tmp_path)
    begin_fresh(named, tmp_path)
    assert resolve(named, tmp_path).digest == before
    for file in (tmp_path / "endpoints").glob("*.json"):
        file.write_text("{damaged")
    assert resolve(model, tmp_path).digest not in (first, second)


def test_chat_goes_out_as_messages(tmp_path: Path) -> None:
    point = resolve(spec(), tmp_path)
    asked = PromptSpec("generate", "Q: 3?", system="Count.", chat_question="3?")
    prompt, _ = render(asked, "chat", point)
    assert prompt.messages == (Message("system", "Count."), Message("user", "3?"))
    for form, extra, words in (
        ("rank", {"choices": ("a",)}, "cannot be scored"),
        ("generate", {"prefill": "a"}, "begun"),
    ):
        with pytest.raises(UsageError, match=words):
            render(PromptSpec(form, "Q", **extra), "chat", point)  # type: ignore[arg-type]
    jobs = [fakes.job(fakes.FakeTask("add", 5), "chat"), fakes.job(fakes.FakeTask("pick", 5, "rank"), "chat")]
    plan = build_plan(jobs, point)
    hashes = {o.prompt_text_hash for origins in plan.origins.values() for o in origins}
    assert len(hashes) == len(plan.requests) == 5  # another prompt, another hash
    assert len(plan.skipped) == 1
    assert "pick in the chat view" in plan.skipped[0]
    assert "5 items not asked" in plan.skipped[0]


@pytest.mark.parametrize(
    ("can", "limits"),
    [
        ({}, Limits()),
        ({"echo": False}, Limits(score="/completions does not echo log-probabilities")),
        ({"text": False}, Limits(score="/completions refuses", complete="/completions refuses")),
        ({"chat": False}, Limits(chat="/chat/completions refuses")),
    ],
)
def test_what_it_can_is_found_out(can: dict[str, bool], limits: Limits, tmp_path: Path) -> None:
    with faulty.running(**can) as endpoint:
        engine = make_engine(served(endpoint.base_url, tmp_path))
        found = engine.limits  # type: ignore[attr-defined]
        asked = len(endpoint.asked)
        have = engine.capabilities
        assert len(endpoint.asked) == asked  # once
    for name in ("score", "complete", "chat"):
        assert bool(getattr(found, name)) == bool(getattr(limits, name)), found
        assert getattr(found, name).startswith(getattr(limits, name))
    assert (have.score, have.accepts_messages) == (not limits.score, not limits.chat)
    assert have.generate


def test_optional_fields_that_a_server_refuses_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(self: Any, body: dict[str, Any]) -> Any:
        for name in ("seed", "logprobs", "stream_options"):
            if name in body:
                return self._error(400, f"unknown field {name}")
        return original(self, body)

    original = faulty._Handler._served
    monkeypatch.setattr(faulty._Handler, "_served", picky)
    with faulty.running() as endpoint:
        engine = make_engine(served(endpoint.base_url, tmp_path))
        assert "refuses echo with logprobs: 400: unknown field logprobs" in engine.limits.score  # type: ignore[attr-defined]
        (answer,) = engine.run(build_plan([fakes.job(fakes.FakeTask("add", 1))], engine.checkpoint).requests)  # type: ignore[attr-defined]
    assert answer.error is None
    assert answer.generations[0].text == faulty.said("add 0?")
    assert answer.generations[0].logprobs is None
    assert answer.first_token_seconds is None  # it came in one piece
    assert answer.seconds is not None


def test_a_server_that_is_down_or_serves_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"base_url: http://127.0.0.1:9/v1: no answer after .*; start the server"):
        _ = make_engine(resolve(spec(), tmp_path)).capabilities
    with faulty.running(models=("a", "b")) as endpoint, pytest.raises(UsageError, match=r"no 'm'; it serves a, b$"):
        _ = make_engine(served(endpoint.base_url, tmp_path)).capabilities
    with (
        faulty.running(text=False, chat=False) as endpoint,
        pytest.raises(UsageError, match="serves neither text") as e,
    ):
        _ = make_engine(served(endpoint.base_url, tmp_path)).capabilities
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("can", [{}, {"text": False}])
def test_a_plan_that_reads_is_refused_before_anything_runs(can: dict[str, bool], tmp_path: Path) -> None:
    """Also where a server echoes with log-probabilities; and nothing of it falls out as if it were a generation."""
    with faulty.running(**can) as endpoint:
        engine = make_engine(served(endpoint.base_url, tmp_path))
        have = engine.capabilities
        probed = len(endpoint.asked)
        read = Request("r", "x", Prompt(text="q"), Read((1, 2)))
        plan = Plan((read,), {"r": ()})
        assert within(plan, engine.limits, "served") is plan  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match="engine: cannot read given tokens, which the suite asks for") as caught:
            check_capabilities(have, plan.requests)
        assert "\n" not in str(caught.value)
        assert len(endpoint.asked) == probed
        assert [a.error for a in engine.run([read])] == ["an endpoint cannot read given tokens"]
        assert len(endpoint.asked) == probed


def test_what_falls_out_is_named_and_the_rest_runs(tmp_path: Path) -> None:
    point = resolve(spec(fingerprint="v1"), tmp_path)
    plan = build_plan(fakes.jobs(4), point)
    cut = within(plan, Limits(score="no echo"), "served")
    assert cut.skipped[-1] == "served: cannot score continuations (no echo): pick not asked"
    assert {o.item.task for r in cut.requests for o in cut.origins[r.request_id]} == {"add", "dice"}
    assert len(cut.requests) == len(plan.requests) - 4
    chat = within(plan, Limits(chat="refused"), "served")
    assert chat.skipped[-1] == "served: cannot chat (refused): add (chat) not asked"
    text = within(plan, Limits("x", "chat model"), "served")
    assert {o.style for r in text.requests for o in text.origins[r.request_id]} == {"chat"}
    assert set(text.skipped[len(plan.skipped) :]) == {
        "served: cannot continue text (chat model): add, dice not asked",
        "served: cannot score continuations (x): pick not asked",
    }
    with pytest.raises(UsageError, match="nothing of the suite can be asked"):
        within(build_plan([fakes.job(fakes.FakeTask("pick", 4, "rank"))], point), Limits(score="no echo"), "served")
    assert within(plan, Limits(), "served") is plan


def test_limits_are_remembered_for_commands_that_ask_nothing(tmp_path: Path) -> None:
    point = resolve(spec(fingerprint="v1"), tmp_path)
    plan = build_plan(fakes.jobs(4), point)

    def down() -> Limits:
        raise UsageError("served", "is down", "start it")

    with pytest.raises(UsageError, match="is down"):
        askable(plan, point, tmp_path, down)
    cut = askable(plan, point, tmp_path, lambda: Limits(score="no echo"))
    assert known_limits(point.spec, tmp_path) == Limits(score="no echo")
    assert askable(plan, point, tmp_path, None) == cut
    assert askable(plan, point, tmp_path, down) == cut  # what lies on disk needs no server
    assert askable(plan, point, tmp_path, Limits) is plan
    assert askable(plan, point, tmp_path, None) is plan


def workspace(folder: Path, url: str, **args: Any) -> Path:
    rows = [{"id": f"i{n}", "task_type": "a/b", "prompt": f"{n}?", "references": ["it is 1"]} for n in range(30)]
    choice = [
        {**r, "prompt": f"which {r['id']}?", "choices": ["x", "y"], "answer": 0, "scorer": "choice"} for r in rows
    ]
    for name, items in (("gen", rows), ("pick", [{k: v for k, v in c.items() if k != "references"} for c in choice])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in items))
    tasks = [{"set": "gen.jsonl", "scorer": "exact"}, {"set": "pick.jsonl", "scorer": "choice"}]
    (folder / "suite.yaml").write_text(yaml.safe_dump({"name": "s", "views": ["ability", "chat"], "tasks": tasks}))
    said = {"base_url": url, "model": "m", "concurrency": 8, **args}
    models = {name: {"engine": "openai", "engine_args": dict(said)} for name in ("base", "sft")}
    file = folder / "forgetbench.yaml"
    file.write_text(yaml.safe_dump({"models": models, "suite": "suite.yaml"}))
    return file


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["forgetbench", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.mark.parametrize("fingerprint", [None, "v1"])
def test_commands_on_an_endpoint(
    fingerprint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compare, gate and report; a finished run is used again only where the weights have a name."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with faulty.running(echo=False) as endpoint:
        config = str(workspace(tmp_path, endpoint.base_url, **({"fingerprint": fingerprint} if fingerprint else {})))
        flags = ("base", "sft", "--config", config)
        # The two are one model: no difference, yet 30 items are too few to say so.
        assert call(monkeypatch, "compare", *flags) in (0, 11)
        out = " ".join(capsys.readouterr().out.split())
        assert "base: cannot score continuations (/completions does not echo log-probabilities" in out
        assert "pick not asked" in out
        assert "pick in the chat view" in out
        first = len([b for b in endpoint.asked if "quick brown" not in faulty.as_text(b)])
        endpoint.asked.clear()
        assert call(monkeypatch, "gate", *flags) in (0, 11)
        assert endpoint.asked == []
        assert call(monkeypatch, "compare", *flags) in (0, 11)
        again = len([b for b in endpoint.asked if "quick brown" not in faulty.as_text(b)])
        assert first == (60 if fingerprint else 120)  # two names of one model: the cache knows the second
        assert again == (0 if fingerprint else first)
    assert call(monkeypatch, "gate", *flags) in (0, 11)  # the server is gone
    expected = 0 if fingerprint else 2
    capsys.readouterr()
    assert (call(monkeypatch, "run", "base", "--config", config) == 2) == (expected == 2)
    assert ("start the server" in capsys.readouterr().err) == (expected == 2)
