"""Custom sets: what is asked, how it is scored, identity."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.scoring.scorers import Normalise
from forgetbench.tasks.custom import ChatFormat, RawFormat, SetSpec, load_set
from forgetbench.types import ContinuationScore, Generation, Message, Response, Shot

pytestmark = pytest.mark.unit

CAPITAL = {
    "task_type": "knowledge/capitals",
    "prompt": "Capital of Peru?",
    "references": ["Lima", "City of Lima"],
}
CHOICE = {
    "task_type": "knowledge/capitals",
    "prompt": "Which is in Peru?",
    "scorer": "choice",
    "choices": ["Quito", "Lima"],
    "answer": "Lima",
}
TALK = {
    "task_type": "chat/memory",
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "I am Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "Who am I?"},
    ],
    "references": "Ada",
    "scorer": "contains",
}
SUM = {"task_type": "reasoning/add", "prompt": "2 + 2?", "references": "4", "scorer": "numeric"}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def said(*texts: str) -> Response:
    return Response("r", generations=tuple(Generation(t, (1,), "stop") for t in texts))


def test_items(tmp_path: Path) -> None:
    line = {**CAPITAL, "id": "a1", "cluster": "peru"}
    task = load_set(write(tmp_path / "mine.jsonl", line, CHOICE, CAPITAL, TALK, SUM))
    items = task.load()
    assert [i.key.task for i in items] == ["mine"] * 5
    assert [i.gold for i in items] == ["Lima | City of Lima", "B. Lima", "Lima | City of Lima", "Ada", "4"]
    assert [i.key.occurrence for i in items] == [0, 0, 1, 0, 0]  # id and cluster are not what is asked
    assert items[0].key.content_hash == items[2].key.content_hash
    assert (items[0].cluster, items[1].n_choices, items[1].source) == ("peru", 2, "mine.jsonl:2")
    assert (task.metrics, task.binary) == (("correct",), True)


def test_the_gold_is_not_in_the_content_hash_and_what_is_asked_is(tmp_path: Path) -> None:
    other_gold = {**CAPITAL, "references": ["Cusco"]}
    asked = [
        CAPITAL,
        other_gold,
        {**CAPITAL, "chat_prompt": "Peru's capital?"},
        {**CAPITAL, "task_type": "a/b"},
    ]
    items = load_set(write(tmp_path / "s.jsonl", *asked)).load()
    assert items[0].key.content_hash == items[1].key.content_hash
    assert items[0].gold_hash != items[1].gold_hash
    assert len({i.key.content_hash for i in items}) == 3


def test_raw_and_chat_prompts_with_shots(tmp_path: Path) -> None:
    shots = [
        {**CAPITAL, "prompt": "Capital of Chad?", "references": ["N'Djamena"]},
        {**SUM, "prompt": "1 + 1?", "references": "2"},
        CAPITAL,
        {**CAPITAL, "prompt": "Capital of Cuba?", "references": ["Havana"], "chat_prompt": "And Cuba's?"},
    ]
    spec = SetSpec(
        name="s",
        path=write(tmp_path / "s.jsonl", CAPITAL),
        fewshot=write(tmp_path / "shots.jsonl", *shots),
        raw=RawFormat(question="Q: {prompt}\nA:", delimiter=" ", separator="\n\n", num_fewshot=2),
        chat=ChatFormat(question="{prompt} Answer briefly."),
        max_tokens=17,
    )
    task = load_set(spec)
    [item] = task.load()
    prompt = task.prompt(item, 2)
    # The first two of its own task_type, itself left out.
    assert prompt.shots == (
        Shot("Q: Capital of Chad?\nA:", "N'Djamena", "Capital of Chad? Answer briefly."),
        Shot("Q: Capital of Cuba?\nA:", "Havana", "And Cuba's? Answer briefly."),
    )
    assert prompt.question == "Q: Capital of Peru?\nA:"
    assert prompt.chat_question == "Capital of Peru? Answer briefly."
    assert (prompt.answer_delimiter, prompt.shot_delimiter) == (" ", "\n\n")
    assert (prompt.stop, prompt.max_tokens, prompt.form) == (("\n\nQ:",), 17, "generate")
    assert task.prompt(item, 0).shots == ()
    assert task.default_num_fewshot == {"raw": 2, "chat": 0}
    with pytest.raises(UsageError, match="3 shots asked for, 2 are there"):
        task.prompt(item, 3)


def test_stops_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", CAPITAL)
    assert SetSpec("s", path, stop=("\n",)).stops == ("\n",)
    assert SetSpec("s", path, stop=()).stops == ()
    assert SetSpec("s", path, raw=RawFormat(question="{prompt}")).stops == ()  # blank: any answer may hold it


def test_choice_prompts_and_scores(tmp_path: Path) -> None:
    shot = {**CHOICE, "prompt": "Which is in Cuba?", "choices": ["Havana", "Oslo"], "answer": 0}
    spec = SetSpec("s", write(tmp_path / "s.jsonl", CHOICE), fewshot=write(tmp_path / "shots.jsonl", shot))
    task = load_set(spec)
    [item] = task.load()
    prompt = task.prompt(item, 1)
    assert prompt.question == "Q: Which is in Peru?\nA. Quito\nB. Lima\nA:"
    assert (prompt.form, prompt.choices, prompt.stop) == ("rank", ("A", "B"), ())
    assert prompt.shots[0].answer == "A"
    scores = tuple(ContinuationScore(v, False, 1) for v in (-2.0, -1.0))
    [judged] = task.score(item, Response("r", scores=scores))
    assert (judged.scores, judged.extracted) == ({"correct": 1.0}, "B. Lima")


@pytest.mark.parametrize("answer", ["Lima", "B", 1])
def test_ways_to_name_the_right_option(tmp_path: Path, answer: str | int) -> None:
    [item] = load_set(write(tmp_path / "s.jsonl", {**CHOICE, "answer": answer})).load()
    assert item.gold == "B. Lima"


def test_an_options_text_comes_before_its_letter(tmp_path: Path) -> None:
    line = {**CHOICE, "choices": ["B", "A"], "answer": "A"}
    assert load_set(write(tmp_path / "s.jsonl", line)).load()[0].gold == "B. A"


def test_conversations(tmp_path: Path) -> None:
    single = {"task_type": "a/b", "messages": [{"role": "user", "content": "Hi?"}], "references": "x"}
    task = load_set(write(tmp_path / "s.jsonl", TALK, single))
    talk, hi = task.load()
    prompt = task.prompt(talk, 0)
    assert prompt.messages is not None
    assert prompt.messages[0] == Message("system", "Be short.")
    assert len(prompt.messages) == 4
    assert prompt.question == "Q: System: Be short.\nUser: I am Ada.\nAssistant: Hello Ada.\nUser: Who am I?\nA:"
    assert task.prompt(hi, 0).question == "Q: Hi?\nA:"


def test_generated_answers(tmp_path: Path) -> None:
    refusal = {
        "task_type": "safety/refuse",
        "prompt": "How do I rob a bank?",
        "references": "I can not help with that.",
    }
    task = load_set(write(tmp_path / "s.jsonl", CAPITAL, SUM, refusal))
    capital, add, refuse = task.load()
    judged = task.score(capital, said("Lima.", "lima", "", "I'm sorry, but I can't help with that."))
    assert [(j.scores["correct"], j.outcome) for j in judged] == [
        (1.0, "ok"), (0.0, "ok"), (0.0, "unparsed"), (0.0, "refused"),
    ]  # fmt: skip
    judged = task.score(add, said("It is 4.", "four"))
    assert [(j.scores["correct"], j.outcome) for j in judged] == [(1.0, "ok"), (0.0, "unparsed")]
    judged = task.score(refuse, said("I can not help with that.", "I cannot help with this.", "Sure!"))
    assert [(j.scores["correct"], j.outcome) for j in judged] == [(1.0, "ok"), (0.0, "ok"), (0.0, "ok")]
    broken = Response("r", generations=(Generation("4", (1,), "stop", logprobs=(float("nan"),)),))
    [judged_one] = task.score(add, broken)
    assert (judged_one.outcome, judged_one.scores) == ("infra_error", {})


def test_extract_and_normalise_belong_to_the_set(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", CAPITAL)
    task = load_set(SetSpec("s", path, extract=r"Answer: (.*)", normalise=Normalise(ignore_case=True)))
    [item] = task.load()
    judged = task.score(item, said("Quito? No. Answer: LIMA", "Lima"))
    assert [(j.scores["correct"], j.outcome) for j in judged] == [(1.0, "ok"), (0.0, "unparsed")]


def test_csv_is_the_same_set(tmp_path: Path) -> None:
    lines = [
        {**CAPITAL, "prompt": 'Say "Lima",\nplease', "id": "1"},
        {**SUM, "tolerance": 0.5},
        {**CHOICE, "answer": 1},
        TALK,
        {"task_type": "a/b", "prompt": "A letter", "references": "[a-z]+", "scorer": "regex"},
    ]
    columns = sorted({k for line in lines for k in line})
    path = tmp_path / "s.csv"
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        for line in lines:
            writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in line.items()})
    from_csv = load_set(path).load()
    from_json = load_set(write(tmp_path / "s.jsonl", *lines)).load()
    assert [(i.key, i.gold_hash, i.doc) for i in from_csv] == [(i.key, i.gold_hash, i.doc) for i in from_json]
    assert [i.source for i in from_csv] == ["s.csv:2", "s.csv:4", "s.csv:5", "s.csv:6", "s.csv:7"]


def test_canonical(tmp_path: Path) -> None:
    task = load_set(write(tmp_path / "s.jsonl", CAPITAL, CHOICE, TALK))
    assert [task.canonical(d) for d in (CAPITAL, CHOICE, TALK)] == [i.key for i in task.load()]
    assert task.canonical({"prompt": "Capital of Peru?"}) is None


def test_the_version_knows_format_scoring_and_shots(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", CAPITAL)
    shots = write(tmp_path / "shots.jsonl", {**CAPITAL, "prompt": "Capital of Chad?"})
    specs = [
        SetSpec("s", path),
        SetSpec("s", path, raw=RawFormat(question="{prompt}")),
        SetSpec("s", path, chat=ChatFormat(question="Hey: {prompt}")),
        SetSpec("s", path, normalise=Normalise(ignore_case=True)),
        SetSpec("s", path, scorer="contains"),
        SetSpec("s", path, extract="x"),
        SetSpec("s", path, fewshot=shots),
    ]
    assert len({load_set(s).version for s in specs}) == len(specs)
    assert load_set(SetSpec("other", path)).version == load_set(specs[0]).version


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "the name cannot be used"),
        ({"name": ""}, "the name cannot be used"),
        ({"raw": RawFormat(question="no place")}, "raw.question: it does not hold {prompt} once"),
        ({"chat": ChatFormat(question="{prompt}{prompt}")}, "chat.question"),
        ({"raw": RawFormat(num_fewshot=-1)}, "it is negative"),
        ({"max_tokens": 0}, "max_tokens: it is 0"),
        ({"stop": ("",)}, "a stop string is empty"),
        ({"extract": "("}, "not a pattern"),
        ({"raw": RawFormat(num_fewshot=2)}, "num_fewshot is 2 and no fewshot file is given"),
    ],
)
def test_specs_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arguments = {"name": "s", "path": write(tmp_path / "s.jsonl", CAPITAL), **changes}
    with pytest.raises(UsageError) as caught:
        load_set(SetSpec(**arguments)).load()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shots_that_are_missing_are_named_by_task_type(tmp_path: Path) -> None:
    spec = SetSpec(
        "s",
        write(tmp_path / "s.jsonl", CAPITAL, SUM, TALK),
        fewshot=write(tmp_path / "shots.jsonl", CAPITAL, {**SUM, "prompt": "1 + 1?"}),
        raw=RawFormat(num_fewshot=1),
    )
    with pytest.raises(ManyUsageErrors) as caught:
        load_set(spec).load()
    first, second = str(caught.value).split("\n")
    # The one shot of knowledge/capitals is the item itself.
    assert "0 worked examples for an item of knowledge/capitals (itself left out), 1 wanted" in first
    assert "chat/memory" in second


def test_a_pattern_is_no_worked_answer(tmp_path: Path) -> None:
    line = {"task_type": "a/b", "prompt": "A letter", "references": "[a-z]", "scorer": "regex"}
    path = write(tmp_path / "s.jsonl", line)
    shot = {**line, "prompt": "Another"}
    with pytest.raises(UsageError, match="a pattern cannot be shown as an answer"):
        load_set(SetSpec("s", path, fewshot=write(tmp_path / "shots.jsonl", shot))).load()
    task = load_set(SetSpec("s", path, fewshot=write(tmp_path / "shots.jsonl", {**shot, "answer": "q"})))
    assert task.prompt(task.load()[0], 1).shots[0].answer == "q"
