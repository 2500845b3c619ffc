"""The benchmark of drift: its shards can be compared, its peak is the process's own, its table lands between the marks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import drift

pytestmark = pytest.mark.unit


def test_shards_are_measured_and_the_table_is_put_into_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "OUTSIDE", {"model.embed_tokens.weight": (96, 32)})
    monkeypatch.setattr(drift, "INSIDE", {"self_attn.q_proj": (32, 32), "mlp.up_proj": (64, 32)})
    monkeypatch.setattr(drift, "POOL", 1 << 16)
    for name in ("base", "candidate"):
        drift.make(tmp_path / name, 3, tuned=name == "candidate")
    found = [drift.measure(tmp_path, directions) for directions in (True, False)]
    weights = 96 * 32 + 3 * (32 * 32 + 64 * 32)
    assert [(f["layers"], f["parameters"]) for f in found] == [(3, weights)] * 2
    page = tmp_path / "page.md"
    page.write_text(f"before\n{drift.MARKS[0]}old\n{drift.MARKS[1]}after\n", encoding="utf-8")
    drift.between(page, drift.MARKS, drift.table(found, "the command", "abc1234"))
    told = page.read_text(encoding="utf-8")
    assert told.startswith(f"before\n{drift.MARKS[0]}`the command` at commit `abc1234`")
    assert told.endswith(f"|\n{drift.MARKS[1]}after\n")
    assert "old" not in told
    assert "| | with new directions | `--no-directions` |" in told
    assert f"| {found[0]['peak_rss_gib']:.2f} GiB | {found[1]['peak_rss_gib']:.2f} GiB |" in told
    with pytest.raises(ValueError, match="has no"):
        drift.between(tmp_path / "base" / "model.safetensors.index.json", drift.MARKS, "")


def test_the_peak_is_the_process_own_and_not_that_of_the_one_that_started_it() -> None:
    block = b"x" * (400 << 20)
    ours = drift.peak_gib()
    code = "from benchmarks import drift; print(drift.peak_gib())"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert len(block) / 2**30 < ours
    assert 0.0 < float(done.stdout) < ours - 0.2


def test_the_page_has_the_marks() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "drift.md").read_text(encoding="utf-8")
    assert [text.count(mark) for mark in drift.MARKS] == [1, 1]
