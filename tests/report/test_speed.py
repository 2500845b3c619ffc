"""Speed and length as they are shown: one unit a row, no difference where there must be none, few points."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.analysis.latency import NO_TIMES
from forgetbench.analysis.types import Comparison, Interval, SpeedChange
from forgetbench.report.html import render
from forgetbench.report.scatter import round_ticks, scatter
from forgetbench.report.speed import (
    amount,
    answers_to_dict,
    length_line,
    signed,
    speed_and_length,
    speed_line,
    tokens,
    unit_of,
)
from forgetbench.report.words import Words, load_words
from tests.report.sample import comparison, demo, mmlu
from tests.report.test_html import Page

pytestmark = pytest.mark.unit


def found() -> Comparison:
    return demo()[0][1]


def with_speed(speed: SpeedChange) -> Comparison:
    one = found()
    assert one.answers is not None
    return replace(one, answers=replace(one.answers, speed=speed))


def speed_of(one: Comparison) -> SpeedChange:
    assert one.answers is not None
    return one.answers.speed


def text_of(*comparisons: Comparison, lang: str = "en") -> str:
    page = render([replace(c, pairs=()) for c in comparisons], [], lang=lang)
    section = re.search(r'<section aria-labelledby="speed-candidate-1">.*?</section>', page, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", section[0])).split()) if section else ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.806, "0.81"),
        (-8.127, "−8.13"),
        (9.996, "10.0"),
        (99.96, "100"),
        (-0.001, "0.00"),
        (8130.4, "8,130"),
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
    ],
)
def test_amounts(value: float | None, text: str) -> None:
    assert amount(value) == text


def test_signs_units_and_tokens() -> None:
    assert [signed(x) for x in (2.0, -2.0, 0.0, 0.001, None)] == ["+2.00", "−2.00", "0.00", "0.00", "–"]
    assert unit_of(0.12, None, 0.3) == ("ms", 1_000.0)
    assert unit_of(0.12, 1.0) == ("s", 1.0)
    assert [tokens(x) for x in (61.0, 61.5, 240.3, 1_240.0)] == ["61", "61.5", "240", "1,240"]


def test_a_row_has_one_unit_and_as_many_decimals() -> None:
    shown = speed_and_length(found(), Words())
    assert shown is not None
    assert (shown["first_token"]["unit"], shown["per_token"]["unit"]) == ("ms", "ms")
    assert shown["measured"]["base"]["value"] == "120"
    per = shown["per_token"]
    figures = [per[side][what] for side in ("base", "candidate", "change") for what in ("value", "low", "high")]
    assert all(re.fullmatch(r"[+−]?\d\.\d\d", x) for x in figures), figures
    change = float(per["candidate"]["value"]) - float(per["base"]["value"])
    assert float(per["change"]["value"].replace("−", "-")) == pytest.approx(change, abs=0.011)


def test_the_section_says_what_the_figures_mean() -> None:
    text = text_of(found())
    for part in ("All tasks ability", "First token, ms", "Each further token, ms", "share their beginning"):
        assert part in text
    assert "300 / 420" in text  # what was fitted, and out of how many
    assert "out of the cache" in text
    assert "must not be held against" not in text
    assert text_of(mmlu(600)[0][0]) == ""  # choices among options have no length


def test_what_must_not_be_compared_is_not() -> None:
    speed = speed_of(found())
    why = "the engines differ (device: cpu, cuda)"
    apart = replace(
        speed,
        not_comparable=why,
        first_token=None,
        first_token_interval=None,
        per_token=None,
        per_token_interval=None,
    )
    text = text_of(with_speed(apart))
    assert f"The times must not be held against each other: {why}." in text
    row = re.search(r"Each further token, ms (.*?) First token as", text)
    assert row is not None
    assert row[1].endswith("–")
    told = text_of(with_speed(apart), lang="zh")
    assert "两边的引擎不同（device: cpu, cuda）" in told
    assert speed_line(apart).endswith(f"; not comparable: {why}")


def test_a_side_without_a_line_says_why() -> None:
    speed = speed_of(found())
    alone = SpeedChange(None, speed.candidate, NO_TIMES, "", "")
    assert f"base : {NO_TIMES}" in text_of(with_speed(alone))
    assert "没有带耗时的回答" in text_of(with_speed(alone), lang="zh")
    assert speed_line(alone).startswith("speed: first token – → 1")
    neither = SpeedChange(None, None, NO_TIMES, NO_TIMES, "the engine of a side is not known")
    text = text_of(with_speed(neither))
    assert "Median, tokens" in text
    assert "First token" not in text
    assert "Theil" not in text
    assert speed_line(neither) == ""


def test_every_reason_is_known_in_chinese() -> None:
    zh = load_words("zh")
    for line in (
        NO_TIMES,
        "19 timed answers, a line needs 20",
        "the answers' lengths differ too little within a task",
        "the times do not rise with the length in a straight line",
        "the engine of a side is not known",
        "the engines differ (dtype: float32, bfloat16)",
    ):
        assert re.search(r"[\u4e00-\u9fff]", zh.sentence(line)), line


def test_one_task_stands_in_the_table_and_several_under_a_fold() -> None:
    one = comparison("base", "sft", {"a/b": (60, 0.9, 0.5)}, ["ability"])
    assert one.answers is not None
    only = replace(one, answers=replace(one.answers, lengths=one.answers.lengths[-1:]))
    shown = speed_and_length(only, Words())
    assert shown is not None
    assert [r["group"] for r in shown["lengths"]] == ["world_a"]
    assert shown["by_task"] == []
    several = speed_and_length(demo()[0][2], Words())
    assert several is not None
    assert [(r["group"], r["view"]) for r in several["lengths"]] == [("all", "ability"), ("all", "chat")]
    assert len(several["by_task"]) == 14


def test_another_tokenizer_is_told() -> None:
    one = found()
    assert one.answers is not None
    assert "different tokenizers" not in text_of(one)
    assert "different tokenizers" in text_of(replace(one, answers=replace(one.answers, other_tokenizer=True)))


def test_the_terminals_line_has_the_overall_lengths() -> None:
    one = found()
    assert one.answers is not None
    row = one.answers.lengths[0]
    line = length_line(one.answers, "ability", "greedy")
    assert line.startswith(f"answers: {tokens(row.base.median)} → {tokens(row.candidate.median)} tokens (median)")
    assert length_line(one.answers, "chat", "greedy") == ""
    bare = replace(one.answers, lengths=(replace(row, interval=None),))
    assert "(−" not in length_line(bare, "ability", "greedy")


def test_json_has_all_but_the_points_and_no_infinities() -> None:
    speed = speed_of(found())
    endless = replace(speed, per_token_interval=Interval(float("-inf"), float("inf")))
    rows = answers_to_dict([with_speed(endless), mmlu(600)[0][0]])
    plain = json.loads(json.dumps(rows, allow_nan=False))
    assert [(r["base"], r["candidate"]) for r in plain] == [("base", "sft_v2")]
    assert plain[0]["speed"]["per_token"] == pytest.approx(speed.per_token)
    assert plain[0]["speed"]["per_token_interval"]["low"] is None
    assert "points" not in plain[0]["speed"]["base"]
    assert plain[0]["lengths"][0]["base"]["median"] > plain[0]["lengths"][0]["candidate"]["median"]


def test_points_are_few_in_a_large_report() -> None:
    page = Page(render(*demo()))
    circles = [a for t, a in page.tags if t == "circle" and "%" in (a.get("cx") or "") and not a.get("class")]
    assert 0 < len(circles) <= 3 * 240
    drawn = scatter(*([s.points for s in (speed_of(found()).base, speed_of(found()).candidate) if s], [None, None]))
    assert len(drawn) < 16_000


@given(st.floats(1e-6, 1e6), st.integers(2, 6))
def test_ticks_are_few_and_hold_the_highest(highest: float, most: int) -> None:
    ticks = round_ticks(highest, most)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= most + 1
    assert highest <= ticks[-1] * (1 + 1e-6)
    assert ticks[-2] < highest * (1 + 1e-6)


@given(
    st.lists(st.tuples(st.integers(1, 4_000), st.floats(1e-4, 1e3)), min_size=1, max_size=20),
    st.floats(0, 10),
    st.floats(0, 1),
)
def test_everything_drawn_lies_inside(points: list[tuple[int, float]], first: float, each: float) -> None:
    tree = ElementTree.fromstring(scatter([points, []], [(first, each), None]))
    places = [
        float(value.removesuffix("%"))
        for e in tree.iter()
        for name, value in e.attrib.items()
        if name in ("cx", "cy", "x1", "x2", "y1", "y2") and value.endswith("%")
    ]
    assert places
    assert all(0 <= p <= 100 for p in places)
    assert len([e for e in tree.iter() if e.tag == "circle"]) == len(points)
    assert "style=" not in ElementTree.tostring(tree, encoding="unicode")
    line = next(e for e in tree.iter() if "s-line" in e.get("class", ""))
    longest, end = max(x for x, _ in points), float(line.attrib["x2"].removesuffix("%"))
    at_end = next(e for e, (x, _) in zip(tree.iter("circle"), points, strict=True) if x == longest)
    assert float(at_end.attrib["cx"].removesuffix("%")) == end  # as long as the answers are, not longer


def test_one_late_answer_does_not_flatten_the_others() -> None:
    usual = [(x, 0.1 + 0.01 * x) for x in range(1, 101)]
    tree = ElementTree.fromstring(scatter([[*usual, (50, 90.0)], usual], [(0.11, 0.01), (0.11, 0.01)]))
    heights = [float((e.get("cy") or "").removesuffix("%")) for e in tree.iter("circle")]
    assert min(heights) == 0.0  # at the edge
    assert max(heights) - sorted(heights)[1] > 60
