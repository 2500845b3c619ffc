"""A real browser opens the file and is clicked: filters, search, rows, theme, tables, keys, links. Nothing hostile
runs, and the console stays empty throughout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from forgetbench.analysis.types import Pair
from forgetbench.report.html import build_report
from forgetbench.report.text import visible
from tests.report.chromium import Chromium, browser, find
from tests.report.hostile import hostile
from tests.report.sample import comparison, demo, mmlu, verdict_of

pytestmark = pytest.mark.slow

Open = Callable[..., Chromium]
ROWS = "document.querySelectorAll('#rows > .pair').length"
SHOWN = "document.getElementById('shown').textContent"
SUMMARIES = "[...document.querySelectorAll('#rows > .pair > summary')].map((s) => s.textContent)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if find() is None:
        message = "no Chromium found; install it: apt-get install chromium (or put google-chrome on the PATH)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as page:
        yield page


@pytest.fixture
def visit(chromium: Chromium) -> Iterator[Open]:
    """Opens a file (with a fragment) as a new reader would; at the end the console must have been silent."""
    chromium.errors.clear()

    def go(file: Path, fragment: str = "", ready: bool = True, **window: Any) -> Chromium:
        chromium.window(**{"width": 1200, "height": 900, **window})
        chromium.goto(file.as_uri())
        chromium.run("localStorage.clear()")
        chromium.goto(file.as_uri() + (f"#{fragment}" if fragment else ""))
        if ready:
            chromium.settle("document.documentElement.dataset.ready")
        return chromium

    yield go
    assert chromium.errors == []


@pytest.fixture(scope="module")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(*demo(), tmp_path_factory.mktemp("report") / "demo.html", title="Demo")


def shown(page: Chromium) -> int:
    """How many answers the list says it has found, once it has settled."""
    page.settle(f"/^[\\d,]+ /.test({SHOWN})")
    return int(page.run(SHOWN).split()[0].replace(",", ""))


def expect(page: Chromium, n: int) -> None:
    page.settle(f"{SHOWN}.startsWith('{n:,} of ')")


def of(found: int, **want: str) -> list[Pair]:
    return [p for p in demo()[0][found].pairs if all(getattr(p, k) == v for k, v in want.items())]


def test_the_console_would_be_heard(chromium: Chromium, tmp_path: Path) -> None:
    """The check in `visit` can fail: an exception is noticed, and so is a script that the policy stops."""
    for name, text in (
        ("throws", "<script>null.x</script>"),
        ("stopped", "<meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\"><script>x()</script>"),
        ("complains", "<script>console.error('no')</script>"),
    ):
        (tmp_path / f"{name}.html").write_text(text)
        chromium.errors.clear()
        chromium.goto((tmp_path / f"{name}.html").as_uri())
        chromium.run("1")
        assert chromium.errors, name
    chromium.errors.clear()


def test_it_opens_on_the_deciding_candidate(visit: Open, demo_file: Path) -> None:
    page = visit(demo_file)
    assert page.run("document.title") == "Demo · forgetbench"
    assert page.run("document.querySelector('.tabs [aria-current]').dataset.tab") == "candidate-2"
    assert page.run("document.getElementById('candidate-1').hidden")
    assert page.run(ROWS) == 60
    flips = sum(p.flip in ("lost", "gained") for p in demo()[0][1].pairs)
    expect(page, flips)
    page.click("[data-tab='candidate-1']")
    assert not page.run("document.getElementById('candidate-1').hidden")
    assert page.run("document.querySelector('[name=comparison]').value") == "sft_v1-vs-base"


def test_filters(visit: Open, demo_file: Path) -> None:
    page = visit(demo_file)
    page.choose("[name=comparison]", "sft_v2-vs-sft_v1")
    step = demo()[0][2].pairs
    flips = [p for p in step if p.flip in ("lost", "gained")]
    expect(page, len(flips))
    for name, value, keep in (
        ("flip", "lost", lambda p: p.flip == "lost"),
        ("type", "reasoning", lambda p: p.task_type.startswith("reasoning/")),
        ("type", "reasoning/arithmetic", lambda p: p.task_type == "reasoning/arithmetic"),
        ("task", "world_reasoning", lambda p: p.task == "world_reasoning"),
        ("view", "chat", lambda p: p.view == "chat"),
        ("outcome", "unparsed", lambda p: "unparsed" in (p.base.outcome, p.candidate.outcome)),
    ):
        page.choose(f"[name={name}]", value)
        flips = [p for p in flips if keep(p)]
        assert flips, name
        expect(page, len(flips))
    page.click("#filters button[type=reset]")
    expect(page, sum(p.flip in ("lost", "gained") for p in demo()[0][1].pairs))


@pytest.mark.parametrize(
    "where", ["prompt", "prompt2", "gold", "output", "output2", "extracted", "why", "source", "hash"]
)
def test_search_reads_every_text(visit: Open, tmp_path: Path, where: str) -> None:
    found = comparison("base", "sft", {"a/b": (400, 0.5, 0.4)}, ["ability"])
    at = next(i for i, p in enumerate(found.pairs) if i > 150 and p.flip == "lost")  # not in the first chunk
    p = found.pairs[at]
    needle = "Ünique Nadel"
    changed = {
        "prompt": replace(p, prompt=f"{p.prompt} {needle}"),
        "prompt2": replace(p, candidate_prompt=f"other {needle} prompt"),
        "gold": replace(p, gold=needle),
        "output": replace(p, base=replace(p.base, output=f"x {needle}")),
        "output2": replace(p, candidate=replace(p.candidate, output=f"{needle} y")),
        "extracted": replace(p, candidate=replace(p.candidate, extracted=needle)),
        "why": replace(p, base=replace(p.base, why=f"because of {needle}")),
        "source": replace(p, source=f"{needle}.jsonl:3"),
        "hash": p,
    }[where]
    pairs = (*found.pairs[:at], changed, *found.pairs[at + 1 :])
    page = visit(build_report([replace(found, pairs=pairs)], [], tmp_path / "r.html", embed="all"))
    page.run("document.querySelector('[name=text]').focus()")
    page.type(p.content_hash if where == "hash" else needle.upper())
    expect(page, 1)
    page.click(".pair > summary")
    page.settle("document.querySelector('.pair .side')")
    assert page.run("document.querySelector('.pair').dataset.row") is not None


def test_filters_stand_in_the_address_and_come_back_from_it(visit: Open, demo_file: Path) -> None:
    wanted = [
        p
        for p in of(2, flip="gained", view="chat")
        if p.task_type.startswith("reasoning/") and any("extracted 'yes" in s.why for s in (p.base, p.candidate))
    ]
    assert wanted
    page = visit(demo_file, "?comparison=sft_v2-vs-sft_v1&flip=gained&type=reasoning&view=chat&text=EXTRACTED+%27yes")
    expect(page, len(wanted))
    page.choose("[name=view]", "ability")
    page.settle("location.hash.includes('view=ability')")


def test_a_row_opens_with_both_answers_and_the_words_that_differ(visit: Open, tmp_path: Path) -> None:
    found = comparison("base", "sft", {"a/b": (60, 0.9, 0.2)}, ["ability"])
    p = next(p for p in found.pairs if p.flip == "lost")
    before, after = "The capital of Velm is Orrin, I am sure.", "The capital of Velm is Tamm, I am sure."
    p = replace(p, base=replace(p.base, output=before), candidate=replace(p.candidate, output=after))
    page = visit(build_report([replace(found, pairs=(p,))], [], tmp_path / "r.html"))
    page.click(".pair > summary")
    page.settle("document.querySelectorAll('.side').length === 2")
    assert page.run("[...document.querySelectorAll('.side pre')].map((e) => e.textContent)") == [before, after]
    assert page.run("[...document.querySelectorAll('.side del')].map((e) => e.textContent)") == ["Orrin"]
    assert page.run("[...document.querySelectorAll('.side ins')].map((e) => e.textContent)") == ["Tamm"]
    facts = page.run("[...document.querySelectorAll('.side .facts')].map((e) => e.textContent)")
    assert p.base.why in facts[0]
    assert (p.candidate.extracted or "(nothing)") in facts[1]
    folded = "document.querySelector('.pair .body > details')"
    assert not page.run(f"{folded}.open")
    page.click(".pair .body > details > summary")
    page.settle(f"{folded}.querySelector('pre')")
    assert page.run(f"{folded}.querySelector('pre').textContent") == p.prompt
    page.click(".toggle")
    assert page.run("document.querySelectorAll('.side del, .side ins').length") == 0
    assert page.run("document.querySelector('.toggle').getAttribute('aria-pressed')") == "false"


def test_a_permanent_link_opens_one_item(visit: Open, demo_file: Path) -> None:
    pair = of(0, flip="lost")[0]
    page = visit(demo_file, f"{quote(pair.anchor)}@sft_v1-vs-base")
    assert page.run("document.querySelector('.tabs [aria-current]').dataset.tab") == "candidate-1"
    page.settle("document.querySelector('.pair[open] .sides')")
    text = page.run("document.querySelector('.pair[open]').textContent")
    assert pair.base.why in text
    assert pair.gold in text
    link = page.run("document.querySelector('.pair[open] .body a').getAttribute('href')")
    assert link == f"#{quote(pair.anchor)}@sft_v1-vs-base"
    assert page.run("document.activeElement === document.querySelector('.pair[open] > summary')")


def test_a_link_to_what_the_file_does_not_carry_says_so(visit: Open, demo_file: Path) -> None:
    page = visit(demo_file, "mmlu-0123456789abcdef-0-ability")
    page.settle(f"{SHOWN}.includes(\"forgetbench show 'mmlu-0123456789abcdef-0-ability'\")")


def test_every_figure_leads_to_its_cases(visit: Open, tmp_path: Path) -> None:
    comparisons, verdicts = mmlu(2_000)
    page = visit(build_report(comparisons, verdicts, tmp_path / "r.html"))
    lost = [p for p in comparisons[0].pairs if p.flip == "lost"]
    page.click(".matrix td.lost a")
    expect(page, len(lost))
    subject = page.run("document.querySelector('.cells li:last-child .subject').textContent").replace(" ", "_")
    page.click(".cells li:last-child .subject a")
    expect(page, sum(p.stratum == subject and p.flip in ("lost", "gained") for p in comparisons[0].pairs))
    assert page.run("document.querySelector('[name=stratum]').value") == subject


def test_tables_sort_and_say_so(visit: Open, demo_file: Path) -> None:
    page = visit(demo_file)
    head = "article:not([hidden]) .figures th:nth-child(3)"
    first = "[...document.querySelectorAll('article:not([hidden]) .figures')][0].tBodies[0]"
    column = f"[...{first}.rows].filter((r) => !r.classList.contains('part')).map((r) => r.cells[2].textContent)"
    written = page.run(column)
    for order, wanted in (
        ("descending", sorted(written, key=float, reverse=True)),
        ("ascending", sorted(written, key=float)),
        ("none", written),
    ):
        page.click(f"{head} button")
        assert page.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == order
        assert page.run(column) == wanted
    assert page.run(f"{first}.rows[0].classList.contains('part')")
    # A rule and the line that says why stay together.
    page.click("article:not([hidden]) .rules th:nth-child(6) button")
    rows = page.run("[...document.querySelectorAll('article:not([hidden]) .rules tbody tr')].map((r) => r.className)")
    assert all(("why" in row) == bool(i % 2) for i, row in enumerate(rows))
    for table in ("rules", "figures", "chain"):
        assert page.run(f"[...document.querySelectorAll('.{table} thead th')].every((h) => h.querySelector('button'))")


def test_theme_follows_the_system_until_someone_chooses(visit: Open, demo_file: Path) -> None:
    page = visit(demo_file, dark=True)
    assert page.run("document.getElementById('theme').textContent") == "Light"
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    light = page.run("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    assert page.run("document.documentElement.dataset.theme") == "light"
    page.goto(demo_file.as_uri())  # remembered
    assert page.run("getComputedStyle(document.body).backgroundColor") == light
    page.run("localStorage.clear()")


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (375, False)])
def test_speed_and_length_are_drawn(visit: Open, demo_file: Path, width: int, dark: bool) -> None:
    page = visit(demo_file, width=width, dark=dark, mobile=width < 600)
    section = "document.querySelector('#speed-candidate-2').closest('section')"
    assert "Speed and length" in page.run(f"{section}.innerText")
    assert page.run("document.documentElement.scrollWidth") <= width
    plot = f"{section}.querySelector('.s-plot')"
    inside = (
        f"(() => {{ const box = {plot}.getBoundingClientRect(); return [...{plot}.querySelectorAll('circle, line, text')]"
        ".every((e) => { const r = e.getBoundingClientRect(); return r.left >= box.left - 60 && r.left >= 0"
        " && r.right <= box.right + 8 && r.top >= box.top - 2 && r.bottom <= box.bottom + 2; }); })()"
    )
    assert page.run(inside)
    assert page.run(f"{plot}.getBoundingClientRect().width") > 250
    for side in ("base", "candidate"):
        assert page.run(f"{plot}.querySelectorAll('.s-{side} circle').length") == 120
        line = page.run(
            f"(() => {{ const r = {plot}.querySelector('.s-line.s-{side}').getBoundingClientRect();"
            " return [r.width, r.height]; })()"
        )
        assert min(line) > 20
        colours = page.run(
            f"[getComputedStyle({plot}.querySelector('.s-line.s-{side}')).stroke,"
            " getComputedStyle(document.body).backgroundColor]"
        )
        assert colours[0] != colours[1]
    widest = f"[...{section}.querySelectorAll('table')].every((t) => t.scrollWidth <= t.parentElement.clientWidth)"
    assert page.run(widest)  # no figure has to be scrolled to


def test_the_keyboard_alone(visit: Open, demo_file: Path) -> None:
    page = visit(demo_file)
    page.key("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.key("j")
    page.key("j")
    assert page.run("document.activeElement === document.querySelectorAll('#rows > .pair > summary')[1]")
    page.key("k")
    assert page.run("document.activeElement === document.querySelectorAll('#rows > .pair > summary')[0]")
    page.key("Enter")
    page.settle("document.querySelector('.pair[open] .side')")
    page.key("/")
    assert page.run("document.activeElement.name") == "text"
    page.type("j")
    assert page.run("document.querySelector('[name=text]').value") == "j"


def test_nothing_is_wider_than_a_phone(visit: Open, demo_file: Path, tmp_path: Path) -> None:
    page = visit(demo_file, width=375, height=800, mobile=True)
    page.click(".pair > summary")
    page.settle("document.querySelector('.side')")
    assert page.run("document.documentElement.scrollWidth") <= 375
    big = build_report(*mmlu(600), tmp_path / "m.html")
    page = visit(big, width=375, height=800, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 375


def test_without_scripts_the_summary_is_there(chromium: Chromium, demo_file: Path) -> None:
    chromium.scripts(False)
    try:
        chromium.goto(demo_file.as_uri())
        page = chromium.call("Page.printToPDF", printBackground=True)
        assert len(page["data"]) > 50_000
        root = chromium.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        html = chromium.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
    finally:
        chromium.scripts(True)
    assert "Blocked" in html
    assert "data-ready" not in html[:500]
    assert 'id="filters" hidden' in html


def test_hostile_answers_do_nothing(visit: Open, tmp_path: Path) -> None:
    comparisons, verdicts = hostile()
    file = build_report(comparisons, verdicts, tmp_path / "bad.html", title="Safe", embed="all")
    page = visit(file)
    elements = "document.querySelectorAll('script, img, iframe, b, style').length"
    before = page.run(elements)
    anchors = [p.anchor for p in comparisons[0].pairs][:10]  # one of each kind of harm
    for link in (quote(visible(anchor)) for anchor in anchors):
        page = visit(file, link)
        page.settle("document.querySelector('.pair[open] .side')")
        page.run("document.querySelectorAll('.pair[open] details').forEach((d) => { d.open = true; })")
        page.run("document.querySelectorAll('.pair[open] .body button').forEach((b) => b.click())")
        assert page.run("document.title") == "Safe · forgetbench"
        assert page.run(elements) == before
        text = page.run("document.querySelector('.pair[open]').textContent")
        assert "\u202e" not in text
        assert "\x1b" not in text


def test_five_million_characters_open_at_once(visit: Open, tmp_path: Path) -> None:
    found = comparison("base", "sft", {"a/b": (60, 0.9, 0.2)}, ["ability"])
    p = next(p for p in found.pairs if p.flip == "lost")
    giant = "".join(f"word{i} " for i in range(500_000))
    p = replace(p, base=replace(p.base, output=giant), candidate=replace(p.candidate, output=giant[::-1]))
    page = visit(build_report([replace(found, pairs=(p,))], [], tmp_path / "r.html"))
    took = page.run(
        "new Promise((done) => { const row = document.querySelector('.pair'); const start = performance.now();"
        " new MutationObserver(() => { if (row.querySelectorAll('.side').length === 2)"
        " done(performance.now() - start); }).observe(row, {subtree: true, childList: true}); row.open = true; })"
    )
    assert took < 2_000
    assert f"{len(giant):,} characters" in page.run("document.querySelector('.side').textContent")


def test_names_of_objects_are_only_names(visit: Open, tmp_path: Path) -> None:
    """Tasks and subjects called like something that every JavaScript object has."""
    found = comparison("base", "sft", {"a/b": (60, 0.9, 0.2)}, ["ability"])
    names = ("constructor", "__proto__", "toString")
    pairs = tuple(
        replace(p, task=names[i % 3], stratum=names[(i + 1) % 3], task_type=names[(i + 2) % 3])
        for i, p in enumerate(found.pairs)
    )
    page = visit(build_report([replace(found, pairs=pairs)], [], tmp_path / "r.html"))
    page.choose("[name=task]", "__proto__")
    expect(page, sum(p.task == "__proto__" and p.flip in ("lost", "gained") for p in pairs))
    page.click(".pair > summary")
    page.settle("document.querySelector('.side')")


def test_chinese_leaves_no_english_in_the_frame(visit: Open, tmp_path: Path) -> None:
    found = comparison("base", "sft", {"甲/乙": (90, 0.9, 0.3), "丙/丁": (90, 0.5, 0.8)}, ["ability", "chat"])
    pairs = tuple(replace(p, task="任务", stratum="学科") for p in found.pairs)
    found = replace(found, suite="套", banner="", pairs=pairs, manifest_differences=())
    verdict = verdict_of(found, "sft")
    page = visit(build_report([found], [verdict], tmp_path / "r.html", title="标题", lang="zh"))
    page.click(".pair > summary")
    page.settle("document.querySelector('.side')")
    page.run(
        "document.querySelectorAll('.side pre, .facts dd, .asked, .answers, pre.manifest, summary .quiet').forEach((e) => e.remove())"
    )
    text = page.run("document.body.innerText") + page.run(
        "[...document.querySelectorAll('option, [aria-label]')]"
        ".map((e) => e.tagName === 'OPTION' ? e.textContent : e.ariaLabel).join(' ')"
    )
    assert "拦下" in text or "通过" in text or "无法判定" in text
    known = {"forgetbench", "base", "sft", "acc", "greedy", "default", "normal", "paired", "mcnemar", "mid", "relF"}
    known |= {"Enter", "token", "jsonl", "world", "Theil", "Sen"}
    left = set(re.findall(r"[A-Za-z]{3,}", text)) - known
    assert left == set()
