"""The file: self-contained, sealed, deaf to hostile strings, small and quick."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import itertools
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from forgetbench.analysis.types import Comparison
from forgetbench.errors import UsageError
from forgetbench.gate.types import Verdict
from forgetbench.report.embed import unpack
from forgetbench.report.html import build_report, render
from tests.report.hostile import BIDI, HUGE, hostile
from tests.report.sample import comparison, demo, mmlu, verdict_of

pytestmark = pytest.mark.unit


class Page(HTMLParser):
    """Elements, attributes and the raw text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.text: list[str] = []
        self._in: tuple[str, dict[str, str | None]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in = None

    def handle_data(self, data: str) -> None:
        if self._in:
            self.raw.append((*self._in, data))
        else:
            self.text.append(data)

    def scripts(self) -> list[str]:
        """Those that a browser would run."""
        return [data for tag, attributes, data in self.raw if tag == "script" and "type" not in attributes]

    def rows(self) -> list[dict[str, Any]]:
        """All embedded pairs."""
        found: list[dict[str, Any]] = []
        for tag, attributes, data in self.raw:
            if tag == "script" and attributes.get("class") == "chunk":
                found += unpack(data)
        return found

    def index(self) -> dict[str, Any]:
        (data,) = [d for _, attributes, d in self.raw if attributes.get("id") == "index"]
        found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(data)))
        return found


@pytest.fixture(scope="module")
def demo_page() -> str:
    return render(*demo())


def test_policy_holds_the_hashes_of_the_one_script_and_style(demo_page: str) -> None:
    page = Page(demo_page)
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    (script,) = page.scripts()
    (style,) = [d for t, _, d in page.raw if t == "style"]
    for directive, text in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert not [a for _, a in page.tags if any(k == "style" or k.startswith("on") for k in a)]


def test_nothing_is_fetched(demo_page: str) -> None:
    page = Page(demo_page)
    assert not [t for t, _ in page.tags if t in ("link", "img", "iframe", "object", "embed", "base", "video")]
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    (style,) = [d for t, _, d in page.raw if t == "style"]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?://|//cdn", "".join(page.scripts()) + style)


def test_the_summary_needs_no_script(demo_page: str) -> None:
    text = " ".join(" ".join(Page(demo_page).text).split())
    comparisons, verdicts = demo()
    assert verdicts[-1].reason in text
    assert "Blocked: sft_v2" in text
    assert text.index("Gained") < text.index("Lost")
    assert comparisons[0].banner in text
    change = next(c for c in comparisons[1].changes if c.group == "knowledge/capitals")
    assert f"−{abs(change.delta) * 100:.1f}" in text
    for result in verdicts[-1].rules:
        assert result.reason in text
    assert demo_page.index("Blocked") < demo_page.index('<svg class="f-row"') < demo_page.index('id="flips"')
    hidden = [a for t, a in Page(demo_page).tags if t == "article" and "hidden" in a]
    assert hidden == []  # without scripts all candidates are there


