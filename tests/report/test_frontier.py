"""The frontier's picture, page and words. In a browser: light, dark, narrow. About 10 s."""

from __future__ import annotations

import html
import itertools
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.arms.frontier import Frontier, frontier
from forgetbench.errors import UsageError
from forgetbench.report import frontier as frontier_page
from forgetbench.report import page
from forgetbench.report.frontier_words import described, failures, headline, reading, title, verdicts, where
from tests.arms import made
from tests.report.chromium import Chromium, browser, find
from tests.report.hostile import ALL


@pytest.fixture(scope="module")
def found() -> Frontier:
    return frontier(made.arms(made.USUAL, passes=["replay 20 %"]), made.TARGET, made.GENERAL, draws=300)


def _render(found: Frontier, **more: object) -> str:
    return frontier_page.render(found, **{"title": "tickets", "seeds": (0, 1, 2), "failed": {}, **more})  # type: ignore[arg-type]


@pytest.mark.unit
def test_words(found: Frontier) -> None:
    assert title(found) == "1 arm is acceptable"
    assert headline(found) == "replay 20 % reaches the target score and passes in every seed: 1 of 6 arms."
    told = reading(found, {"kl 2": "seed 1 failed: why"})
    assert told[0].startswith("The matched target score: 88.8 is nine tenths of the way from the base (3.3)")
    assert "Of those that reach it no other arm is shown to beat replay 20 %." in told
    assert "lora reaches it in no seed; it stands where its target score is highest." in told
    some = replace(found, stands=tuple(replace(s, reached=2) if s.arm == "lora" else s for s in found.stands))
    of_two = "lora reaches it in 2 of 3 seeds; those stand there, the other stands where its target score is highest."
    assert of_two in reading(some, {})
    one = replace(found, stands=tuple(replace(s, reached=1) if s.arm == "lora" else s for s in found.stands))
    of_one = "lora reaches it in 1 of 3 seeds; that seed stands there, the others where their target score is highest."
    assert of_one in reading(one, {})
    assert "kl 2 is left out: seed 1 failed: why" in told
    none = replace(found, stands=tuple(replace(s, states=("FAIL", "PASS", "PASS")) for s in found.stands))
    assert title(none) == "No arm is acceptable"
    assert headline(none) == (
        "No arm is acceptable: full, replay 20 %, replay 5 % and kl reach the target score, and the policy does not pass "
        "any of them in every seed."
    )
    short = replace(found, stands=tuple(replace(s, reaches=False) for s in found.stands))
    assert headline(short) == "No arm is acceptable: none of 6 reaches the target score in every seed."
    nothing = replace(short, at=None, why="Nobody gained.")
    assert headline(nothing) == "No arm is acceptable. Nobody gained."
    assert verdicts(none.stands[0]) == "2 pass, 1 blocked"
    assert where(replace(found.stands[0], at=("step 1", "step 20", "step 1"))) == "step 1, 20, 1"
    assert failures([("a", 0, "x"), ("a", 1, "y"), ("b", 2, "z")]) == {"a": "seed 0 failed: x", "b": "seed 2 failed: z"}


@pytest.mark.unit
def test_the_picture_says_what_it_shows(found: Frontier) -> None:
    text = str(frontier_page.drawing(found))
    root = ET.fromstring(text)
    assert root.get("aria-label") == described(found)
    for s in found.stands:
        assert s.arm in described(found)
    marks = re.findall(r'class="a-mark (a-\w+)( a-beaten)?"', text)
    assert sorted(marks) == sorted(
        [("a-base", ""), ("a-pass", ""), ("a-noop", ""), ("a-short", ""), ("a-short", " a-beaten")]
        + [("a-held", " a-beaten")] * 3
    )
    segments = sum(len(p) for s in found.stands if not s.noop for p in s.paths)
    assert len(re.findall('class="a-path ', text)) == segments
    assert len(re.findall('class="a-front"', text)) == len(found.front) - 1
    assert text.count('class="a-level"') == 1
    assert 'class="a-level"' not in str(frontier_page.drawing(replace(found, at=None)))
    percents = [float(v) for v in re.findall(r'(?:x|x1|x2|cx)="([\d.-]+)%"', text)]
    assert all(0 <= v <= 100 for v in percents)


