from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from forgetbench.analysis.compare import compare_runs
from forgetbench.errors import IncomparableError
from tests.analysis.made import frame

pytestmark = pytest.mark.unit


class FakeRun:
    """What `compare_runs` needs of a run."""

    path = Path("runs/x")
    fingerprint = "f" * 16

    def __init__(self, alias: str, records: pd.DataFrame, manifest: dict[str, Any]) -> None:
        self.alias, self._records, self._manifest = alias, records, manifest

    def records(self) -> pd.DataFrame:
        return self._records

    def manifest_dict(self) -> dict[str, Any]:
        return self._manifest


def manifest(version: str = "1", scorer: str = "s1", limit: int = 64, **more: Any) -> dict[str, Any]:
    decode = {"decode_id": "greedy", "max_tokens": limit, "style": "raw"}
    identity = {"task": "toy", "view": "ability", "task_version": version, "decode": decode, "replicate": 0}
    entry = {"identity": identity, "scorer_version": scorer, "state": "complete"}
    return {"alias": "x", "parts": {"weights": "w1"}, "created": "now", "tasks": [entry], "notes": [], **more}


def test_versions_in_the_manifests_must_agree() -> None:
    records = frame([1.0] * 3)
    worse = records.assign(gold_hash="other")
    with pytest.raises(IncomparableError) as caught:
        compare_runs(FakeRun("base", records, manifest()), FakeRun("sft", worse, manifest("2", "s2", 32)), suite="toy")
    assert caught.value.differences == [
        "toy (ability): decode.max_tokens differs: base 64, sft 32",
        "toy (ability): scorer version differs: base s1, sft s2",
        "toy (ability): task version differs: base 1, sft 2",
        "toy (ability): the reference answer differs on 3 of 3 items (000000#0, 000001#0, 000002#0)",
    ]


def test_manifests_become_provenance() -> None:
    records = frame([1.0] * 3)
    other = manifest(parts={"weights": "w2"}, created="later", notes=["chat skipped: no template"])
    found = compare_runs(FakeRun("base", records, manifest()), FakeRun("sft", records, other), suite="toy")
    assert found.manifest_differences == (("parts.weights", "w1", "w2"),)
    assert found.notes == ("chat skipped: no template",)
    assert (found.base.alias, found.candidate.alias, found.suite) == ("base", "sft", "toy")
    assert found.candidate.manifest == other


def test_a_run_against_itself_names_both_sides() -> None:
    run = FakeRun("base", frame([1.0]), manifest())
    with pytest.raises(IncomparableError, match=r"only in base \(candidate\)"):
        compare_runs(run, FakeRun("base", frame([1.0, 0.0]), manifest()), suite="toy")
