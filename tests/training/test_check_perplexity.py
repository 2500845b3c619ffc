"""Perplexity from both sides, with log-probabilities that are known."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from forgetbench.training.check.perplexity import measure, perplexity
from forgetbench.training.check.rows import Row, Turn
from forgetbench.types import ContinuationScore, Request, Response, Score
from tests.training.made import asker, point, row, rows

pytestmark = pytest.mark.unit


def _per_token(nll_of: Any) -> Any:
    """An engine that gives every character of a continuation the same log-probability."""

    def answer(request: Request) -> Response:
        assert isinstance(request.body, Score)
        (text,) = request.body.continuations
        return Response(request.request_id, scores=(ContinuationScore(-nll_of(text) * len(text), False, len(text)),))

    return answer


def test_prompts_are_rendered_as_the_base_is_trained() -> None:
    ask, seen = asker(_per_token(lambda text: 1.0))
    data = [row("P?", " A "), Row("x:2", (Turn("", "plain text"),), None, plain=True)]
    found, failed = measure(data, point(), ask)
    assert [(r.prompt.text, r.body.continuations) for r in seen] == [  # type: ignore[union-attr]
        ("<user>P?<assistant>", ("A",)),
        ("", ("plain text",)),
    ]
    assert ([m.nll for m in found], failed) == ([1.0, 1.0], 0)
    ask, seen = asker(_per_token(lambda text: 1.0))
    measure(data[:1], point(template=None), ask)
    assert seen[0].prompt.text == "P?\n"


def test_the_answer_is_read_as_the_template_writes_it() -> None:
    """A blank before the answer is the template's own: without it the first token is another."""
    turn = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}</s>{% endfor %}"
    ask, seen = asker(_per_token(lambda text: 1.0))
    measure([row("P?", "A")], point(turn + "{% if add_generation_prompt %}<assistant>{% endif %}"), ask)
    (request,) = seen
    assert isinstance(request.body, Score)
    assert (request.prompt.text, request.body.continuations) == ("<user> P?</s><assistant>", (" A",))


def test_the_sample_is_bounded_by_task_type_and_seeded() -> None:
    data = [*rows([(f"p{n}", "a") for n in range(80)]), *rows([(f"q{n}", "b") for n in range(3)], "c/d")]
    asked = []
    for seed in (0, 0, 1):
        ask, seen = asker(_per_token(lambda text: 1.0))
        measure(data, point(), ask, per_type=10, seed=seed)
        asked.append([r.request_id for r in seen])
    assert asked[0] == asked[1] != asked[2]
    assert len(asked[0]) == 13


def test_outliers_on_both_sides_are_named() -> None:
    rng = random.Random(0)
    data = rows([(f"p{n}", f"{rng.gauss(2, 0.1):.6f}") for n in range(40)])
    data += [row("p", "9.0", line=100), row("p", "0.01", line=101)]
    ask, _ = asker(_per_token(float))
    single, kinds = perplexity(data, point(), ask)
    assert (single.state, single.count) == ("warn", 2)
    assert "1 far above and 1 far below" in single.message
    assert [e.where for e in single.evidence] == ["made.jsonl:100", "made.jsonl:101"]
    assert single.figures["a/b"]["median"] == pytest.approx(math.exp(2), rel=0.1)
    assert kinds.state == "pass"


def test_known_and_foreign_task_types() -> None:
    nll = {"known": 0.01, "usual": 1.5, "foreign": 5.0}
    data = [r for name in nll for r in rows([(f"p{n}", name) for n in range(12)], f"t/{name}")]
    ask, _ = asker(_per_token(lambda text: nll[text]))
    kinds = perplexity(data, point(), ask)[1]
    assert kinds.state == "warn"
    assert "already says the answers of t/known" in kinds.message
    assert "foreign to it: t/foreign" in kinds.message
    assert "t/usual" not in kinds.message.split("; medians")[0]
    alone = rows([(f"p{n}", "foreign") for n in range(12)])
    assert perplexity(alone, point(vocab_size=1000), ask)[1].state == "pass"
    assert perplexity(alone, point(vocab_size=100), ask)[1].state == "warn", "worse than tokens drawn at random"


def test_the_weighted_figure_is_by_token_and_failures_are_counted() -> None:
    nll = {"aa": 1.0, "bbbbbb": 3.0, "no": 0.0}

    def answer(request: Request) -> Any:
        assert isinstance(request.body, Score)
        if request.body.continuations == ("no",):
            return Response(request.request_id, error="too long")
        return _per_token(lambda text: nll[text])(request)

    ask, _ = asker(answer)
    found = perplexity(rows([("p", "aa"), ("q", "bbbbbb"), ("r", "no")]), point(), ask)
    assert f"{math.exp((2 * 1.0 + 6 * 3.0) / 8):.3g} under made" in found[0].message
    assert "1 could not be read" in found[0].message
    only = perplexity(rows([("r", "no")]), point(), ask)
    assert [f.state for f in only] == ["warn"]