@pytest.mark.unit
@given(st.lists(st.floats(0, 400), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_labels_make_room_and_keep_their_order(wanted: list[float]) -> None:
    wanted = sorted(wanted)
    placed = frontier_page.spread(wanted)
    assert all(b - a >= 16.8 for a, b in itertools.pairwise(placed))
    assert all(-0.1 <= y <= 400.1 for y in placed)
    if all(b - a >= 17.2 for a, b in itertools.pairwise(wanted)):
        assert placed == pytest.approx(wanted, abs=0.06)


@pytest.mark.unit
def test_the_page_is_inert_and_whole(found: Frontier) -> None:
    names = {s.arm: ALL[i % len(ALL)] for i, s in enumerate(found.stands)}
    hostile = replace(
        found,
        stands=tuple(replace(s, arm=names[s.arm]) for s in found.stands),
        versus=tuple(replace(v, arm=names[v.arm], other=names[v.other]) for v in found.versus),
        front=tuple((names.get(arm, ""), label) for arm, label in found.front),
        notes=tuple(ALL),
    )
    text = _render(hostile, title=ALL[0], failed={ALL[0]: ALL[-1]}, banner=ALL[0])
    assert "<script" not in text
    assert " style=" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", re.sub(r"<svg.*?</svg>", "", text, flags=re.S))
    plain = html.unescape(_render(found))
    for s in found.stands:
        assert f"<bdi>{s.arm}</bdi>" in plain
    assert plain.count("<summary>") == 2


@pytest.mark.unit
def test_the_picture_alone_is_an_svg_file(found: Frontier) -> None:
    root = ET.fromstring(frontier_page.standalone(found, "arms & <seeds>"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "arms & <seeds>" in "".join(root.itertext())
    assert "prefers-color-scheme: dark" in frontier_page.standalone(found)


@pytest.mark.unit
def test_json_holds_what_the_page_shows(found: Frontier) -> None:
    told = json.loads(json.dumps(frontier_page.document(found, {"kl 2": "why"})))
    assert told["acceptable"] == told["unbeaten"] == ["replay 20 %"]
    assert told["failed"] == {"kl 2": "why"}
    rows = {row["arm"]: row for row in told["stands"]}
    assert rows["replay 20 %"]["acceptable"] is True
    assert rows["full"]["beaten_by"] == list(found.beaten_by("full"))
    assert rows["full"]["general"]["seeds"]["level"] == 0.95


@pytest.mark.unit
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        page.write("x", tmp_path / "file" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture(scope="module")
def page_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if find() is None:
        message = "no Chromium on PATH: scripts/browser.sh installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with browser(tmp_path_factory.mktemp("profile")) as open_page:
        yield open_page


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (360, False)])
def test_in_a_browser(page_: Chromium, found: Frontier, tmp_path: Path, width: int, dark: bool) -> None:
    file = page.write(_render(found, failed={"kl 2": "seed 1 failed: " + "x" * 300}), tmp_path / "report.html")
    page_.window(width, 900, dark=dark, mobile=width < 500)
    page_.goto(file.as_uri())
    assert page_.errors == []  # nothing was refused by the page's own policy
    assert page_.run("document.documentElement.scrollWidth") <= width
    # Every label lies inside the window and none on another.
    boxes = page_.run(
        "[...document.querySelectorAll('.a-label')].map(e => { const r = e.getBoundingClientRect();"
        " return [r.left, r.top, r.right, r.bottom]; })"
    )
    assert len(boxes) == 8
    assert all(left >= 0 and right <= width for left, _, right, _ in boxes)
    tops = sorted(top for _, top, _, _ in boxes)
    assert all(b - a >= 12 for a, b in itertools.pairwise(tops))
    colour = page_.run("getComputedStyle(document.querySelector('.a-pass')).fill")
    assert colour == ("rgb(125, 183, 232)" if dark else "rgb(31, 106, 165)")


@pytest.mark.slow
def test_the_file_alone_follows_the_reader(page_: Chromium, found: Frontier, tmp_path: Path) -> None:
    file = page.write(frontier_page.standalone(found, "arms"), tmp_path / "frontier.svg")
    for dark, ground in ((False, "rgb(255, 254, 251)"), (True, "rgb(22, 22, 21)")):
        page_.window(900, 560, dark=dark)
        page_.goto(file.as_uri())
        assert page_.run("getComputedStyle(document.querySelector('.a-ground')).fill") == ground
    assert page_.errors == []
