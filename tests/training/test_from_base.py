"""Texts that the base writes for replay, and answers that it rewrites."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.training import distil, fit, from_base, manifest
from forgetbench.training.prepare import prepare
from forgetbench.training.recipe import FromBase, PromptFile, Recipe, SelfDistillation
from forgetbench.types import Generate, Generation, Request, Response
from tests.training import tiny
from tests.training.made import asker, chat, point, row, write

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _point(template: str | None = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}") -> Any:
    made = dataclasses.replace(point(template), stop_ids=(2,))
    made.__dict__["_tokenizer"] = tiny.tokenizer()
    return made


def _says(ids: tuple[int, ...], reason: str) -> Any:
    def answer(request: Request) -> Response:
        return Response(request.request_id, generations=(Generation("text", ids, reason),))  # type: ignore[arg-type]

    return answer


def test_prompts_are_answered_in_turn_each_draw_with_a_seed_of_its_own() -> None:
    ask, seen = asker(_says((7, 8, 2), "stop"))
    rows = [from_base.Asked(row("one?", "x")), from_base.Asked(row("two?", "y", "c/d"))]
    made = from_base.written(_point(), ask, rows, FromBase(n=5, temperature=0.7, max_tokens=9), 3)
    assert [line["task_type"] for line in made] == ["a/b", "c/d", "a/b", "c/d", "a/b"]
    assert [r.prompt.text for r in seen] == ["<user>one?", "<user>two?"] * 2 + ["<user>one?"]
    bodies = [r.body for r in seen]
    assert all(isinstance(b, Generate) and (b.temperature, b.max_tokens) == (0.7, 9) for b in bodies)
    seeds = [line["seed"] for line in made]
    assert len(set(seeds)) == 5
    again, _ = asker(_says((7, 8, 2), "stop"))
    assert from_base.written(_point(), again, rows, FromBase(n=5, temperature=0.7, max_tokens=9), 3) == made
    other, _ = asker(_says((7, 8, 2), "stop"))
    assert [x["seed"] for x in from_base.written(_point(), other, rows, FromBase(n=5), 4)] != seeds


def test_samples_are_the_drawn_tokens_and_end_only_where_the_base_ended(tmp_path: Path) -> None:
    def said(request: Request) -> Response:
        ended = (request.prompt.token_ids or ())[:1] == (2,)
        return Response(request.request_id, generations=(Generation("t", (7, 8), "stop" if ended else "length"),))

    for rows, prompt, ids in (([], [2], [7, 8, 2]), ([from_base.Asked(row("ab", "x"))], None, [7, 8])):
        ask, seen = asker(said)
        lines = from_base.written(_point(template=None), ask, rows, FromBase(n=1), 0)
        assert lines[0]["ids"] == ids
        if prompt is None:
            assert seen[0].prompt.text == "ab\n"
            prompt = tiny.tokenizer()("ab\n")["input_ids"]
        from_base.keep(tmp_path / "made", lines)
        (sample,) = from_base.samples(tmp_path / "made", 64)
        assert sample.ids.tolist() == [*prompt, *ids]
        assert sample.mask.tolist() == [0.0] * len(prompt) + [1.0] * len(ids)
    (cut,) = from_base.samples(tmp_path / "made", 4)
    assert len(cut.ids) == 4
    with pytest.raises(UsageError, match=r"samples\.jsonl:1: its prompt has 3 tokens, the limit is 3"):
        from_base.samples(tmp_path / "made", 3)


def test_task_type_and_weight_of_a_prompt_file_are_those_of_what_is_written(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl", [{"prompt": "one?", "answer": "x"}, {"text": "plain"}, chat("two?", "y", task_type="c/d")]
    )
    write(tmp_path / "b.jsonl", [{"question": "three?"}])
    files = [PromptFile(path="a.jsonl", task_type="general/ask", weight=3), PromptFile(path="b.jsonl")]
    ask, seen = asker(_says((7, 2), "stop"))
    lines = from_base.written(_point(), ask, from_base.asked(files, tmp_path), FromBase(n=3), 0)
    assert [r.prompt.text for r in seen] == ["<user>one?", "<user>two?", "<user>three?"]
    from_base.keep(tmp_path / "made", lines)
    made = [(s.task_type, s.factor) for s in from_base.samples(tmp_path / "made", 64)]
    assert made == [("general/ask", 3), ("c/d", 3), (None, 1)]


def test_prompts_that_ask_nothing_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [chat("two?", "y")])
    (tmp_path / "t.txt").write_text("some text")
    with pytest.raises(UsageError, match=r"/t\.txt: asks nothing; name chats or pairs"):
        from_base.asked([PromptFile(path="a.jsonl"), PromptFile(path="t.txt")], tmp_path)
    (tmp_path / "s.jsonl").write_text(r'{"prompt": "a\ud800b", "answer": "x"}')
    with pytest.raises(UsageError, match=r"/s\.jsonl:1: holds '\\ud800', half of a character"):
        from_base.asked([PromptFile(path="s.jsonl")], tmp_path)


def test_kept_samples_that_were_changed_are_not_used(tmp_path: Path) -> None:
    ask, _ = asker(_says((7, 2), "stop"))
    folder = tmp_path / "made"
    assert manifest.damage(folder) is not None
    from_base.keep(folder, from_base.written(_point(), ask, [], FromBase(n=2), 0))
    assert manifest.damage(folder) is None
    file = folder / from_base.SAMPLES
    file.write_text(file.read_text().replace("7", "9"))
    assert manifest.damage(folder) == "samples.jsonl is not what was written"


def test_a_base_that_writes_nothing_is_said() -> None:
    ask, _ = asker(lambda request: Response(request.request_id, error="gone"))
    with pytest.raises(ForgetbenchError, match=r"replay\.from_base: the base wrote nothing"):
        from_base.written(_point(), ask, [], FromBase(n=2), 0)


LINES: list[dict[str, Any]] = [
    chat("Capital of Peru?", "Lima", task_type="geo/capital", weight=2.0),
    {"prompt": "Capital of Chile?", "answer": "Santiago"},
    {"conversations": [{"from": "human", "value": "Capital of Oman?"}, {"from": "gpt", "value": "Muscat"}]},
    {"text": "plain text stays"},
    {"prompt": "Capital of Cuba?", "answer": "Havana"},
]


def _rewritten(tmp_path: Path, said: dict[str, Any], **settings: Any) -> tuple[distil.Rewritten, list[Request]]:
    def answer(request: Request) -> Response:
        text, reason = next(v for k, v in said.items() if k in (request.prompt.text or ""))
        return Response(request.request_id, generations=(Generation(text, (1,), reason),))

    ask, seen = asker(answer)
    file = write(tmp_path / "d.jsonl", LINES)
    return distil.rewritten(file, _point(), ask, SelfDistillation(**settings)), seen


SAID = {
    "Peru": (" It is Lima. ", "stop"),
    "Chile": ("It is Valparaiso.", "stop"),
    "Oman": ("It is muscat, on the coast.", "stop"),
    "Cuba": ("It is Havana and", "length"),
}


def test_an_answer_is_replaced_where_the_new_one_passes_and_kept_where_it_fails(tmp_path: Path) -> None:
    made, seen = _rewritten(tmp_path, SAID)
    assert (made.new, made.asked) == (2, 4)
    peru, chile, oman, plain, cuba = made.lines
    assert peru["messages"] == [
        {"role": "user", "content": "Capital of Peru?"}, {"role": "assistant", "content": "It is Lima."}
    ]  # fmt: skip
    assert (peru["task_type"], peru["weight"]) == ("geo/capital", 2.0)
    assert (chile["answer"], chile["provenance"]["rewritten"]) == ("Santiago", False)
    assert "fails the check" in chile["provenance"]["why"]
    assert oman["conversations"][-1] == {"from": "gpt", "value": "It is muscat, on the coast."}
    assert plain == {"text": "plain text stays"}
    assert (cuba["answer"], cuba["provenance"]["why"]) == ("Havana", "it is truncated")
    assert peru["provenance"] == {
        "source": "d.jsonl:1", "model": "made", "digest": "0123456789abcdef", "rewritten": True,
        "why": "passed its check", "original": "Lima",
    }  # fmt: skip
    assert "Capital of Peru?" in str(seen[0].prompt.text)
    assert "Lima" in str(seen[0].prompt.text)
    assert LINES[0]["messages"][-1]["content"] == "Lima", "what was read is not changed"


def test_without_a_check_an_answer_still_has_to_be_one(tmp_path: Path) -> None:
    said = {**SAID, "Peru": ("  ", "stop"), "Oman": ("I'm sorry, but I can't help with that.", "stop")}
    made, _ = _rewritten(tmp_path, said, check="none")
    assert [x.get("provenance", {}).get("why") for x in made.lines] == [
        "it is empty", "passed its check", "it is refused", None, "it is truncated"
    ]  # fmt: skip


def test_the_answer_that_is_learnt_is_the_one_that_is_rewritten(tmp_path: Path) -> None:
    rows = [
        {"question": "6*7?", "answer": "42", "response": "I think that it is 42.", "output": 5},
        {"prompt": "Translate", "input": "Hello", "output": "Hallo", "system": "Be kind"},
        {"prompt": "Pick", "chosen": "good", "rejected": "bad"},
    ]
    ask, seen = asker(lambda r: Response(r.request_id, generations=(Generation("new", (1,), "stop"),)))
    made = distil.rewritten(write(tmp_path / "d.jsonl", rows), _point(), ask, SelfDistillation(check="none"))
    assert [(x.get("answer"), x.get("output"), x.get("chosen")) for x in made.lines] == [
        ("new", 5, None), (None, "new", None), (None, None, "new")
    ]  # fmt: skip
    assert [x["provenance"]["original"] for x in made.lines] == ["42", "Hallo", "good"]
    assert str(seen[1].prompt.text).startswith("<system>Be kind<user>Translate\nHello\n\nA correct answer is:\nHallo")


def test_bad_lines_are_named_before_the_base_is_asked(tmp_path: Path) -> None:
    bad: list[tuple[Any, str]] = [
        ({"messages": "not json"}, "`messages` is a text that is not JSON"),
        ({"messages": ["hi"]}, "turn 1 is not an object"),
        ({"messages": [{"role": "user", "content": 5}]}, "turn 1 has no text"),
        ({"prompt": 5, "answer": "a"}, "`prompt` is not a text"),
        ({"prompt": "q", "answer": "a\ud800"}, "half of a character"),
        ({"prompt": "q", "answer": "a", "weight": 0}, "`weight` is 0"),
        ([1], "is not an object"),
    ]
    file = write(tmp_path / "d.jsonl", [LINES[0], *(example for example, _ in bad)])
    file.write_text(file.read_text() + "{\n")
    ask, seen = asker(_says((7, 2), "stop"))
    with pytest.raises(ForgetbenchError) as caught:
        distil.rewritten(file, _point(), ask, SelfDistillation())
    told = str(caught.value).splitlines()
    for number, (_, message) in enumerate([*bad, (None, "not JSON")], 2):
        (line,) = [t for t in told if f"{file}:{number}: " in t]
        assert message in line
    assert not seen


def test_prepare_reads_every_file_before_it_opens_the_base(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", LINES)
    write(tmp_path / "bad.jsonl", [{"messages": ["hi"]}])
    recipe = _recipe(data=[{"path": "data.jsonl"}, {"path": "bad.jsonl"}], self_distillation={})
    with pytest.raises(UsageError, match=r"bad\.jsonl:1: turn 1 is not an object"):
        prepare(recipe, tmp_path, str(tmp_path / "no base"), tmp_path / "out")
    (tmp_path / "t.txt").write_text("some text")
    recipe = _recipe(replay={"share": 0.1, "from_base": {"prompts": [{"path": "t.txt"}]}})
    with pytest.raises(UsageError, match=r"t\.txt: asks nothing"):
        prepare(recipe, tmp_path, str(tmp_path / "no base"), tmp_path / "out")


def _recipe(**settings: Any) -> Recipe:
    base = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-3, "max_length": 64, "steps": 3}
    return Recipe.model_validate({**base, **settings})


@pytest.mark.slow
def test_a_run_replays_what_its_own_base_wrote_and_a_resumed_one_asks_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.world(tmp_path)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    recipe = _recipe(
        replay={"share": 0.3, "from_base": {"n": 6, "max_tokens": 8, "prompts": [{"path": "data.jsonl"}]}},
        self_distillation={"check": "none", "max_tokens": 6},
    )
    out = tmp_path / "out"
    trained = fit.train(recipe, tmp_path, str(tmp_path / "base"), out, told.append)
    assert any("6 texts written by the base" in line for line in told)
    assert any("of 24 answers in the base's own words" in line for line in told)
    lines = [json.loads(x) for x in (out / from_base.FOLDER / from_base.SAMPLES).read_text().splitlines()]
    model, first = tiny.model().eval(), lines[0]
    assert len(lines) == 6
    with torch.no_grad():  # drawn from the base itself: no token that it all but rules out
        ids = torch.tensor([[*first["prompt_ids"], *first["ids"]]])
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
    at = np.arange(len(first["prompt_ids"]), ids.shape[1])
    assert float(min(logprobs[i - 1, ids[0, i]] for i in at)) > -12
    about = json.loads((out / manifest.TRAINING).read_text())
    assert sum(r["tokens"] for r in about["task_types"].values()) == about["tokens"]
    (out / "result.json").unlink()
    monkeypatch.setattr(from_base, "written", None)
    monkeypatch.setattr(distil, "rewritten", None)
    assert fit.train(recipe, tmp_path, str(tmp_path / "base"), out, told.append) == trained
