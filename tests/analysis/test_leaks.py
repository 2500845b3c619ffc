"""Leaks: what counts, what does not, and recall and precision on planted questions of the real benchmarks."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from forgetbench.analysis.leaks import NGRAM, Question, Text, find_leaks, mark_leaks, words
from forgetbench.tasks.custom import SetSpec, load_set
from forgetbench.tasks.questions import question_of
from forgetbench.tasks.registry import get_task
from forgetbench.tasks.source import DataSource
from forgetbench.training.data import read_training
from forgetbench.types import ItemKey

from .made import compared, frame


def _question(text: str, *choices: str, name: str = "q") -> Question:
    return Question(ItemKey("t", name), text, choices)


LONG = (
    "Natalia sold clips to forty-eight of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?"
)


def _how(question: Question, *texts: str) -> list[str]:
    return [leak.how for leak in find_leaks([question], [Text(t, f"f:{i}") for i, t in enumerate(texts)])]


@pytest.mark.unit
class TestRules:
    def test_whole_question_in_a_template_is_exact(self) -> None:
        assert _how(_question(LONG), f"### Question:\n{LONG.upper()}\n### Answer: 72") == ["exact"]

    def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(self) -> None:
        parts = LONG.split()
        assert _how(_question(LONG), " ".join(parts[:NGRAM])) == ["ngram"]
        assert _how(_question(LONG), " ".join(parts[: NGRAM - 2])) == []

    def test_a_near_copy_without_thirteen_words_in_a_row(self) -> None:
        changed = " ".join("thing" if i % 12 == 7 else w for i, w in enumerate(LONG.split()))
        assert _how(_question(LONG), changed) == ["near"]

    def test_short_questions_need_the_whole_text_and_their_punctuation(self) -> None:
        assert _how(_question("21 + 1"), "21 + 1") == ["exact"]
        assert _how(_question("21 + 1"), "21 - 1", "what is 21 + 1 times 4") == []

    def test_six_words_may_stand_inside_a_text(self) -> None:
        question = _question("What is the capital of Peru?")
        assert _how(question, "Q: What is the capital of Peru?\nA: Lima") == ["exact"]
        assert _how(question, "What is the capital of Chile?") == []

    def test_options_in_any_layout_are_part_of_the_question(self) -> None:
        question = _question("Which one is a prime number?", "four", "seven", "nine", "ten")
        shown = "Which one is a prime number?\nA) four\nB) seven\nC) nine\nD) ten"
        assert _how(question, shown) == ["exact"]
        assert _how(question, "Which one is a prime number?") == ["exact"]

    def test_a_question_that_several_items_ask_names_none_of_them(self) -> None:
        text = "Which of the following statements is true?"
        both = [_question(text, "a", "b", name="1"), _question(text, "c", "d", name="2")]
        assert find_leaks(both, [Text(text, "f:1")]) == []

    def test_boilerplate_of_many_items_is_not_a_leak(self) -> None:
        opening = "For which of these two scenarios does the main character clearly do something morally wrong today"
        items = [_question(f"{opening}: scenario {i} about {i * 7} apples?", name=str(i)) for i in range(20)]
        found = find_leaks(items, [Text(items[3].text, "f:1")])
        assert [leak.key for leak in found] == [items[3].key]

    def test_chinese_is_compared_by_characters(self) -> None:
        text = "在农业生产中被当作极其重要的劳动对象发挥作用，最主要的不可替代的基本生产资料是"
        assert words("你好 world") == ("你", "好", "world")
        assert _how(_question(text, "土地", "资金"), f"题目：{text}（　）") == ["ngram"]
        assert _how(_question(text), text.replace("，", ",")) == ["exact"]
        assert _how(_question(text), "农业生产中的劳动对象是什么？土地是基本生产资料吗？") == []

    def test_strongest_evidence_and_its_place_are_kept(self) -> None:
        texts = [Text(LONG[:90], "a:1"), Text(f"Solve this. {LONG}", "b:7")]
        (leak,) = find_leaks([_question(LONG)], texts)
        assert (leak.how, leak.overlap, leak.where) == ("exact", 1.0, "b:7")


@pytest.mark.unit
class TestComparison:
    def test_changes_are_shown_without_the_leaked_items(self) -> None:
        """Ten of twenty items leaked and stayed right; the others were lost: the loss doubles without them."""
        base = frame([1.0] * 20)
        both = compared(base, frame([1.0] * 10 + [0.0] * 10))
        question = [Question(key, f"{LONG} {i}") for i, key in enumerate(both.scores[0].keys)]
        leaks = find_leaks(question[:10], [Text(q.text, "f:1") for q in question[:10]])
        marked = mark_leaks(both, leaks, looked_at="train.jsonl")
        (before,) = [c for c in marked.changes if c.kind == "task"]
        (after,) = [c for c in marked.without_leaks if c.kind == "task"]
        assert (before.n, before.delta) == (20, -0.5)
        assert (after.n, after.delta) == (10, -1.0)
        assert "train.jsonl holds 10 of 20 items (10 word for word)" in marked.notes[-1]

    def test_nothing_found_is_said(self) -> None:
        marked = mark_leaks(compared(frame([1.0] * 4), frame([1.0] * 4)), [], looked_at="x.csv")
        assert marked.without_leaks == ()
        assert "x.csv holds none of 4 items" in marked.notes[-1]


def _swapped(share: float) -> Callable[[str, random.Random], str]:
    """Every word is replaced with this chance (Chinese: every character)."""

    def change(text: str, rng: random.Random) -> str:
        units = text.split() if " " in text else list(text)
        made = [rng.choice(units) if rng.random() < share else u for u in units]
        return (" " if " " in text else "").join(made)

    return change


def _verbatim(text: str, rng: random.Random) -> str:
    return f"Question: {text.upper()}!!"


def _two_thirds(text: str, rng: random.Random) -> str:
    units = text.split() if " " in text else list(text)
    return (" " if " " in text else "").join(units[: max(1, len(units) * 2 // 3)])


PLANTED: dict[str, tuple[Callable[[str, random.Random], str], float]] = {
    "verbatim": (_verbatim, 0.98),
    "two thirds of it": (_two_thirds, 0.80),
    "5 % of words swapped": (_swapped(0.05), 0.85),
    "10 % of words swapped": (_swapped(0.10), 0.65),
}
"""How it is planted -> the least share that must be found."""


@pytest.mark.realdata
@pytest.mark.slow
def test_recall_and_precision_on_planted_questions(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """600 of 26,943 questions planted among the texts of 5,000 real instruction examples."""
    rng = random.Random(5)
    questions = _real_questions(data_dir)
    drawn = rng.sample([q for q in questions if len(words(q.text)) >= 6], 600)
    planted = {name: drawn[i :: len(PLANTED)] for i, name in enumerate(PLANTED)}
    texts = [
        Text(change("\n".join((q.text, *q.choices)), rng), name)
        for name, (change, _) in PLANTED.items()
        for q in planted[name]
    ]
    files = sorted((data_dir / "instructions_small").glob("*.json"))
    files += sorted((data_dir / "instructions_small").glob("llamafactory*.json.gz"))
    noise = [Text(*t) for t in read_training(files)]
    leaks = find_leaks(questions, [*noise, *texts])
    found, true = {leak.key for leak in leaks}, {q.key for q in drawn}
    by_key = {q.key: q for q in questions}
    passages = {gram for q in drawn for gram in _runs(q)}
    others = [leak for leak in leaks if leak.key not in true]
    # MMLU asks several questions about one passage: those overlap with a planted one's text indeed.
    false = [leak for leak in others if passages.isdisjoint(_runs(by_key[leak.key]))]
    with capsys.disabled():
        print(f"\nleaks: {len(questions):,} questions, {len(texts) + len(noise):,} texts, {len(leaks)} found:")
        print(
            f"  {len(leaks) - len(others)} planted, {len(others) - len(false)} about the same passage, {len(false)} neither"
        )
        for name, (_, least) in PLANTED.items():
            share = sum(q.key in found for q in planted[name]) / len(planted[name])
            print(f"  {name}: {share:.1%} found")
            assert share >= least, name
    assert len(false) / len(leaks) <= 0.02, false


def _runs(question: Question) -> set[tuple[str, ...]]:
    """Every nine words (characters) in a row, by plain means."""
    text = "".join(c if c.isalnum() else " " for c in "\n".join((question.text, *question.choices)).casefold())
    units = [c for c in text if c != " "] if any("\u4e00" <= c <= "\u9fff" for c in text) else text.split()
    return {tuple(units[i : i + 9]) for i in range(len(units) - 8)}


def _real_questions(data_dir: Path) -> list[Question]:
    source = DataSource(data_dir=data_dir)
    fields = {"task_type": "knowledge/{subject}", "prompt": "Question", "choices": tuple("ABCD"), "answer": "Answer"}
    file = data_dir / "cmmlu" / "test.jsonl.gz"
    cmmlu = load_set(SetSpec(name="cmmlu", path=file, scorer="choice", fields=fields))
    tasks = (get_task("mmlu", source=source), get_task("gsm8k", source=source), cmmlu)
    return [Question(i.key, *question_of(task, i)) for task in tasks for i in task.load()]
