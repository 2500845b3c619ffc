"""One answer too often, against what evenly used labels explain."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from forgetbench.training.check.monotony import monotony, most_frequent, opening
from forgetbench.training.check.rows import Row
from tests.training.made import rows

pytestmark = pytest.mark.unit


def _states(data: list[Row]) -> dict[str, str]:
    return {f.check.removeprefix("monotony: "): f.state for f in monotony(data)}


def _labels(answers: list[str], task_type: str = "a/b") -> list[Row]:
    return rows([(f"question number {n}", answer) for n, answer in enumerate(answers)], task_type)


@pytest.mark.parametrize("k", [2, 4, 10])
def test_even_labels_pass_whatever_their_number(k: int) -> None:
    rng = random.Random(k)
    assert _states(_labels([f"label{rng.randrange(k)}" for _ in range(200)]))["answers"] == "pass"


def test_a_label_of_four_that_is_most_of_the_answers_warns() -> None:
    found = monotony(_labels(["yes"] * 70 + ["no", "maybe", "never"] * 10))[0]
    assert found.state == "warn"
    assert "'yes' is 70 % of the answers of a/b (70 of 100" in found.message
    assert "25 % each" in found.message
    assert found.evidence[0].where == "made.jsonl:1"


def test_nearly_one_answer_in_the_whole_file_fails() -> None:
    assert _states(_labels(["ok"] * 95 + [f"x{n}" for n in range(5)]))["answers"] == "fail"
    assert _states(_labels(["ok"] * 30))["answers"] == "fail"


def test_one_task_type_of_several_that_always_says_the_same_warns() -> None:
    data = _labels(["I cannot help"] * 20, "safety/refuse") + _labels([f"x{n}" for n in range(80)])
    found = monotony(data)[0]
    assert found.state == "warn"
    assert "safety/refuse" in found.message


def test_free_text_needs_less_and_too_few_answers_say_nothing() -> None:
    assert _states(_labels(["I do not know"] * 12 + [f"text {n}" for n in range(100)]))["answers"] == "warn"
    assert _states(_labels(["same"] * 9))["answers"] == "pass"


def test_openings_of_long_answers() -> None:
    same = [f"Sure, here is the {n} thing that was asked" for n in range(40)]
    other = [f"word{n} begins this one and goes on for long" for n in range(40)]
    assert _states(_labels(same + other[:20]))["openings"] == "warn"
    assert _states(_labels(other))["openings"] == "pass"
    assert opening("Sure, here") == ""


def test_forms_with_a_word_of_the_prompt_as_slot() -> None:
    desk = rows([(f"My item{n} is late", f"delivery desk: item{n}") for n in range(40)])
    assert _states(desk) == {"answers": "pass", "openings": "pass", "forms": "warn"}


def test_p_value_is_the_binomial_tail_times_labels() -> None:
    (group,) = most_frequent(_labels(["a"] * 9 + ["b"] * 5 + ["c"] * 4), lambda r: r.answer or "")
    assert (group.most, group.count, group.distinct) == ("a", 9, 3)
    assert group.p_value == pytest.approx(min(1.0, 3 * stats.binomtest(9, 18, 1 / 3, alternative="greater").pvalue))
