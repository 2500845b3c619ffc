"""A real browser opens the file: rows render, filters and links work, nothing hostile runs, no console error.

Driven through the address (`#?flip=lost&text=...`, `#anchor@comparison`), since what a page can be asked by
link needs no driver: headless Chromium prints the DOM after scripts have run.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from forgetbench.report.html import build_report
from forgetbench.report.text import visible
from tests.report.hostile import hostile
from tests.report.sample import demo

pytestmark = pytest.mark.slow

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--window-size=1200,900",
    "--virtual-time-budget=6000",
    "--dump-dom",
)


@dataclass(frozen=True)
class Seen:
    dom: str
    console: list[str]

    @property
    def pairs(self) -> int:
        return len(re.findall(r'<details class="pair"', self.dom))

    @property
    def shown(self) -> str:
        found = re.search(r'id="shown"[^>]*>([^<]*)<', self.dom)
        return html.unescape(found.group(1)) if found else ""

    @property
    def title(self) -> str:
        found = re.search(r"<title>(.*?)</title>", self.dom, re.DOTALL)
        return html.unescape(found.group(1)) if found else ""

    @property
    def ready(self) -> bool:
        return 'data-ready="true"' in self.dom[:2000]

    def chosen_tab(self) -> str:
        found = re.search(r'data-tab="([^"]+)" aria-current="true"', self.dom)
        return found.group(1) if found else ""


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    message = "no Chromium found; install it: apt-get install chromium (or put google-chrome on the PATH)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def look(chromium: str, file: Path, profile: Path, fragment: str = "", *flags: str) -> Seen:
    """The DOM after scripts, and what the page wrote to the console."""
    url = file.as_uri() + (f"#{fragment}" if fragment else "")
    command = [chromium, *_FLAGS, f"--user-data-dir={profile}", *flags, url]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    errors = done.stderr.decode("utf-8", "replace")
    return Seen(done.stdout.decode("utf-8"), [line for line in errors.splitlines() if "CONSOLE" in line])


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(*demo(), tmp_path_factory.mktemp("report") / "demo.html", title="Demo")


def test_rows_render_and_the_console_stays_empty(chromium: str, demo_file: Path, tmp_path: Path) -> None:
    seen = look(chromium, demo_file, tmp_path)
    assert seen.console == []
    assert seen.ready
    assert seen.pairs == 60
    assert seen.chosen_tab() == "candidate-2"
    assert seen.title == "Demo · forgetbench"
    assert seen.dom.count('<article class="candidate" id="candidate-1"') == 1
    assert re.search(r'<article class="candidate" id="candidate-1"[^>]* hidden', seen.dom)


def test_the_console_would_be_heard(chromium: str, tmp_path: Path) -> None:
    """The check above can fail: a page with an error is noticed, and so is one that its policy stops."""
    (tmp_path / "bad.html").write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\"><script>x()</script>"
    )
    assert look(chromium, tmp_path / "bad.html", tmp_path / "profile").console


def test_filters_and_search_by_address(chromium: str, demo_file: Path, tmp_path: Path) -> None:
    comparisons, _ = demo()
    found = comparisons[2]
    wanted = [
        p
        for p in found.pairs
        if p.flip == "gained"
        and p.task_type.startswith("reasoning/")
        and p.view == "chat"
        and any("extracted 'yes" in side.why for side in (p.base, p.candidate))
    ]
    assert wanted
    state = "?comparison=sft_v2-vs-sft_v1&flip=gained&type=reasoning&view=chat&text=EXTRACTED+%27yes"
    seen = look(chromium, demo_file, tmp_path, state)
    assert seen.console == []
    assert seen.pairs == len(wanted)
    assert seen.shown.startswith(f"{len(wanted)} of ")


def test_permanent_link_opens_one_item(chromium: str, demo_file: Path, tmp_path: Path) -> None:
    comparisons, _ = demo()
    pair = next(p for p in comparisons[0].pairs if p.flip == "lost")
    seen = look(chromium, demo_file, tmp_path, f"{quote(pair.anchor)}@sft_v1-vs-base")
    assert seen.console == []
    assert seen.chosen_tab() == "candidate-1"  # the link leads to an earlier candidate
    opened = re.findall(
        r'<details class="pair"[^>]*open=""[^>]*>.*?<div class="sides">.*?</details>', seen.dom, re.DOTALL
    )
    assert len(opened) == 1
    text = html.unescape(opened[0])
    assert pair.base.why in text
    assert pair.candidate.why in text
    assert pair.gold in text


def test_hostile_answers_do_nothing(chromium: str, tmp_path: Path) -> None:
    comparisons, verdicts = hostile()
    file = build_report(comparisons, verdicts, tmp_path / "bad.html", title="Safe", embed="all")
    plain = look(chromium, file, tmp_path / "a")
    assert plain.ready
    anchors = [p.anchor for p in comparisons[0].pairs][:10]  # one of each kind of harm
    for number, link in enumerate(quote(visible(anchor)) for anchor in anchors):
        seen = look(chromium, file, tmp_path / f"b{number}", link)
        assert seen.title == "Safe · forgetbench"
        assert seen.console == [], link
        assert 'class="sides"' in seen.dom
        assert len(re.findall(r"<script", seen.dom)) == len(re.findall(r"<script", plain.dom))
        assert not re.search(r"<(img|iframe|b)\b", seen.dom)


def test_dark_follows_the_system(chromium: str, demo_file: Path, tmp_path: Path) -> None:
    def button(seen: Seen) -> str:
        found = re.search(r'id="theme"[^>]*>([^<]+)<', seen.dom)
        return found.group(1) if found else ""

    assert button(look(chromium, demo_file, tmp_path / "l")) == "Dark"
    dark = look(chromium, demo_file, tmp_path / "d", "", "--blink-settings=preferredColorScheme=0")
    assert button(dark) == "Light"
