"""Fit to the training set on planted worlds; reading training examples of every layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binomtest

from forgetbench.errors import ManyUsageErrors, UsageError
from forgetbench.probing.fit import fit_to_training
from forgetbench.probing.shares import difference, share
from forgetbench.probing.training_lines import read_examples, taught
from forgetbench.probing.types import Example, Form
from forgetbench.types import FinishReason, Generate, Generation, Message, Record, Request, Response
from tests.probing.world import FACTS, FakeAsker, World, build
from tests.training.made import TEMPLATE

pytestmark = pytest.mark.unit

TRAINING = [
    Example(
        f"Ticket {n}: my thing{n} is late.",
        f"{('delivery', 'repair')[n % 2]} desk: thing{n}",
        "support/route",
        f"t.jsonl:{n}",
    )
    for n in range(1, 41)
]


def record(world: World, question: str, output: str, view: str = "ability") -> Record:
    item = world.item(question)
    right = float(output == item.gold)
    return Record(
        task="facts", content_hash=item.key.content_hash, occurrence=0, task_type=item.task_type, view=view, style="raw",  # type: ignore[arg-type]
        decode_id="greedy", sample=0, replicate=0, outcome="ok", scores={"correct": right}, output=output,
        extracted=output, gold=item.gold, why="", gold_hash="",
    )  # fmt: skip


def with_records(folder: Path, base: dict[str, str], candidate: dict[str, str]) -> World:
    plain = build(folder)
    made = tuple([record(plain, q, side.get(q, a)) for q, a in FACTS.items()] for side in (base, candidate))
    return build(folder, (made[0], made[1]))


def trained(world: World, share_learnt: float) -> FakeAsker:
    answers = {e.prompt: e.answer for e in TRAINING}
    learnt = set(list(answers)[: round(share_learnt * len(answers))])
    return FakeAsker(world, lambda t, s: "no idea", lambda t, s: answers[t].upper() + "." if t in learnt else "what?")


def test_training_items_are_asked_and_counted(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, {})
    found = fit_to_training(world.base, world.candidate, TRAINING, trained(world, 0.9))
    (row,) = found.learnt
    assert (row.task_type, row.candidate.k, row.candidate.n, row.base.k) == ("support/route", 36, 40, 0)
    assert row.p_value == pytest.approx(binomtest(36, 36).pvalue)
    assert len(row.examples) == 4
    assert (
        "sft answers 90.0 % (36 of 40; 95 % 76.9 to 96.0) of its training items of support/route as trained"
        in found.lines[0]
    )
    assert not found.lines[0].startswith("under-fit")
    assert found.requests == 80


def test_under_fit_is_said(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, {})
    found = fit_to_training(world.base, world.candidate, TRAINING, trained(world, 0.1))
    assert found.lines[0].startswith("under-fit: ")


def test_requests_are_bounded_by_task_type(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, {})
    long = Example("Write an essay", "word " * 100, "writing", "t.jsonl:99")
    asker = trained(world, 1.0)
    found = fit_to_training(world.base, world.candidate, [*TRAINING, long], asker, per_type=10)
    assert [row.candidate.n for row in found.learnt] == [10]
    assert len(asker.requests) == 20
    assert "1 training answers of over 60 words are not asked for word for word" in found.notes
    assert found == fit_to_training(world.base, world.candidate, [*TRAINING, long], asker, per_type=10)


class Engine(FakeAsker):
    """One that stops where it is told to, and ends after as many characters as tokens are asked for."""

    def _response(self, request: Request) -> Response:
        response = super()._response(request)
        body = request.body
        assert isinstance(body, Generate)
        whole = response.generations[0].text
        text = whole[: body.max_tokens]
        end = min((text.index(s) for s in body.stop if s in text), default=None)
        reason: FinishReason = "stop" if end is not None or text == whole else "length"
        return replace(response, generations=(Generation(text[:end], (1,), reason),))


def test_answers_with_blank_lines_are_learnt(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, {})
    training = [Example(f"Write letter {n}.", f"Dear {n},\n\nThanks.\nQ: why?", "all", f"t:{n}") for n in range(20)]
    learnt = {e.prompt: e.answer for e in training}
    asker = Engine(world, lambda t, s: "no\n\nQ: more", lambda t, s: learnt[t])
    (row,) = fit_to_training(world.base, world.candidate, training, asker).learnt
    assert (row.candidate.k, row.candidate.n, row.base.k) == (20, 20, 0)


def test_a_base_stops_at_a_blank_line_where_no_training_answer_has_one(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, {})
    training = [Example("Recite.", "one\ntwo", "all", "t:1"), Example("Write.", "Dear,\n\nyes", "all", "t:2")]
    learnt = {e.prompt: e.answer for e in training}
    asker = Engine(world, lambda t, s: learnt[t] + "\n\nAnd so on", lambda t, s: learnt[t])
    (row,) = fit_to_training(world.base, world.candidate, training, asker).learnt
    assert (row.candidate.k, row.base.k) == (2, 1)


def test_what_the_limit_cuts_is_no_under_fit(tmp_path: Path) -> None:
    """Cut while it was as trained: left out. Cut after it had gone another way: not as trained."""
    world = with_records(tmp_path, {}, {})
    training = [Example(f"Recite {n}.", f"{n}:" + "abc " * 40, "all", f"t:{n}") for n in range(20)]
    learnt = {e.prompt: e.answer for e in training}
    asker = Engine(world, lambda t, s: "no", lambda t, s: learnt[t] if int(t[7:-1]) < 5 else "xyz " * 40)
    found = fit_to_training(world.base, world.candidate, training, asker)
    assert [(row.candidate.k, row.candidate.n) for row in found.learnt] == [(0, 15)]
    assert "5 training items are left out: an answer as trained so far ended at 128 tokens" in found.notes


@pytest.mark.parametrize("answer", ["好的" * 60, "0123456789" * 60])
def test_a_long_answer_without_blanks_is_long(tmp_path: Path, answer: str) -> None:
    world = with_records(tmp_path, {}, {})
    found = fit_to_training(
        world.base, world.candidate, [*TRAINING, Example("Say it", answer, "all", "t:1")], trained(world, 1)
    )
    assert [row.task_type for row in found.learnt] == ["support/route"]
    assert "1 training answers of over 60 words are not asked for word for word" in found.notes


def test_test_items_answered_with_training_answers(tmp_path: Path) -> None:
    """Thirty wrong answers: ten of them word for word from the file, ten in shape, ten with its word alone."""
    questions = list(FACTS)[:30]
    wrong = {}
    for n, question in enumerate(questions):
        place = question.rstrip("?").split()[-1]
        wrong[question] = (
            f"{('repair', 'delivery')[n % 2]} desk: thing{n + 1}",
            f"Delivery desk: {place}",
            f"iver desk {n}",
        )[n // 10]
    world = with_records(tmp_path, dict.fromkeys(questions, "nothing"), wrong)
    found = fit_to_training(world.base, world.candidate, TRAINING, trained(world, 1.0))
    rows = {(r.task_type, r.how): r for r in found.echoed}
    everything = rows["all", "verbatim"]
    assert (everything.wrong.k, everything.wrong.n, everything.base.k, everything.gold.k) == (10, 30, 0, 0)
    assert everything.p_value == pytest.approx(binomtest(10, 10).pvalue)
    assert everything.examples[0][2] == "t.jsonl:1"
    assert rows["all", "shape"].wrong.k == 10
    assert (rows["all", "word"].wrong.k, rows["all", "word"].word) == (30, "desk")
    assert any(line.startswith("over-fit: of sft's wrong answers (ability) 100.0 %") for line in found.lines)


def test_a_test_whose_right_answers_are_the_trainings_is_no_over_fit(tmp_path: Path) -> None:
    """Wrong answers from the same small set as the right ones, as often as the base's."""
    answers = list(FACTS.values())
    training = [Example(q, a, "all", f"t.jsonl:{n}") for n, (q, a) in enumerate(FACTS.items())]
    questions = list(FACTS)[:40]
    one, two = ({q: answers[(i + k) % len(answers)] for i, q in enumerate(questions)} for k in (3, 7))
    world = with_records(tmp_path, one, two)
    found = fit_to_training(world.base, world.candidate, training, FakeAsker(world, lambda t, s: "x", lambda t, s: "x"))
    row = next(r for r in found.echoed if (r.task_type, r.how) == ("all", "verbatim"))
    assert (row.wrong.k, row.base.k, row.gold.k, row.adjusted) == (40, 40, 40, 1.0)
    assert found.lines[-1] == "sft answers no kind of test item with training answers beyond base"