def test_headings_are_nested(demo_page: str) -> None:
    levels = [int(t[1]) for t, _ in Page(demo_page).tags if re.fullmatch(r"h\d", t)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in Page(demo_page).tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_flips_are_all_there_and_the_rest_is_a_sample(demo_page: str) -> None:
    comparisons, _ = demo()
    page = Page(demo_page)
    index = page.index()
    directions = [index["coded"]["flip"]["values"][i] for i in index["coded"]["flip"]["codes"]]
    pairs = [p for c in comparisons for p in c.pairs]
    for flip in ("lost", "gained"):
        assert directions.count(flip) == sum(p.flip == flip for p in pairs)
    assert directions.count("same") == 50 * len(comparisons)
    assert len(page.rows()) == len(directions) == len(index["anchor"])
    by_anchor = {p.anchor: p for p in comparisons[0].pairs}
    for row, anchor, which in zip(page.rows(), index["anchor"], index["coded"]["comparison"]["codes"], strict=True):
        if index["coded"]["comparison"]["values"][which] == "sft_v1-vs-base":
            assert row["base"]["output"] == by_anchor[anchor].base.output
            assert row["candidate"]["why"] == by_anchor[anchor].candidate.why


def test_the_sample_does_not_depend_on_order_and_the_file_is_reproducible(demo_page: str) -> None:
    comparisons, verdicts = demo()
    assert render(comparisons, verdicts) == demo_page
    turned = [replace(c, pairs=tuple(reversed(c.pairs))) for c in comparisons]
    assert render(turned, verdicts) == demo_page
    assert render(comparisons, verdicts, seed=1) != demo_page


@pytest.mark.parametrize("with_verdict", [True, False])
def test_hostile_strings_stay_text(with_verdict: bool) -> None:
    comparisons, verdicts = hostile()
    text = render(comparisons, verdicts if with_verdict else [], title="<b>" + BIDI, embed="all")
    text.encode("utf-8")  # no lone surrogate is left
    page = Page(text)
    assert len(page.scripts()) == 1
    assert not [t for t, _ in page.tags if t in ("img", "b", "iframe")]
    assert not [a for _, a in page.tags if any(k.startswith("on") for k in a)]
    assert not [a for _, a in page.tags if "javascript:" in (a.get("href") or "")]
    assert "\x00" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\u200b" not in text
    assert "⟦U+202E⟧" in text
    assert "49" not in Page(text).text
    rows = page.rows()
    assert len(rows) == len(comparisons[0].pairs)
    assert any("</script>" in r["base"]["output"] for r in rows)  # kept as evidence, inside gzip only
    huge = [r for r in rows if r["base"]["output"].startswith("START")]
    assert huge
    assert all("characters left out" in r["base"]["output"] for r in huge)
    assert all(r["base"]["output"].endswith("END") for r in huge)
    assert huge[0]["base"]["chars"] == len(HUGE)
    assert len(text) < 2_000_000


def _empty(found: Comparison) -> Comparison:
    return replace(found, pairs=())


def _case(name: str) -> tuple[list[Comparison], list[Verdict]]:
    comparisons, verdicts = demo()
    same = comparison("base", "base", {"a/b": (60, 1.0, 1.0), "c": (60, 0.0, 0.0)}, ["ability"])
    many = [comparison("base", f"v{i}", {"a/b": (40, 0.5, 0.5)}, ["ability", "chat"]) for i in range(12)]
    bare = replace(comparisons[0], changes=(), pairs=(), notes=(), manifest_differences=())
    cases: dict[str, tuple[list[Comparison], list[Verdict]]] = {
        "no pairs": ([_empty(c) for c in comparisons], verdicts),
        "nothing flipped": ([same], [verdict_of(same, "base")]),
        "nothing at all in it": ([bare], []),
        "no verdicts": (comparisons, []),
        "no comparisons": ([], verdicts),
        "neither": ([], []),
        "twelve candidates": (many, [verdict_of(c, c.candidate.alias) for c in many]),
        "an empty policy": (comparisons, [replace(v, rules=()) for v in verdicts]),
        "rule without figures": (
            comparisons[:1],
            [
                replace(
                    verdicts[0],
                    rules=tuple(
                        replace(
                            r,
                            n=0,
                            base=None,
                            candidate=None,
                            delta=None,
                            interval=None,
                            lower=None,
                            minimum_detectable_drop=None,
                            state="INCONCLUSIVE",
                        )
                        for r in verdicts[0].rules
                    ),
                )
            ],
        ),
    }
    return cases[name]


@pytest.mark.parametrize(
    "name",
    [
        "no pairs",
        "nothing flipped",
        "nothing at all in it",
        "no verdicts",
        "no comparisons",
        "neither",
        "twelve candidates",
        "an empty policy",
        "rule without figures",
    ],
)
def test_thin_inputs_give_a_whole_page(name: str) -> None:
    comparisons, verdicts = _case(name)
    text = render(comparisons, verdicts)
    assert text.rstrip().endswith("</html>")
    shown = html.unescape(text)
    for found in comparisons:
        assert found.candidate.alias in shown
    for verdict in verdicts:
        assert verdict.reason in shown
    assert "None" not in " ".join(Page(text).text)
    assert "nan" not in " ".join(Page(text).text)


def test_continuous_changes_are_cut_to_those_that_moved_most() -> None:
    comparisons, _ = demo()
    found = comparisons[0]
    pairs = tuple(
        replace(p, flip="changed", candidate=replace(p.candidate, score=i / len(found.pairs)))
        for i, p in enumerate(found.pairs)
    )
    page = Page(render([replace(found, pairs=pairs)], []))
    rows = page.rows()
    assert len(rows) == 200
    moved = [abs(r["candidate"]["score"] - r["base"]["score"]) for r in rows]
    everything = sorted((abs((p.candidate.score or 0) - (p.base.score or 0)) for p in pairs), reverse=True)
    assert sorted(moved, reverse=True) == pytest.approx(everything[:200])


@pytest.fixture(scope="module")
def large() -> tuple[list[Comparison], list[Verdict]]:
    return mmlu(14_042, long_answers=True)


def test_fourteen_thousand_items_fit_and_build_in_time(
    large: tuple[list[Comparison], list[Verdict]], tmp_path: Path
) -> None:
    start = time.process_time()  # not the wall: the cores are shared
    file = build_report(*large, tmp_path / "deep" / "report.html")
    assert time.process_time() - start <= 5
    assert file.stat().st_size <= 3_000_000
    start = time.process_time()
    everything = build_report(*large, tmp_path / "all.html", embed="all")
    assert time.process_time() - start <= 5
    assert everything.stat().st_size <= 20_000_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.html", "deep"]  # no drafts left


def test_none_embeds_nothing(large: tuple[list[Comparison], list[Verdict]]) -> None:
    page = Page(render(*large, embed="none"))
    assert page.rows() == []
    assert "carries no answers" in " ".join(page.text)


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        build_report(*demo(), tmp_path / "file" / "report.html")


def test_unknown_language_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="choose one of: en"):
        render(*demo(), lang="xx")
