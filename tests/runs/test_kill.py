"""kill -9 at any point, and the same command resumes: nothing acknowledged is lost, doubled or asked again."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgetbench.runs import open_run
from forgetbench.runs.segments import scan_folder
from forgetbench.types import ContinuationScore, Generation, Record, Response

REPOSITORY = Path(__file__).resolve().parents[2]


def kill(out: Path, kills: int, seed: int, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.runs.kill_master", str(out), "--kills", str(kills)]
    done = subprocess.run(
        [*command, "--seed", str(seed), *more],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "report.json").read_text())  # type: ignore[no-any-return]


def close(a: float | None, b: float | None) -> bool:
    return a == b if a is None or b is None else math.isclose(a, b, abs_tol=1e-5)


def assert_same_records(got: list[Record], expected: list[Record]) -> None:
    """Ids, texts, outcomes, scores equal; log-probabilities to 1e-5."""
    keys = [(r.task, r.content_hash, r.occurrence, r.view, r.decode_id, r.sample, r.replicate) for r in got]
    assert len(keys) == len(set(keys)), "a record is doubled"
    assert len(got) == len(expected)
    blank: dict[str, Any] = {"mean_logprob": None, "mean_entropy": None, "extra": {}, "output": "", "why": ""}
    blank |= {"seconds": None, "first_token_seconds": None}
    for a, b in zip(got, expected, strict=True):
        assert dataclasses.replace(a, **blank) == dataclasses.replace(b, **blank)
        assert a.output == b.output
        assert close(a.mean_logprob, b.mean_logprob)
        assert close(a.mean_entropy, b.mean_entropy)
        pairs = zip(a.extra.get("choice_logprobs", ()), b.extra.get("choice_logprobs", ()), strict=True)
        assert all(close(x, y) for x, y in pairs)


def assert_same_responses(got: Path, expected: Path) -> None:
    folders = sorted(p.name for p in expected.glob("tasks/*"))
    assert sorted(p.name for p in got.glob("tasks/*")) == folders
    for name in folders:
        mine, theirs = (scan_folder(p / "tasks" / name / "responses") for p in (got, expected))
        assert set(mine.locations) == set(theirs.locations)
        with mine.reader() as read, theirs.reader() as read_other:
            for request_id in theirs.locations:
                assert_same_response(read(request_id), read_other(request_id))


def assert_same_response(a: Response, b: Response) -> None:
    def rounded(x: Generation | ContinuationScore) -> Any:
        numbers = {
            f: None
            for f in ("logprobs", "entropies", "logprob", "token_logprobs")
            if f in {n.name for n in dataclasses.fields(x)}
        }
        return dataclasses.replace(x, **numbers)

    # Two runs never take equally long, and a resumed one finds other prefixes in its cache.
    changing: dict[str, Any] = {"seconds": None, "first_token_seconds": None, "computed_tokens": None}
    changing |= {"generations": (), "scores": ()}
    assert dataclasses.replace(a, **changing) == dataclasses.replace(b, **changing)
    for x, y in zip(a.generations, b.generations, strict=True):
        assert rounded(x) == rounded(y)
        for ours, other in ((x.logprobs, y.logprobs), (x.entropies, y.entropies)):
            assert all(close(p, q) for p, q in zip(ours or (), other or (), strict=True))
    for s, t in zip(a.scores, b.scores, strict=True):
        assert rounded(s) == rounded(t)
        assert close(s.logprob, t.logprob)


def judge(out: Path, report: dict[str, Any], kills: int) -> None:
    assert report["kills"] >= kills
    expected = open_run(out / "undisturbed").read_records()
    assert expected
    everything = set(report["undisturbed"]["acknowledged"])
    for run in report["runs"]:
        folder = out / run["folder"]
        acknowledged: set[str] = set()
        for child in run["children"]:
            assert child["lost"] == []
            assert child["corrupt"] == []
            assert not acknowledged & set(child["asked"]), "an acknowledged answer was asked again"
            assert max(Counter(child["asked"]).values(), default=0) <= 1
            acknowledged |= set(child["acknowledged"])
        assert acknowledged <= everything
        assert not run["children"][-1]["killed"]
        finished = open_run(folder)
        assert finished.incomplete == ()
        assert_same_records(finished.read_records(), expected)
        assert_same_responses(folder, out / "undisturbed")


@pytest.mark.unit
def test_45_kills_on_the_scripted_engine(tmp_path: Path) -> None:
    report = kill(tmp_path, 45, seed=20260)
    judge(tmp_path, report, 45)
    # The kills have to hit different states, or they show nothing: before the first acknowledgement, between
    # two, and after the last one, where records and manifest are written.
    states = report["states"]
    assert min(states.get(name, 0) for name in ("none", "some", "all")) >= 2, states


@pytest.mark.slow
def test_5_kills_on_a_real_model(tmp_path: Path) -> None:
    from tests.engines.tiny import save

    model = save(tmp_path / "model", "qwen3")
    report = kill(tmp_path, 5, 7, "--model", str(model))
    judge(tmp_path, report, 5)
