"""The smaller figures: subjects, flips matrix, views, rates, leaks. Counts come from the pairs themselves."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.analysis.types import Leak
from forgetbench.report import figures, lines
from forgetbench.report.context import build_context
from forgetbench.report.html import render
from forgetbench.types import ItemKey
from tests.report.sample import changes_of, comparison, demo, mmlu
from tests.report.test_html import Page

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("delta", "step"),
    [(0.0, 0), (0.009, 0), (-0.01, -1), (0.049, 1), (0.05, 2), (-0.149, -2), (-0.15, -3), (-1.0, -3), (1.0, 3)],
)
def test_tints_end_where_the_legend_says(delta: float, step: int) -> None:
    assert figures.step(delta) == step


@given(st.floats(-1, 1))
def test_tints_are_the_same_both_ways(delta: float) -> None:
    assert figures.step(-delta) == -figures.step(delta)
    assert abs(figures.step(delta)) <= len(figures.STEPS)


def test_every_subject_is_a_cell_with_sign_number_and_items() -> None:
    comparisons, verdicts = mmlu(1_140)
    page = render(comparisons, verdicts)
    cells = re.findall(r'<li class="h(-?\d)">(.*?)</li>', page, re.DOTALL)
    strata = [c for c in comparisons[0].changes if c.kind == "stratum"]
    assert len(cells) == len(strata) == 57
    for change in strata:
        name = change.group.split("/")[1].replace("_", " ")
        (cell,) = [(step, text) for step, text in cells if f">{name}<" in text]
        text = re.sub(r"<[^>]+>", " ", cell[1])
        assert f"{abs(change.delta) * 100:.1f}" in text
        assert ("−" in text) == (round(change.delta * 100, 1) < 0)
        assert f"{change.n:,}" in text
        assert int(cell[0]) == figures.step(change.delta)


def test_subjects_stand_under_their_ability() -> None:
    comparisons, _ = mmlu(570)
    (heat,) = [v["heat"] for v in build_context(comparisons, [])["candidates"][0]["comparisons"][0]["views"]]
    assert [p["name"] for p in heat] == [f"knowledge/{x}" for x in ("humanities", "other", "social_sciences", "stem")]
    types = {p.stratum: p.task_type for p in comparisons[0].pairs}
    for part in heat:
        deltas = [c["change"]["delta"] for c in part["cells"]]
        assert deltas == sorted(deltas, reverse=True)
        assert {types[c["stratum"]] for c in part["cells"]} == {part["name"]}


def test_flips_matrix_counts_the_pairs() -> None:
    pairs = demo()[0][0].pairs
    found = figures.flip_matrix(pairs)
    assert found is not None
    assert found["kept"] == sum(p.base.score == p.candidate.score == 1 for p in pairs)
    assert found["never"] == sum(p.base.score == p.candidate.score == 0 for p in pairs)
    assert found["lost"] == sum(p.flip == "lost" for p in pairs)
    assert found["gained"] == sum(p.flip == "gained" for p in pairs)
    assert found["n"] == len(pairs)


def test_flips_matrix_leaves_out_what_is_neither_right_nor_wrong() -> None:
    pairs = demo()[0][0].pairs[:4]
    half = replace(pairs[0], candidate=replace(pairs[0].candidate, score=0.5))
    none = replace(pairs[1], base=replace(pairs[1].base, score=None))
    found = figures.flip_matrix([half, none, *pairs[2:]])
    assert found is not None
    assert (found["other"], found["n"]) == (2, 2)
    assert figures.flip_matrix([half, none]) is None


def test_gap_is_ability_minus_chat_where_both_exist() -> None:
    comparisons, verdicts = demo()
    context = build_context(comparisons, verdicts)
    against_base, step = context["candidates"][-1]["comparisons"]
    assert against_base["gaps"] == []  # the base has no chat template
    row = next(r for r in step["gaps"] if r["name"] == "capitals")
    views = {c.view: c for c in comparisons[2].changes if c.group == "knowledge/capitals"}
    assert row["candidate"][:2] == [views["ability"].candidate, views["chat"].candidate]
    assert row["candidate"][2] == pytest.approx(views["ability"].candidate - views["chat"].candidate)
    assert row["base"][2] == pytest.approx(views["ability"].base - views["chat"].base)


def test_rates_name_only_what_occurs() -> None:
    found = comparison("base", "sft", {"a/b": (200, 0.9, 0.4), "c/d": (200, 0.9, 0.9)}, ["ability"])
    clean = [
        replace(p, base=replace(p.base, outcome="ok"), candidate=replace(p.candidate, outcome="ok"))
        for p in found.pairs
        if p.task_type == "c/d"
    ]
    broken = [
        replace(p, base=replace(p.base, outcome="ok"), candidate=replace(p.candidate, outcome=o))
        for i, p in enumerate(q for q in found.pairs if q.task_type == "a/b")
        for o in ["unparsed" if i < 30 else "ok"]
    ]
    table = figures.rate_table(changes_of([*clean, *broken]))
    assert table["kinds"] == ["unparsed"]
    assert [r["task"] for r in table["rows"]] == ["world_a"]
    (cell,) = table["rows"][0]["cells"]
    assert (cell["base"], cell["candidate"], cell["many"]) == (0.0, 0.15, True)
    assert table["scale"] == 0.2
    assert (table["clean"], table["tasks"]) == (1, 2)


def test_rates_that_were_not_looked_for_are_not_zero() -> None:
    changes = [c for c in demo()[0][0].changes if c.kind == "task"]
    seen = [replace(c, candidate_rates=replace(c.candidate_rates, looped=0.25)) for c in changes[:1]]
    table = figures.rate_table([*seen, *changes[1:]])
    assert "looped" in table["kinds"]
    at = table["kinds"].index("looped")
    row = next(r for r in table["rows"] if r["task"] == changes[0].group)
    assert (row["cells"][at]["base"], row["cells"][at]["candidate"]) == (None, 0.25)


def test_leaks_show_every_change_they_touch_with_and_without() -> None:
    found = demo()[0][0]
    key = ItemKey("world_knowledge", "ab12", 0)
    leak = Leak(key, "ngram", 0.8, "train.jsonl:7", "the capital of " + "</script>" * 40)
    rest = tuple(
        replace(c, n=c.n - 1, delta=c.delta + 0.01) if c.group.startswith(("knowledge", "world_knowledge")) else c
        for c in found.changes
    )
    found = replace(found, leaks=(leak,), without_leaks=rest)
    page = Page(render([found], []))
    text = " ".join(" ".join(page.text).split())
    assert "Items found in the training data" in text
    assert "train.jsonl:7" in text
    rows = build_context([found], [])["candidates"][0]["comparisons"][0]["leaks"]["rows"]
    assert {r["change"]["group"].split("/")[0] for r in rows} == {"knowledge", "world_knowledge"}
    assert all(r["rest"]["n"] == r["change"]["n"] - 1 for r in rows)
    assert "training data" not in " ".join(Page(render(*demo())).text)


scores = st.lists(st.floats(0, 1) | st.none() | st.just(math.nan), min_size=1, max_size=6)


@given(scores)
def test_the_line_has_a_dot_for_every_known_score(values: list[float | None]) -> None:
    tree = ElementTree.fromstring(lines.spark(values))
    dots = [e for e in tree if e.tag == "circle"]
    known = [v for v in values if v is not None and not math.isnan(v)]
    assert len(dots) == len(known)
    assert sum(e.get("class") == "l-last" for e in dots) == min(1, len(known))
    heights = [float(e.get("cy") or "nan") for e in dots]
    for (v, y), (w, z) in zip(
        zip(known, heights, strict=True), list(zip(known, heights, strict=True))[1:], strict=False
    ):
        assert (y >= z) if v <= w else (y <= z)  # higher is better
    assert len([e for e in tree if "l-line" in (e.get("class") or "")]) == max(0, len(known) - 1)


def test_a_score_left_out_is_bridged_by_dashes() -> None:
    drawn = lines.spark([0.2, None, 0.8])
    assert "l-bridge" in drawn
    assert "l-bridge" not in lines.spark([None, 0.2, 0.8])
    assert figures.moves([None, 0.2, 0.8]) == pytest.approx(0.6)
    assert figures.moves([None, 0.2]) is None


def test_drawings_use_shapes_and_no_styles() -> None:
    drawn = lines.dumbbell(0.9, 0.2) + lines.bars(0.1, None, 0.2) + lines.spark([0.1, 0.9])
    assert "style=" not in drawn
    assert "<circle" in lines.dumbbell(0.9, 0.2)
    assert "<path" in lines.dumbbell(0.9, 0.2)
    assert "l-behind" in lines.dumbbell(0.9, 0.2)
    assert "l-behind" not in lines.dumbbell(0.2, 0.9)
