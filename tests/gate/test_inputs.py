"""What must not reach an estimator: scores on another scale, rates that are none, columns of another type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forgetbench.errors import IncomparableError, UsageError
from forgetbench.gate.types import Policy, Rule
from forgetbench.gate.verdict import decide
from forgetbench.runs.records import read_table, write_records
from tests.analysis.made import compared, frame

pytestmark = pytest.mark.unit

POLICY = Policy("p", (Rule("toy", task="toy"),))


@pytest.mark.parametrize("scores", [(0.9, 60.0), (90.0, 60.0), (0.5, -0.1), (90.0, 0.6)])
def test_scores_outside_0_to_1_decide_nothing(scores: tuple[float, float]) -> None:
    """A candidate in per cent beside a base in fractions would have gained 5,910 points."""
    base, candidate = ([value] * 400 for value in scores)
    verdict = decide({"base": compared(frame(base), frame(candidate))}, POLICY, draws=200)
    assert (verdict.state, int(verdict.exit_code)) == ("INCONCLUSIVE", 11)
    assert "where a margin in points needs 0 to 1" in verdict.reason


def test_the_edges_of_the_scale_are_scores() -> None:
    verdict = decide({"base": compared(frame([0.0, 1.0] * 200), frame([0.0, 1.0] * 200))}, POLICY, draws=200)
    assert verdict.state == "PASS"


@pytest.mark.parametrize(
    ("successes", "trials"), [(5.0, 4.0), (-1.0, 4.0), (None, 4.0), (-4.0, -4.0)], ids=["more", "less", "none", "signs"]
)
def test_more_right_than_asked_is_refused(successes: float | None, trials: float) -> None:
    good = frame([1.0] * 60, successes=4.0, trials=4.0)
    bad = frame([1.0] * 60, successes=successes, trials=trials)
    for sides in ((good, bad), (bad, good)):
        with pytest.raises(IncomparableError, match="have no score 'acc' and no infra_error"):
            compared(*sides, bootstrap=200)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("task", None, "have a task that is not text: None"),
        ("content_hash", 7, "have a content_hash that is not text: 7"),
        ("view", 1.5, "have a view that is not text"),
        ("sample", "first", "have a sample that is not a number: 'first'"),
        ("n_choices", "four", "have a n_choices that is not a number"),
        ("successes", [1], r"have a successes that is not a number: \[1\]"),
        ("gold_hash", 3, "have a gold_hash that is not text: 3"),
    ],
)
def test_a_column_of_another_type_is_told(column: str, value: Any, told: str) -> None:
    good, bad = frame([1.0] * 5), frame([1.0] * 5)
    bad[column] = [value] * 5
    for sides in ((good, bad), (bad, good)):
        with pytest.raises(IncomparableError, match=told):
            compared(*sides, bootstrap=200)


@pytest.mark.parametrize("scores", ['{"acc": "1"}', '{"acc": null}', '{"acc": NaN}', '{"acc": [1]}', "{}"])
def test_a_score_that_is_no_number_is_told(scores: str) -> None:
    with pytest.raises(IncomparableError, match="no score"):
        compared(frame([1.0] * 5), frame([1.0] * 5, scores=scores), bootstrap=200)


def test_a_records_file_of_other_types_is_told(tmp_path: Path) -> None:
    file = tmp_path / "records.parquet"
    write_records(file, [])
    table = pq.read_table(file)
    at = table.column_names.index("sample")
    pq.write_table(table.set_column(at, "sample", pa.array([], pa.float64())), file)
    with pytest.raises(UsageError, match="columns are not of their types: sample is double"):
        read_table(file)
