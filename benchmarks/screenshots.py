"""Pictures of the report for docs/, taken by headless Chromium from a real comparison.

    python -m benchmarks.screenshots --config demo-world/forgetbench.yaml --out docs

`make demo` makes demo-world with its runs; the heat map's picture is of `benchmarks.report_data` (real questions,
drawn answers), since the demo has no subjects. Chinese needs a font that has it: apt-get install fonts-noto-cjk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report_data import comparison
from forgetbench.report.html import build_report
from tests.report.chromium import Chromium, browser

MOST_BYTES = 300_000
_READY = "document.documentElement.dataset.ready"


@dataclass(frozen=True)
class Shot:
    """What is taken: from the top of `start` (a selector) `height` pixels down, or to the top of `end`."""

    name: str
    source: str
    start: str = "body"
    end: str = ""
    height: int = 1_400
    width: int = 1_100
    dark: bool = False
    before: str = ""
    """Run in the page first."""


_VISIBLE = "article:not([hidden])"
_OPEN = (
    "(async () => { const wait = (ms) => new Promise((done) => setTimeout(done, ms));"
    " const set = (name, value) => { const field = document.querySelector(`[name=${name}]`); field.value = value;"
    " field.dispatchEvent(new Event('input', {bubbles: true})); };"
    " set('comparison', 'sft_v2-vs-base'); set('flip', 'lost'); set('type', 'code/function'); await wait(600);"
    " document.querySelector('.pair').open = true; await wait(600); })()"
)
SHOTS = (
    Shot("report", "en", end=f"{_VISIBLE} section.news:nth-of-type(3) .quiet", height=1_300),
    Shot("report-light", "en", start=f"{_VISIBLE} section.view", height=1_500),
    Shot("report-figures", "en", start="[id^=matrix-candidate-2]", height=1_350),
    Shot("report-answers", "en", start="#flips", height=1_150, before=_OPEN),
    Shot("report-dark", "en", start=f"{_VISIBLE} section.view", height=1_100, dark=True),
    Shot("report-narrow", "en", width=390, height=1_500),
    Shot("report-zh", "zh", height=1_400),
    Shot("report-subjects", "mmlu", start=".heat", height=1_200),
)


def _sources(config: Path, data: Path, folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.html" for name in ("en", "zh", "mmlu")}
    for lang in ("en", "zh"):
        subprocess.run(
            [
                *(sys.executable, "-m", "forgetbench", "report", "base", "sft_v1", "sft_v2"),
                *("--config", str(config), "--lang", lang, "--out", str(files[lang])),
            ],
            check=True,
        )
    build_report(*comparison(data), files["mmlu"])
    return files


def _take(page: Chromium, file: Path, shot: Shot, out: Path) -> Path:
    page.window(shot.width, 900, dark=shot.dark, mobile=shot.width < 600)
    page.goto(file.as_uri())
    page.settle(_READY)
    if shot.before:
        page.run(shot.before)
    top = _top(page, shot.start) if shot.start != "body" else 0.0
    height = _top(page, shot.end) - top if shot.end and page.run(f"!!document.querySelector('{shot.end}')") else 0.0
    whole = float(page.run("document.documentElement.scrollHeight"))
    height = min(height or shot.height, shot.height, whole - top)
    return page.picture(out / f"{shot.name}.png", (0, max(0.0, top - 16), shot.width, height))


def _top(page: Chromium, selector: str) -> float:
    return float(page.run(f"document.querySelector('{selector}').getBoundingClientRect().top + scrollY"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("FORGETBENCH_DATA", "../shared/data")
    parser.add_argument("--config", type=Path, default=Path("demo-world/forgetbench.yaml"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with mmlu/ and gsm8k/")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    heavy = []
    with tempfile.TemporaryDirectory() as folder:
        files = _sources(options.config, options.data, Path(folder))
        with browser(Path(folder) / "profile") as page:
            for shot in SHOTS:
                file = _take(page, files[shot.source], shot, options.out)
                print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
                if file.stat().st_size > MOST_BYTES:
                    heavy.append(file.name)
            if page.errors:
                print(f"the console is not empty: {page.errors}", file=sys.stderr)
                return 1
    if heavy:
        print(f"above {MOST_BYTES / 1e3:.0f} kB: {', '.join(heavy)}", file=sys.stderr)
    return 1 if heavy else 0


if __name__ == "__main__":
    raise SystemExit(main())
