"""The engine without a model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.engines.registry import make_engine
from forgetbench.engines.scripted import ScriptedEngine
from forgetbench.errors import UsageError
from forgetbench.types import Generate, Message, Prompt, Read, Request, Response, Score

pytestmark = pytest.mark.unit


def ask(text: str, body: Generate | Score | Read, name: str = "r") -> Request:
    return Request(name, "x", Prompt(text=text), body)


def first(engine: Any, request: Request) -> Response:
    return next(iter(engine.run([request])))


def write(folder: Path, name: str, content: Any) -> ModelSpec:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return ModelSpec("s", engine="scripted", engine_args={"script": str(file)})


def test_a_function_answers_both_kinds() -> None:
    engine = ScriptedEngine(lambda r: 1 if isinstance(r.body, Score) else f"<{r.prompt.text}> STOP more")
    scored = first(engine, ask("q", Score((" A", " B", " C"))))
    assert [s.is_greedy for s in scored.scores] == [False, True, False]
    assert math.fsum(math.exp(s.logprob) for s in scored.scores) == pytest.approx(1.0)
    made = first(engine, ask("q", Generate(100, stop=("STOP",))))
    assert (made.generations[0].text, made.generations[0].finish_reason) == ("<q> ", "stop")
    cut = first(engine, ask("q", Generate(2))).generations[0]
    assert (cut.text, cut.finish_reason, len(cut.token_ids)) == ("<q", "length", 2)


def test_readings_are_made_up_and_whole() -> None:
    """The parts of a position fit together, and the same context has the same distribution in any request."""
    engine = ScriptedEngine(lambda r: "nothing to do with it")
    tokens = tuple(map(ord, "it is 42"))
    reading = first(engine, ask("q", Read(tokens, top_m=40, at=((*range(200), 2_000_000),) * 8))).reading
    assert reading is not None
    assert reading.top is not None
    assert reading.at is not None
    for i, (top, at) in enumerate(zip(reading.top, reading.at, strict=True)):
        assert top.ids[0] == reading.argmax[i]
        assert list(top.logprobs) == sorted(top.logprobs, reverse=True)
        assert len(set(top.ids)) == 40
        assert reading.logprobs[i] == at[tokens[i]]
        assert [at[t] for t in top.ids if t < 200] == [v for t, v in zip(top.ids, top.logprobs, strict=True) if t < 200]
        assert math.fsum(map(math.exp, top.logprobs)) + top.tail_mass == pytest.approx(1.0)
        masses = [*map(math.exp, top.logprobs), *[math.exp(at[-1])] * (2**21 - 40)]
        assert math.fsum(masses) == pytest.approx(1.0)
        assert reading.entropies[i] == pytest.approx(
            -math.fsum(p * math.log(p) for p in masses[:40])
            - math.fsum([masses[-1] * math.log(masses[-1])] * (2**21 - 40))
        )
        size = reading.nucleus_sizes[i]
        assert math.fsum(masses[: size - 1]) < 0.95 <= math.fsum(masses[:size])
    again = first(ScriptedEngine(lambda r: None), ask("q", Read(tokens[:3]))).reading
    assert again is not None
    assert again.logprobs == reading.logprobs[:3]
    assert again.at is again.top is None
    other = Request("r", "another checkpoint", Prompt(text="q"), Read(tokens[:3]))
    assert first(engine, other).reading != again
    assert first(engine, ask("p", Read(tokens[:3]))).reading != again
    assert "beyond the model's vocabulary" in (first(engine, ask("q", Read((1 << 21,)))).error or "")


def test_a_script_may_answer_a_read_itself(tmp_path: Path) -> None:
    own = ScriptedEngine(lambda r: Response(r.request_id, error="down"))
    assert first(own, ask("q", Read((1,)))).error == "down"
    rules = [
        {"match": "broken", "error": "no such thing"},
        {"match": "a", "text": "x"},
        {"match": "able", "error": "y"},
    ]
    engine = make_engine(resolve(write(tmp_path, "s.json", {"rules": rules})))
    assert engine.capabilities.read
    assert first(engine, ask("it is broken", Read((1,)))).error == "no such thing"
    for text in ("a table", "nothing matches"):
        assert first(engine, ask(text, Read((1,)))).reading is not None


def test_samples_and_whole_responses() -> None:
    engine = ScriptedEngine(lambda r: ["a", "b"])
    three = first(engine, ask("q", Generate(9, temperature=1.0, seeds=(1, 2, 3))))
    assert [g.text for g in three.generations] == ["a", "b", "a"]
    own = ScriptedEngine(lambda r: Response(r.request_id, error="down"))
    assert first(own, ask("q", Generate(9))).error == "down"


def test_a_failing_script_is_that_requests_error() -> None:
    def answer(request: Request) -> Any:
        if request.request_id == "bad":
            raise RuntimeError("no\nluck")
        return "fine" if request.request_id == "good" else 7

    engine = ScriptedEngine(answer)
    asked = [ask("q", Generate(9), "bad"), ask("q", Generate(9), "good"), ask("q", Score(("a", "b")), "range")]
    answers = {r.request_id: r for r in engine.run(asked)}
    assert answers["bad"].error == "RuntimeError: no luck"
    assert answers["good"].error is None
    assert "choice 7 of 2" in (answers["range"].error or "")


def test_json_rules(tmp_path: Path) -> None:
    script = {
        "rules": [
            {"match": "2+2", "text": "4"},
            {"match": "^Moon", "regex": True, "text": ["x", "y"]},
            {"match": "broken", "error": "no such thing"},
            {"match": "2+2", "choice": 2},
        ],
        "default": {"text": "?", "choice": 0},
    }
    spec = write(tmp_path, "s.json", script)
    engine = make_engine(resolve(spec))
    assert first(engine, ask("What is 2+2?", Generate(9))).generations[0].text == "4"
    assert [s.is_greedy for s in first(engine, ask("2+2", Score(("a", "b", "c")))).scores] == [False, False, True]
    assert first(engine, ask("the Moon", Generate(9))).generations[0].text == "?"
    assert first(engine, ask("Moon", Generate(9))).generations[0].text == "x"
    assert first(engine, ask("broken", Score(("a", "b")))).error == "no such thing"
    messages = Request("m", "x", Prompt(messages=(Message("user", "2+2"),)), Generate(9))
    assert first(engine, messages).generations[0].text == "4"


def test_python_script_with_a_name_and_delay(tmp_path: Path) -> None:
    spec = write(tmp_path, "s.py", "def mine(request):\n    return request.prompt.text.upper()\n")
    spec = ModelSpec("s", engine="scripted", engine_args={"script": spec.engine_args["script"] + "::mine"})
    engine = make_engine(resolve(spec), delay=0.05)
    response = first(engine, ask("abc", Generate(9)))
    assert response.generations[0].text == "ABC"


def test_identity_is_the_scripts_content(tmp_path: Path) -> None:
    one = resolve(write(tmp_path, "a.json", {"default": {"text": "x"}}))
    same = resolve(write(tmp_path, "b.json", {"default": {"text": "x"}}))
    other = resolve(write(tmp_path, "c.json", {"default": {"text": "y"}}))
    assert one.digest == same.digest != other.digest
    assert make_engine(one).identity == make_engine(same).identity != make_engine(other).identity
    assert not one.has_chat_template


def test_a_scripted_model_may_have_a_template(tmp_path: Path) -> None:
    spec = write(tmp_path, "a.json", {"default": {"text": "x"}})
    with_template = ModelSpec(
        "s", engine="scripted", engine_args=spec.engine_args, chat_template="{{ messages[0].content }}!"
    )
    checkpoint = resolve(with_template)
    assert checkpoint.has_chat_template
    assert checkpoint.render_chat((Message("user", "hi"),)) == "hi!"
    assert checkpoint.digest != resolve(spec).digest


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.json", "{", "not valid JSON"),
        ("s.json", [], "not a script"),
        ("s.json", {"ruels": []}, "not a script"),
        ("s.json", {"rules": [{"text": "x"}]}, "has no `match`"),
        ("s.json", {"rules": [{"match": "x"}]}, "none of `text`"),
        ("s.json", {"rules": [{"match": "(", "regex": True, "text": "x"}]}, "regular expression"),
        ("s.py", "def f(:", "fails on import"),
        ("s.py", "x = 1", "no function `answer`"),
        ("s.txt", "x", "neither .py nor .json"),
    ],
)
def test_scripts_that_cannot_be_used(tmp_path: Path, name: str, content: Any, words: str) -> None:
    spec = write(tmp_path, name, content)
    with pytest.raises(UsageError, match=words) as caught:
        make_engine(resolve(spec))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [({}, "is missing"), ({"script": "nowhere.py"}, "no such file"), ({"script": 3}, "is missing")],
)
def test_no_script(args: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(ModelSpec("s", engine="scripted", engine_args=args))


@pytest.mark.parametrize("args", [{"speed": 1}, {"delay": -1}, {"delay": "x"}])
def test_arguments_are_checked(tmp_path: Path, args: dict[str, Any]) -> None:
    checkpoint = resolve(write(tmp_path, "s.json", {"default": {"text": "x"}}))
    with pytest.raises(UsageError, match=next(iter(args))):
        make_engine(checkpoint, **args)


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    spec = write(tmp_path, "s.json", {"default": {"text": "x"}})
    code = f"""
import sys
from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.engines.registry import make_engine
from forgetbench.types import Generate, Prompt, Request
engine = make_engine(resolve(ModelSpec("s", engine="scripted", engine_args={dict(spec.engine_args)!r})))
print([r.generations[0].text for r in engine.run([Request("a", "x", Prompt(text="q"), Generate(5))])])
assert not set(sys.modules) & {{"torch", "transformers", "numpy", "pandas"}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['x']"
