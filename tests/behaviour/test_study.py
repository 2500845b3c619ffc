"""What is put together from runs and readings, without a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from forgetbench import imported, studying
from forgetbench.analysis.distribution import distribution_measures
from forgetbench.analysis.outputs import Answered, Output
from forgetbench.behaviour.contexts import Text
from forgetbench.behaviour.study import looks, own_tokens, said_next
from forgetbench.behaviour.types import Study
from forgetbench.types import Prompt
from tests.analysis.null_worlds import contexts

pytestmark = pytest.mark.unit


def test_each_view_is_a_group_of_its_own() -> None:
    made = [replace(c, item=f"{c.item} ({view})") for view in ("chat", "ability") for c in contexts(view == "chat", 9)]
    own = [
        Text(c.item, Prompt(text="Q"), tuple(c.token_ids.tolist()), 9, view="chat" if "chat" in c.item else "ability")
        for c in made
    ]
    groups = said_next(own, made)
    assert [(g.title, g.view) for g in groups] == [("What it would say next", v) for v in ("ability", "chat")]
    for group, part in zip(groups, (made[9:], made[:9]), strict=True):
        assert group.about.startswith("9 of")
        expected = distribution_measures(part)
        assert [m.base for m in group.measures[: len(expected)]] == [m.base for m in expected]
    assert said_next(own[:9], made[:9])[0].view == "chat"


def test_samples_of_one_request_read_its_prompt_once() -> None:
    rows = [("a", sample, 100, 7) for sample in range(8)]
    rows += [("b", 0, 30, 5), ("b", 0, 30, 5)]  # asked once for two views
    rows += [(None, 0, 11, 1), (None, 0, 11, None)]  # imported: no request
    frame = pd.DataFrame(rows, columns=["request_id", "sample", "n_prompt_tokens", "n_output_tokens"])
    side = SimpleNamespace(run=SimpleNamespace(records=lambda columns: frame[columns]))
    assert own_tokens(cast("Any", side)) == 100 + 8 * 7 + 35 + 2 * 11 + 1


def sided(tokenizer: str | None, vocabulary: int = 0) -> Any:
    config = {"vocab_size": vocabulary} if vocabulary else {}
    return SimpleNamespace(point=SimpleNamespace(parts={"tokenizer": tokenizer}, tokenizer_folder=None, config=config))


def same_texts(unknown: bool = False) -> dict[tuple[str, str, str], list[Answered]]:
    """Equal texts that the base cuts into words, the candidate into characters."""
    made = []
    for n in range(40):
        text = f"The answer is town {n} of the land."
        words = tuple(-1 if unknown else hash(w) % 10_000 for w in text.split())
        sides = [Output(text, words, "stop"), Output(text, tuple(map(ord, text)), "stop")]
        made.append(Answered(str(n), (sides[0],), (sides[1],)))
    return {("towns", "ability", "greedy"): made}


@pytest.mark.parametrize("unknown", [False, True])
def test_equal_texts_are_equal_whoever_cut_them(unknown: bool) -> None:
    notes: list[str] = []
    sides = sided("one", 5000), sided("one" if unknown else "two", 70)
    groups = looks(same_texts(unknown), *sides, None, notes)
    measures = [m for g in groups for m in g.measures]
    assert {"ead_across_inputs", "self_repetition_4", "answer_length"} <= {m.name for m in measures}
    assert [m.name for m in measures if m.base != m.candidate or m.proven] == []
    why = "an endpoint does not name its tokens" if unknown else "the tokenizers differ"
    assert notes == [f"words stand for tokens in how answers look and vary: {why}"]
    assert {m.name: m.base for m in measures}["answer_length"] == 9  # eight words and a mark


def test_without_a_known_vocabulary_only_ead_is_left_out() -> None:
    """A script or a folder without config.json: no number of words is put in its place, the tokens are known."""
    notes: list[str] = []
    (_, varied) = looks(same_texts(), sided(None), sided(None), None, notes)
    assert [m.name for m in varied.measures] == ["self_repetition_4", "compression_ratio"]
    (note,) = notes
    assert note.startswith("no EAD among")
    assert looks({}, sided(None), sided(None), None, []) == []


@dataclass(frozen=True)
class Judged:
    comparisons: tuple[Any, ...]
    against: dict[str, Any]


def test_an_imported_candidate_takes_no_training_examples_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def one(*arguments: Any, **_: Any) -> Any:
        given[arguments[4].candidate.alias] = arguments[8]
        return arguments[4]

    monkeypatch.setattr(studying, "_one", one)
    monkeypatch.setattr(studying, "what", lambda _: Study())
    monkeypatch.setattr(studying, "embedder", lambda _: None)
    monkeypatch.setattr(imported, "is_imported", lambda _, alias: alias == "logged")
    judged = []
    for alias in ("logged", "sft"):
        pair = SimpleNamespace(base=SimpleNamespace(alias="base"), candidate=SimpleNamespace(alias=alias))
        judged.append(Judged((pair,), {"base": pair}))
    nothing = cast("Any", None)
    examples = cast("Any", ["a line"])
    studying.studied(nothing, nothing, {}, {}, cast("Any", judged), nothing, examples=examples)
    assert given == {"logged": (), "sft": ["a line"]}
