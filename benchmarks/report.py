"""How large the report is, how long it takes to write, and how soon one sees it.

    make bench-report          or: python -m benchmarks.report --data ../shared/data

14,042 items answered twice (benchmarks/report_data.py). Build: wall time of `build_report`. First paint: the
browser's own first-contentful-paint, counted from the start of the navigation, file on disk. Ready: until the
index is unpacked and the list can be filtered. Search: a word that stands nowhere, so every text is read. Row:
from the click to both texts. Medians of --repeats; limits are those of the report's acceptance.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report_data import comparison
from forgetbench.report.embed import Embed
from forgetbench.report.html import build_report
from tests.report.chromium import Chromium, browser

LIMITS = {
    ("flips", "size_mb"): 3.0,
    ("all", "size_mb"): 20.0,
    ("flips", "build_s"): 5.0,
    ("all", "build_s"): 5.0,
    ("flips", "first_paint_s"): 0.8,
    ("all", "first_paint_s"): 0.8,
}
_READY = "document.documentElement.dataset.ready"
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_LIST = "document.getElementById('shown').textContent"
_NOW = "performance.now()"


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) seconds; on shared cores the second is the steadier one."""
    start, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - start, time.process_time() - cpu


def _look(page: Chromium, file: Path) -> dict[str, float]:
    """One visit: paint, ready, search, row, in seconds; heap in MB."""
    page.goto(file.as_uri())
    page.settle(_READY, 60)
    found = {"first_paint_s": page.run(_PAINT) / 1000}
    found["ready_s"] = page.run("Number(document.documentElement.dataset.readyAt)") / 1000
    page.call("HeapProfiler.collectGarbage")
    found["heap_mb"] = page.call("Runtime.getHeapUsage")["usedSize"] / 1e6
    page.run(
        "new Promise((done) => { const row = document.querySelector('.pair'); const start = performance.now();"
        " new MutationObserver(() => { if (row.querySelector('.side')) { window.took = performance.now() - start;"
        " done(); } }).observe(row, {subtree: true, childList: true}); row.open = true; })"
    )
    found["row_s"] = page.run("window.took") / 1000
    page.run(f"window.before = {_LIST}")
    page.run("document.querySelector('[name=flip]').value = ''")
    start = page.run(_NOW)
    page.run(
        "(() => { const box = document.querySelector('[name=text]'); box.value = 'zzyzx';"
        " box.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    page.settle(f"{_LIST}.startsWith('0 ')", 60)
    found["search_s"] = (page.run(_NOW) - start) / 1000
    if page.errors:
        raise RuntimeError(f"the console is not empty: {page.errors}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("FORGETBENCH_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default), help="folder with mmlu/ and gsm8k/")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    comparisons, verdicts = comparison(options.data)
    pairs = comparisons[0].pairs
    chars = sum(len(p.base.output) + len(p.candidate.output) + len(p.prompt or "") for p in pairs)
    flips = sum(p.flip != "same" for p in pairs)
    print(f"{len(pairs):,} items, {flips:,} flips, {chars / 1e6:.1f} MB of text")
    figures: dict[str, dict[str, float]] = {}
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for embed in ("flips", "all"):
            mode: Embed = "all" if embed == "all" else "flips"
            file = Path(folder) / f"{embed}.html"
            builds = [
                _timed(lambda file=file, mode=mode: build_report(comparisons, verdicts, file, embed=mode))  # type: ignore[misc]
                for _ in range(options.repeats)
            ]
            visits = []
            for i in range(options.repeats):
                with browser(Path(folder) / f"profile-{embed}-{i}") as page:  # a new profile: nothing is cached
                    page.window(1200, 900)
                    visits.append(_look(page, file))
            figures[embed] = {
                "size_mb": file.stat().st_size / 1e6,
                "build_s": _median([wall for wall, _ in builds]),
                "build_cpu_s": _median([cpu for _, cpu in builds]),
                **{name: _median([v[name] for v in visits]) for name in visits[0]},
            }
            print(f"--embed {embed}: " + ", ".join(f"{k} {v:.3g}" for k, v in figures[embed].items()))
    for (embed, name), limit in LIMITS.items():
        if figures[embed][name] > limit:
            missed.append(f"{embed} {name} {figures[embed][name]:.3g} is above {limit:g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print("\n".join(missed) or "every limit is kept")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
