"""The engine benchmarks: their sums, and one whole pass at the smallest size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.engines_run import Setting, compare_sides
from benchmarks.engines_table import Bar, TableRow, difference, ratio_row, render
from benchmarks.engines_world import Workload, write_lm_eval_tasks


@pytest.mark.unit
def test_ratios_are_of_medians_and_their_range_of_neighbours() -> None:
    row = ratio_row("x", Bar(">= 5", 5.0), [1.0, 2.0, 4.0], [10.0, 12.0, 50.0])
    assert (row.figure, row.low, row.high) == (6.0, 6.0, 12.5)
    text = render(
        [row, TableRow("y", Bar("<= .5", 0.5, at_least=False), 0.6), TableRow("z", Bar(""), None, note="why")]
    )
    assert "| x | >= 5 | 6 | 6 to 12.5 | met |" in text
    assert "| y | <= .5 | 0.6 |  | MISSED |" in text
    assert "| z |  | not measured |  |  | why |" in text


@pytest.mark.unit
@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ({"a": {"acc": 1.0}, "b": {"acc": 0.0}}, None),
        ({"a": {"acc": 1.0}, "b": {"acc": 1.0}}, "b: acc is 0.0 here and 1.0"),
        ({"a": {"acc": 1.0}, "b": {"acc": float("nan")}}, "b: acc"),
        ({"a": {"acc": 1.0}}, "1 items are on one side only, such as b"),
        ({"a": {"acc": 1.0}, "b": {"mc1": 0.0}}, "b: metrics"),
    ],
)
def test_scores_that_differ_are_told(theirs: dict[str, Any], said: str | None) -> None:
    found = difference({"a": {"acc": 1.0}, "b": {"acc": 0.0}}, theirs)
    assert found is None if said is None else said in (found or "")


@pytest.mark.unit
def test_cards_by_name_and_their_sums() -> None:
    names = {n: getattr(gpu.card_of(n), "name", None) for n in ("NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA L40S")}
    assert names == {"NVIDIA H200": "H200", "NVIDIA H100 80GB HBM3": "H100", "NVIDIA L40S": "L40S"}
    assert gpu.card_of("NVIDIA L4") == gpu.CARDS[7]
    assert gpu.card_of("a toaster") is None
    config = {"num_hidden_layers": 2, "hidden_size": 10}
    assert gpu.forward_flops(config, 1000, 3, 5.0) == 3 * (2000 + 4 * 2 * 10 * 5)


@pytest.mark.slow
@pytest.mark.realdata
def test_gpu_benchmark_without_a_gpu(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides on a few items; the scores are compared on the way."""
    arguments = ["--device", "cpu", "--quick", "--dtypes", "float32", "--data", str(data_dir)]
    assert gpu.main([*arguments, "--work", str(tmp_path), "--out", str(tmp_path / "table.md")]) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    assert "4 of 4 items equal" in rows[1]
    assert "2 of 2 items equal" in rows[2]
    # Another document under the same question's name must not pass unnoticed.
    work = Workload("mmlu", 5, ("anatomy",), 4)
    folder = tmp_path / "lm_eval" / work.name
    write_lm_eval_tasks(folder, data_dir, work)
    setting = Setting("transformers", tmp_path / "1m", data_dir, tmp_path, {"device": "cpu", "max_length": 40})
    with pytest.raises(RuntimeError, match="scores are not equal"):
        compare_sides(setting, work, 1, (2,))  # our side sees the last 40 tokens only
