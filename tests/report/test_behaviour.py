"""What a terminal is told of the measures: the clear changes, and how many more there are."""

from __future__ import annotations

import pytest

from forgetbench.analysis.measured import Measured
from forgetbench.analysis.types import Interval
from forgetbench.behaviour.types import Behaviour, Group
from forgetbench.report.behaviour import told

pytestmark = pytest.mark.unit


def _measures(large: int, slight: int, open_: int) -> Behaviour:
    """So many proven large changes, proven slight ones, and ones that are not proven."""
    made = [Measured(f"m{i}", 1.0, 2.0, Interval(0.5, 1.5), "nats", f"large {i}") for i in range(large)]
    made += [Measured(f"s{i}", 1.0, 1.03, Interval(0.01, 0.05), "nats", f"slight {i}") for i in range(slight)]
    made += [Measured(f"o{i}", 1.0, 3.0, Interval(-0.1, 4.1), "nats", f"open {i}") for i in range(open_)]
    return Behaviour(groups=(Group("all", "chat", "10 texts", tuple(made)),))


def test_slight_changes_are_counted_and_not_told() -> None:
    assert told(_measures(0, 0, 4)) == []
    assert told(_measures(1, 0, 4)) == ["large 0 (chat)"]
    assert told(_measures(1, 2, 4)) == ["large 0 (chat)", "2 of 7 measures changed slightly: see the report"]
    assert told(_measures(8, 0, 0))[6:] == ["2 more of 8 measures changed: see the report"]
    assert told(_measures(8, 3, 1))[6:] == ["2 more of 12 measures changed, 3 slightly: see the report"]
