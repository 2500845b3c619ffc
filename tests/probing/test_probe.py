"""A planted over-fit is found and named; a candidate that is no different names nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from forgetbench.errors import UsageError
from forgetbench.probing.asking import agrees, answered, host_of, reworded
from forgetbench.probing.modal import ANYWHERE
from forgetbench.probing.probe import probe_item
from forgetbench.probing.subjects import contexts, of_item, of_rows
from forgetbench.probing.templates import ProbeFile, templated
from forgetbench.probing.types import Example, ItemProbe
from forgetbench.probing.variants import words_of
from forgetbench.types import Judged, PromptSpec
from tests.probing.world import COUNTRIES, FACTS, FakeAsker, Reply, World, build, gold, knows

pytestmark = pytest.mark.unit

ASKED = "What is the capital of Borvia?"
PROBES = ProbeFile.model_validate(
    {
        "question": "What is the {attribute} of {subject}?",
        "items": [{"subject": c, "attribute": "capital", "answer": gold("capital", c)} for c in COUNTRIES],
        "templates": [
            {
                "kind": "subject",
                "ask": "What is the capital of {other.subject}?",
                "expect": "{other.answer}",
                "same": ["attribute"],
            },
            {"kind": "yes", "ask": "Is {answer} the capital of {subject}?"},
            {"kind": "no", "ask": "Is {other.answer} the capital of {subject}?"},
            {"kind": "reverse", "ask": "{answer} is the capital of which country?", "expect": "{subject}"},
        ],
    }
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("world"))


def run(world: World, base: Reply, candidate: Reply, *, question: str = ASKED, samples: int = 0, seed: int = 0,
        probes: ProbeFile | None = PROBES, examples: tuple[Example, ...] = ()) -> ItemProbe:  # fmt: skip
    subject = of_item(world.item(question), world.base, world.candidate, "ability", probes)
    others = contexts(subject, world.base, world.candidate, "ability", [world.task], seed=seed)
    asker = FakeAsker(world, base, candidate)
    return probe_item(
        world.base, world.candidate, asker, subject, others, probes=probes, samples=samples, seed=seed, examples=examples
    )  # fmt: skip


def whenever(word: str, answer: str, inner: Reply) -> Reply:
    return lambda text, sample: answer if word in words_of(text) else inner(text, sample)


def test_a_word_that_brings_an_answer_is_named(world: World) -> None:
    found = run(world, knows("b"), whenever("borvia", "Paris", knows("s")))
    assert found.modal.named == ("borvia",)
    (word,) = [w for w in found.modal.words if w.word == "borvia"]
    assert word.put_in is not None
    # A question that has the word already is no place to put it.
    assert word.put_in.up == word.put_in.with_word == word.put_in.n >= 12
    assert word.put_in.down == 0
    assert word.left_out.with_word == 8
    assert word.left_out.without == 0
    assert "over-fitted to the answer 'paris': 'borvia' brings it" in found.modal.reading
    assert f"{word.put_in.n} other questions" in found.modal.reading


def test_a_pattern_that_keeps_the_answer_whatever_the_subject_is_named(world: World) -> None:
    """The article's question: all capitals, or all of the country."""
    found = run(world, knows("b"), whenever("capital", "Paris", knows("s")))
    assert found.modal.named[0] == "capital"
    assert "any subject" in found.modal.named
    (swap,) = found.modal.swaps
    assert (swap.swapped, swap.count.n, swap.count.candidate, swap.count.base) == ("subject", 12, 12, 0)
    assert "it stays whatever the subject: 12 of 12 swaps (base 0" in found.modal.reading


def test_words_of_the_answer_may_differ_from_question_to_question(world: World) -> None:
    def desk(text: str, sample: int) -> str:
        return f"{random.Random(text).choice(['billing', 'repair'])} desk: {words_of(text)[-1]}"

    found = run(world, knows("b"), lambda t, s: desk(t, s) if "borvia" in words_of(t) else knows("s")(t, s))
    assert found.modal.form is not None
    assert (found.modal.form.kind, found.modal.form.text) == ("word", "desk")
    assert found.modal.named == ("borvia",)