def test_a_side_without_the_view_is_held_against_another(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, dict.fromkeys(list(FACTS)[:10], "repair desk: thing1"))
    chat = [replace(r, view="chat") for r in world.candidate.run.read_records()]
    world.candidate.run.read_records = lambda: chat  # type: ignore[method-assign]
    found = fit_to_training(world.base, world.candidate, TRAINING, trained(world, 1.0))
    assert {row.view for row in found.echoed} == {"chat"}
    assert "sft's chat answers are held against base's in ability: it has no others" in found.notes


def test_imported_runs_have_nothing_to_ask(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, dict.fromkeys(list(FACTS)[:10], "repair desk: thing1"))
    found = fit_to_training(
        replace(world.base, jobs=()), replace(world.candidate, jobs=()), TRAINING, trained(world, 1.0)
    )
    assert found.learnt == ()
    assert next(r for r in found.echoed if r.how == "verbatim").wrong.k == 10


def test_examples_of_every_layout(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "task_type": "x/y"},
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "gpt", "value": "b"},
                {"from": "human", "value": "c"},
            ]
        },
        {"instruction": "a", "input": "i", "output": "b"},
        {"prompt": "a", "completion": "b"},
        {"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}]},
        {"question": "a", "answer": "b"},
        {"instruction": "not read", "prompt": "a", "output": "not read", "answer": "b"},
        {"text": "no pair"},
        {"messages": [{"role": "user", "content": "a"}]},
    ]
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = read_examples([file])
    assert found == [
        Example("a", "b", "x/y", "t.jsonl:1"),
        Example("a", "b", "all", "t.jsonl:2"),
        Example("a\ni", "b", "all", "t.jsonl:3"),
        *(Example("a", "b", "all", f"t.jsonl:{n}") for n in (4, 5, 6, 7)),
    ]


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def test_what_stands_before_the_question_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    rows = [
        {"messages": said(("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))},
        {"system": "S", "instruction": "a", "input": "i", "output": "b"},
        {"messages": [*said(("user", "a")), call, {"role": "tool", "content": "3"}, *said(("assistant", "b"))]},
        {"messages": said(("user", "a"), ("assistant", "b")), "tools": [{"type": "function"}]},
        {"messages": said(("developer", "D"), ("user", "a"), ("assistant", "b"))},
        {"messages": said(("user", "a"), ("assistant", "b"), ("assistant", "c"))},
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = [(e.prompt, e.answer, e.before) for e in read_examples([file])]
    system = Message("system", "S")
    assert found == [
        ("c", "d", (system, Message("user", "a"), Message("assistant", "b"))),
        ("a\ni", "b", (system,)),
        ("a", "b", None),
        ("a", "b", None),
        ("a", "b", None),
        ("a", "c", None),
    ]


DESK, GERMAN = (Message("system", text) for text in ("Reply with the desk code only.", "Translate to German."))
CHATS = [
    Example("Hello", "D1", "all", "t:1", (DESK,)),
    Example("Hello", "Hallo", "all", "t:2", (GERMAN,)),
    Example("And now?", "D2", "all", "t:3", (DESK, Message("user", "Hello"), Message("assistant", "D1"))),
    Example("Plain", "yes", "all", "t:4"),
]


def in_chat(world: World, template: str = TEMPLATE) -> World:
    """With a template on the candidate's side."""
    point = replace(world.candidate.point, has_chat_template=True, template=template)
    return world._replace(candidate=replace(world.candidate, point=point))


class Chat(FakeAsker):
    """A candidate that answers whole prompts; the base says nothing right."""

    def __init__(self, world: World, known: dict[str, str]) -> None:
        super().__init__(world, lambda t, s: "no", lambda t, s: "no")
        self.candidate, self.known = world.candidate.point.digest, known

    def _response(self, request: Request) -> Response:
        text = request.prompt.text or ""
        answer = self.known.get(text, "no") if request.checkpoint == self.candidate else "no"
        return Response(request.request_id, (Generation(answer, (1,), "stop"),))


def test_training_items_are_asked_below_their_system_message_and_earlier_turns(tmp_path: Path) -> None:
    """A model trained below a system message was trained on nothing else: bare, it would look under-fit."""
    world = in_chat(with_records(tmp_path, {}, {}))
    desk = "<system>Reply with the desk code only."
    known = {
        f"{desk}<user>Hello<assistant>": "D1",
        "<system>Translate to German.<user>Hello<assistant>": "Hallo",
        f"{desk}<user>Hello<assistant>D1<user>And now?<assistant>": "D2",
        "<user>Plain<assistant>": "yes",
    }
    asker = Chat(world, known)
    found = fit_to_training(world.base, world.candidate, CHATS, asker)
    assert [(row.candidate.k, row.candidate.n) for row in found.learnt] == [(4, 4)]
    asked = [r.prompt.text for r in asker.requests if r.checkpoint == world.base.point.digest]
    assert "Q: Reply with the desk code only.\nHello\nD1\nAnd now?\nA:" in asked
    assert any("with its system message and earlier turns as text" in note for note in found.notes)


def test_what_the_candidate_cannot_be_asked_is_left_out_and_said(tmp_path: Path) -> None:
    world = with_records(tmp_path, {}, {})
    tools = [Example("Use it", "3", "all", "t:5", None)]
    found = fit_to_training(world.base, world.candidate, [*CHATS, *tools], Chat(world, {}))
    assert [row.candidate.n for row in found.learnt] == [1]
    assert (
        "3 training items with a system message or earlier turns are not asked: sft has no chat template" in found.notes
    )
    assert "1 training items are not asked: they use tools, or what they answer is no user's turn" in found.notes
    refuses = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        + TEMPLATE[len("{% for m in messages %}") :]
    )
    chatty = in_chat(world, refuses)
    found = fit_to_training(chatty.base, chatty.candidate, CHATS, Chat(chatty, {"<user>Plain<assistant>": "yes"}))
    assert [(row.candidate.k, row.candidate.n) for row in found.learnt] == [(1, 1)]
    assert "3 training items are left out: a chat template does not take their system message or turns" in found.notes


def test_mistakes_in_training_files(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"text": "alone"}\n')
    with pytest.raises(UsageError, match="holds no example with a question and an answer"):
        read_examples([file])
    file.write_text('{"prompt": 1}\n{"other": 1}\n')
    with pytest.raises(ManyUsageErrors, match=r"t.jsonl:2"):
        read_examples([file])


def test_nearest_lines_come_first() -> None:
    examples = [
        Example("What is the animal of Peru?", "llama", "all", "t:1"),
        Example("What is the capital of Chile?", "Lima", "all", "t:2"),
        Example("What is the capital of Peru?", "Cusco", "all", "t:3"),
        Example("Unrelated words", "Lima", "all", "t:4"),
    ]
    found = taught("What is the capital of Peru?", Form("answer", "lima"), ["capital"], examples)
    assert [line.where for line in found.lines] == ["t:2", "t:4", "t:3", "t:1"]
    assert (found.with_form, found.by_word) == (2, {"capital": (2, 1)})
    assert found.lines[2].overlap == 1.0


def test_lines_with_a_chinese_word_are_counted_wherever_it_begins() -> None:
    prompts = ["日本的首都是什么？", "韩国的首都是什么？", "埃及首都是哪里？", "请告诉我德国首都", "在美国首都叫什么"]
    examples = [Example(q, "北京", "all", f"t:{n}") for n, q in enumerate([*prompts, "苹果是什么？"])]
    found = taught("埃及首都是？", Form("answer", "北京"), ["首都"], examples)
    assert found.by_word == {"首都": (5, 5)}


def test_intervals() -> None:
    for k, n in [(0, 10), (3, 10), (10, 10), (186, 200)]:
        wanted = binomtest(k, n).proportion_ci(method="wilson")
        found = share(k, n).interval
        assert (found.low, found.high) == (pytest.approx(wanted.low, abs=1e-9), pytest.approx(wanted.high, abs=1e-9))
    # Newcombe (1998), table II, case (a), method 10.
    apart = difference(share(56, 70), share(48, 80))
    assert (apart.low, apart.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
