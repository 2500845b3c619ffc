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
from forgetbench.training.check.rows import Row, Turn
from forgetbench.training.recipe import FromBase, Recipe, SelfDistillation
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
    rows = [row("one?", "x"), Row("t:1", (Turn("", "plain"),), None, plain=True), row("two?", "y", "c/d")]
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

    for rows, prompt, ids in (([], [2], [7, 8, 2]), ([row("ab", "x")], None, [7, 8])):
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