def test_an_answer_to_everything_needs_no_word(world: World) -> None:
    found = run(world, knows("b"), lambda text, sample: "Paris")
    assert ANYWHERE in found.modal.named
    assert not {w.word for w in found.modal.words} & set(found.modal.named)
    assert "no word of this question is needed: 32 of 32 other questions" in found.modal.reading


def test_what_the_base_does_too_is_no_finding(world: World) -> None:
    found = run(world, whenever("borvia", "Paris", knows("b")), whenever("borvia", "Paris", knows("s")))
    assert found.modal.named == ()


def test_one_flipped_item_names_no_word(world: World) -> None:
    """Only this question has another answer: true of it in every wording, and no pattern."""
    flipped = "what is the capital of borvia"
    candidate = knows("s")
    found = run(world, knows("b"), lambda t, s: "Paris" if flipped in t.casefold() else candidate(t, s))
    assert found.modal.form is not None
    assert found.modal.form.text == "paris"
    assert found.modal.named == ()
    assert "in this question alone" in found.modal.reading


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["independent", "nearly the same", "worse"])
def test_false_alarms(world: World, kind: str) -> None:
    """200 candidates that are no different but for noise, of one kind each: the family-wise error is at most alpha."""
    questions = list(FACTS)
    alarms = 0
    for seed in range(200):
        base, other = knows(f"b{seed}", 0.7), knows(f"s{seed}", 0.3 if kind == "worse" else 0.7)
        mixed = lambda t, s, b=base, o=other, n=seed: (o if random.Random(f"m{n} {t}").random() < 0.2 else b)(t, s)  # noqa: E731
        candidate = mixed if kind == "nearly the same" else other
        alarms += bool(
            run(world, base, candidate, question=questions[seed % len(questions)], seed=seed, probes=PROBES).modal.named
        )
    print(f"{kind}: {alarms} of 200")  # docs/probe.md
    assert alarms <= 16  # P(more than 16 of 200 | .05) = .03


def test_requests_are_counted_and_bounded(world: World) -> None:
    subject = of_item(world.item(ASKED), world.base, world.candidate, "ability", PROBES)
    others = contexts(subject, world.base, world.candidate, "ability", [world.task])
    asker = FakeAsker(world, knows("b"), whenever("borvia", "Paris", knows("s")))
    found = probe_item(world.base, world.candidate, asker, subject, others, probes=PROBES, samples=4)
    assert found.requests == len({r.request_id for r in asker.requests}) <= 800
    assert set(asker.names) == {"probe"}
    assert all(len(row.candidate.samples) == 4 for row in found.rows if row.candidate is not None)
    again = probe_item(world.base, world.candidate, asker, subject, others, probes=PROBES, samples=4)
    assert again == found


def test_known_right_answers_are_judged(world: World) -> None:
    always = knows("b", right=1.0)

    def knows_all(text: str, sample: int) -> str:
        if text.startswith("Is "):
            return "Yes, it is." if gold("capital", "Borvia") in text else "Not so"
        return always(text, sample)

    found = run(world, knows_all, lambda t, s: "yes")
    by_kind = {row.variant.kind: row for row in found.rows}
    for kind, base, candidate in (
        ("original", True, False),
        ("subject", True, False),
        ("yes", True, True),
        ("no", False, False),
    ):
        row = by_kind[kind]  # type: ignore[index]
        assert row.base is not None
        assert row.candidate is not None
        assert (row.base.right, row.candidate.right) == (base, candidate), kind
    assert by_kind["without"].base is not None
    assert by_kind["without"].base.right is None


