"""Flip rates and distances of a checkpoint against itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from forgetbench.analysis.floor import floors, share_interval
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.floor import other_shapes
from tests.analysis.made import compared, frame, sampled, toy

pytestmark = pytest.mark.unit


def test_of_single_answers() -> None:
    base, candidate = frame([1.0, 0.0] * 50), frame([0.0, 0.0] * 5 + [1.0, 0.0] * 45)
    candidate["mean_logprob"] = -0.75
    (row,) = floors(compared(base, candidate))
    assert (row.task, row.n, row.flips, row.distance, row.texts) == ("toy", 100, 0.05, 0.05, 0.05)
    assert row.logprob == pytest.approx(0.25)
    assert (row.interval.low, row.interval.high) == pytest.approx(stats.binomtest(5, 100).proportion_ci())


def test_of_samples_and_of_continuous_scores() -> None:
    (row,) = floors(compared(sampled([[1.0, 0.0]] * 30), sampled([[0.0, 1.0]] * 30)))
    assert (row.flips, row.distance) == (0.5, 0.0)  # single samples differ half of the time, their means never
    (row,) = floors(compared(frame([0.25] * 10), frame([0.5] * 4 + [0.25] * 6)))
    assert (row.flips, row.distance) == (0.4, pytest.approx(0.1))


def test_nothing_scored_has_no_floor_and_no_flip_still_has_a_bound() -> None:
    assert floors(compared(frame([1.0] * 3), frame([1.0] * 3, outcome="infra_error"))) == []
    (row,) = floors(toy(0, 0, 100))
    assert (row.flips, row.interval.low) == (0.0, 0.0)
    assert row.interval.high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert share_interval(7, 7).high == 1.0


@pytest.mark.parametrize(
    ("engine", "given", "wanted"),
    [
        ("transformers", {}, {"batch_rows": 24}),
        ("transformers", {"batch_rows": 32, "threads": 2}, {"batch_rows": 16, "threads": 2}),
        ("transformers", {"batch_rows": 1}, {"batch_rows": 2}),
        ("vllm", {"dtype": "float32"}, {"dtype": "float32", "max_num_seqs": 48}),
        ("ray", {"engine": "vllm"}, {"engine": "vllm", "engine_args": {"max_num_seqs": 48}}),
        ("openai", {"base_url": "x"}, {"base_url": "x"}),
        ("scripted", {"script": "x"}, {"script": "x"}),
    ],
)
def test_other_batch_shapes(engine: Any, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    spec = ModelSpec(alias="m", path="p", engine=engine, engine_args=given)
    point = Checkpoint("m", spec, Path("p"), "d" * 16, {}, False, ())
    changed = other_shapes(point)
    assert dict(changed.spec.engine_args) == wanted
    assert replace(changed, spec=spec) == point


def test_the_shape_of_a_batch_is_no_part_of_an_identity(tmp_path: Path) -> None:
    from forgetbench.engines.registry import make_engine

    spec = ModelSpec(alias="m", path=str(tmp_path), engine="transformers", engine_args={})
    point = Checkpoint("m", spec, tmp_path, "d" * 16, {}, False, (), config={"torch_dtype": "float32"})
    assert make_engine(point).identity == make_engine(other_shapes(point)).identity
