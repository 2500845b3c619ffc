"""One seed of what `make proof-causes` does over three: planted causes, an oracle's truth, and what the search finds."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from benchmarks.causes import LABELS, RELIABLE, WANTED, figures, rows_of, search
from forgetbench.demo.mixed import oracle
from forgetbench.demo.mixed.build import Mixed, build_mixed

pytestmark = pytest.mark.slow

FEWER = 60
"""Samples of the oracle's, where the proof has 200: items near an edge are left out here all the same."""


def _truth(mixed: Mixed) -> list[dict[str, Any]]:
    oracle.SAMPLES = FEWER
    return oracle.write_truth(mixed)


def test_what_was_planted_is_found(demo_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = build_mixed(demo_world, tmp_path / "mixed", 0)
    # The oracle asks for as long as the search does, and neither looks at the other.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        asked = pool.submit(_truth, mixed)
        causes, prompts, _ = search(mixed.root / "forgetbench.yaml")
        truth = asked.result()
    rows = [r for r in rows_of(causes, prompts, truth, 0) if r.truth in LABELS and not r.near_edge]
    assert len(rows) > 500
    found = figures(rows)
    assert found.macro[0] >= WANTED
    weak = {label for label, s in found.labels.items() if s.n >= 100 and s.f1[0] < RELIABLE}
    assert weak == set()
    (chat,) = [t for t in causes.tasks if t.view == "chat"]
    assert "broken for your users" in chat.sentence
    assert "gone" not in chat.sentence