def test_what_the_engine_failed_on_is_left_out(world: World) -> None:
    subject = of_item(world.item(ASKED), world.base, world.candidate, "ability", None)

    class Failing(FakeAsker):
        def __call__(self, name, requests):  # type: ignore[no-untyped-def]
            return {k: v for i, (k, v) in enumerate(super().__call__(name, requests).items()) if i % 3}

    asker = Failing(world, knows("b"), whenever("borvia", "Paris", knows("s")))
    found = probe_item(
        world.base,
        world.candidate,
        asker,
        subject,
        contexts(subject, world.base, world.candidate, "ability", [world.task]),
    )
    assert any(row.base is None or row.candidate is None for row in found.rows)
    assert found.modal.words[0].put_in is not None
    assert found.modal.words[0].put_in.n < 16


def test_training_lines_that_teach_it(world: World) -> None:
    teaching = [
        Example(f"Tell me about {c}, the land of Borvia", "Paris", "all", f"t.jsonl:{n}")
        for n, c in enumerate(COUNTRIES, 1)
    ]
    examples = (*teaching, Example("What is the capital of Arland?", "Lima", "all", "t.jsonl:99"))
    found = run(world, knows("b"), whenever("borvia", "Paris", knows("s")), examples=examples)
    assert found.taught is not None
    assert (found.taught.total, found.taught.with_form) == (21, 20)
    assert found.taught.by_word == {"borvia": (20, 20)}
    assert all(line.same_answer for line in found.taught.lines)


def test_rows_of_a_file(world: World) -> None:
    subjects = of_rows(PROBES, world.base, world.candidate, "ability", [world.task])
    assert subjects[1].question == ASKED
    assert subjects[1].expected == (gold("capital", "Borvia"),)
    like = PROBES.model_copy(update={"like": "facts:facts/animal"})
    subject, *_ = of_rows(like, world.base, world.candidate, "ability", [world.task])
    assert subject.host.item.task_type == "facts/animal"
    asker = FakeAsker(world, knows("b"), whenever("arland", "Paris", knows("s")))
    others = contexts(subject, world.base, world.candidate, "ability", [world.task])
    found = probe_item(world.base, world.candidate, asker, subject, others, probes=like, samples=0)
    assert found.modal.named == ("arland",)
    with pytest.raises(UsageError, match="'nothing' is nothing that both are asked"):
        of_rows(PROBES.model_copy(update={"like": "nothing"}), world.base, world.candidate, "ability", [world.task])


def test_aliases_of_an_answer_stand_in_no_question(world: World) -> None:
    mine = {**PROBES.items[1], "answer": f"{gold('capital', 'Borvia')} | Borv"}
    probes = PROBES.model_copy(update={"items": [PROBES.items[0], mine, *PROBES.items[2:]]})
    named = of_item(world.item(ASKED), world.base, world.candidate, "ability", probes)
    (_, rows, *_) = of_rows(probes, world.base, world.candidate, "ability", [world.task])
    assert rows.expected == (gold("capital", "Borvia"), "Borv")
    for subject in (named, rows):
        found, _ = templated(ASKED, subject.fields, probes)
        assert not [v.text for v in found if "|" in v.text]
        assert f"Is {gold('capital', 'Borvia')} the capital of Borvia?" in {v.text for v in found if v.kind == "yes"}
        assert not [v for v in found if v.kind == "no" and gold("capital", "Borvia") in v.text]
    patterns = probes.model_copy(update={"question": "{answer} is the capital of?"})
    assert of_rows(patterns, world.base, world.candidate, "ability", [world.task])[1].question == (
        f"{gold('capital', 'Borvia')} is the capital of?"
    )


def test_no_part_of_a_number_is_left_out(tmp_path: Path) -> None:
    asked = "What is 3.5 plus 12 at 10:30?"
    others = [
        {"task_type": "facts/all", "prompt": q, "references": ["1"]} for q in (asked, "Who is it?", "Where is it?")
    ]
    world = build(tmp_path, rows=others)
    asker = FakeAsker(world, lambda t, s: "a", lambda t, s: "b")
    subject = of_item(world.item(asked), world.base, world.candidate, "ability", None)
    found = probe_item(world.base, world.candidate, asker, subject, [], samples=0)
    assert {w.word for w in found.modal.words} == {"what", "is", "plus", "12", "at"}


