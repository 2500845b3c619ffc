"""Taking thinking off an answer."""

from __future__ import annotations

import pytest

from forgetbench.scoring.thinking import COMMON, Tags, hidden_tags, opened_by, split_thinking, template_tags

pytestmark = pytest.mark.unit
THINK = COMMON[0]


@pytest.mark.parametrize(
    ("text", "answer", "thinking", "closed"),
    [
        ("The answer is 4.", "The answer is 4.", "", True),
        ("  as it is \n", "  as it is \n", "", True),
        ("<think>2+2</think>\n\nThe answer is 4.", "The answer is 4.", "2+2", True),
        ("<think></think>4", "4", "", True),
        ("<think>a</think>\n \n    return x\n", "    return x", "a", True),  # code keeps its indentation
        ("First <think>a</think>then <think>b</think>4", "First then 4", "a\nb", True),
        ("so it is 4</think>4", "4", "so it is 4", True),  # the template opened it
        ("<think>use <think> tags</think> or not</think>4", "4", "use <think> tags\nor not", True),
        ("<think>2+2 is", "", "2+2 is", False),
        ("4 <think>or 5", "4", "or 5", False),
        ("<think>a</think>4 <think>but", "4", "a\nbut", False),
        ("[THINK]a[/THINK]4", "4", "a", True),
        ("◁think▷一◁/think▷四", "四", "一", True),
    ],
)
def test_split(text: str, answer: str, thinking: str, closed: bool) -> None:
    found = split_thinking(text)
    assert found == (answer, thinking, closed)


def test_opened_by_the_template() -> None:
    assert split_thinking("2+2</think>4", COMMON, THINK) == ("4", "2+2", True)
    assert split_thinking("2+2 and on", COMMON, THINK).closed is False
    assert split_thinking("2+2 and on", COMMON, THINK).answer == ""
    assert opened_by("<|assistant|>\n<think>\n", COMMON) == THINK
    assert opened_by("<|assistant|>\n<think>\n\n</think>\n\n", COMMON) is None


def test_a_templates_own_tags_come_first() -> None:
    template = "{% set content = m.content.split('</reasoning>')[-1] %}<reasoning>"
    assert template_tags(template)[0] == Tags("<reasoning>", "</reasoning>")
    assert template_tags(None) == COMMON
    assert split_thinking("<reasoning>x</reasoning>4", template_tags(template)).answer == "4"


def test_tags_that_decoding_drops() -> None:
    assert hidden_tags({"[/THINK]", "</s>"}, COMMON) == ("[/THINK]",)
    assert hidden_tags({"</s>"}, COMMON) == ()