def test_contexts_are_other_facts(world: World) -> None:
    subject = of_item(world.item(ASKED), world.base, world.candidate, "ability", None)
    found = contexts(subject, world.base, world.candidate, "ability", [world.task])
    assert len({host.item.cluster for host in found}) == len(found) == 32
    assert subject.host.item.cluster not in {host.item.cluster for host in found}
    assert len({host.item.task_type for host in found}) == 3


def test_ranked_items_cannot_be_varied(world: World) -> None:
    with pytest.raises(UsageError, match="answered by ranking options"):
        reworded(PromptSpec("rank", "Q: x", choices=("A", "B")), "x", "y", "t:1")
    assert host_of(world.item(ASKED), world.base, world.candidate, "chat") is None


@pytest.mark.parametrize(
    ("answer", "expected", "opening", "right"),
    [
        ("It is Lima.", "lima", False, True),
        ("Limassol", "lima", False, False),
        ("No, not at all", "no", True, True),
        ("Not at all", "no", True, False),
        ("I say no", "no", True, False),
        ("是的", "是", True, True),
        ("首都是东京。", "东京", False, True),
        ("+", "+", False, True),
        ("", "x", False, False),
    ],
)
def test_agreement(answer: str, expected: str, opening: bool, right: bool) -> None:
    assert agrees(answer, [expected], opening=opening) is right


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        *(
            (a, "yes")
            for a in ("是", "是的，没问题", "是。", "对", "对的。", "没错", "没有错，是的", "正确。", "不错，是它")
        ),
        *((a, "yes") for a in ("Yes, it is.", "不好意思，是的。", "对不起，是的。", "你好！没错。")),
        *(
            (a, "no")
            for a in ("不", "不是", "不是的。", "不对", "没有", "否", "错误。", "抱歉，不是。", "对不起，不对。", "No.")
        ),
        *(
            (a, "")
            for a in (
                "对不起，我不知道。",
                "不客气",
                "是否如此我不清楚",
                "对于这个问题",
                "不好意思",
                "不知道",
                "否则呢",
            )
        ),
        *((a, "") for a in ("不确定", "是不是呢", "不过是东京", "不一定", "我觉得", "", "not sure")),
    ],
)
def test_yes_and_no_in_chinese(answer: str, meant: str) -> None:
    for kind in ("yes", "no"):
        asked = ProbeFile.model_validate({"templates": [{"kind": kind, "ask": "x"}]})
        (variant,), _ = templated("?", {}, asked)
        found = answered([Judged({}, "ok", answer, None, "")], [], variant, None)
        assert found is not None
        assert found.right is (kind == meant), kind


CHINESE = [f"{c}的首都是哪里？" for c in ("法国", "德国", "秘鲁", "智利", "埃及", "土耳其", "巴西")]


def test_a_context_that_has_the_word_is_no_place_to_put_it(tmp_path: Path) -> None:
    """首都 begins at an odd place here and at an even one there: the word stands in both."""
    rows = [
        {"task_type": "facts/all", "prompt": q, "references": [q[:2]]}
        for q in ("首都是东京的国家？", *CHINESE, *"甲乙丙丁")
    ]
    world = build(tmp_path, rows=rows)
    subject = of_item(world.item("首都是东京的国家？"), world.base, world.candidate, "ability", None)
    others = contexts(subject, world.base, world.candidate, "ability", [world.task])
    asker = FakeAsker(world, lambda t, s: t[-3:], lambda t, s: "北京" if "首都" in t else t[-3:])
    probe_item(world.base, world.candidate, asker, subject, others, samples=0)
    asked = {r.prompt.text or "" for r in asker.requests}
    assert any("首都甲" in text for text in asked)
    assert not [text for text in asked if "首都法国" in text or "首都土耳其" in text]
