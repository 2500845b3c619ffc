"""Published programs in the sandbox: every one that has a verdict, and 10 of CodeGen's 100 samples a problem."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import published_humaneval
from benchmarks.published_humaneval import Counted, Run, Written, count_passes, cut
from benchmarks.published_types import Family
from forgetbench.errors import UsageError
from forgetbench.scoring.sandbox import Result, get_sandbox
from forgetbench.tasks.code_humaneval import HumanEval

pytestmark = [pytest.mark.parity, pytest.mark.realdata]


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    try:
        get_sandbox()
    except UsageError as e:
        if os.environ.get("CI"):
            pytest.fail(str(e))
        pytest.skip(str(e))


@pytest.fixture(scope="module")
def family(data_dir: Path) -> Family:
    return published_humaneval.run(data_dir, quick=True)


@pytest.mark.slow
def test_verdicts_on_1804_programs(family: Family) -> None:
    """All that differ have a cause, and where time is no matter these are three."""
    labelled = [s for s in family.scores if s.labelled]
    assert [s.n for s in labelled] == [164] * 11
    timely = [d for d in family.differences if "out of time" not in d.why and d.metric == "pass@1"]
    assert sorted((d.system, d.item, d.fault) for d in timely) == [
        ("StarCoder", "HumanEval/106", "theirs"),
        ("StarCoder", "HumanEval/133", "theirs"),
        ("gemini-pro", "HumanEval/82", "nobody's"),
    ]
    for score in labelled:
        if score.set != "humaneval_gemini_benchmark":  # whose published figures are not those of its flags
            assert score.published is not None
            assert score.ours == pytest.approx(score.published, abs=0.05 + score.differ * 100 / 164)
    assert sum("the file's own flags" in s.note for s in labelled) == 4


@pytest.mark.slow
def test_what_the_robust_reading_gains(family: Family) -> None:
    """Bare answers without their leading blanks, 50 of each system: all that are right are found, none that is wrong."""
    total: Counter[tuple[str, str]] = Counter()
    for reading in family.readings:
        total[reading.metric, "missed"] += reading.missed
        total[reading.metric, "accepted"] += reading.accepted
    assert total["pass@1", "missed"] > 100
    assert (total["pass@1,robust", "missed"], total["pass@1,robust", "accepted"]) == (0, 0)
    assert total["pass@1", "accepted"] == 0
    # Its harness indents the first line of an answer only; this one had lost the indentation of all.
    robust = [(d.system, d.item, d.fault) for d in family.differences if d.metric == "pass@1,robust"]
    assert robust == [("mixtral", "HumanEval/42", "theirs")]


@pytest.mark.slow
def test_ten_samples_a_problem(family: Family) -> None:
    """CodeT's pass@10 of 100 samples lies inside the interval of these ten."""
    once, ten = (s for s in family.scores if s.set == "humaneval_codegen16b_100samples")
    # A program at the edge of its 3 s may go either way: two of 1,640 samples, or one problem of 164.
    assert once.ours == pytest.approx(100 * 348 / 1640, abs=0.13)
    assert ten.ours == pytest.approx(100 * 77 / 164, abs=0.62)
    low, high = (float(x) for x in ten.note.removeprefix("95 % interval ").split(" to "))
    assert ten.published is not None
    assert low < ten.published < high


def test_equal_programs_run_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes count as one does; what is blank or cut off at a stop string is no program of its own."""
    right = "    return len(string)\n"
    problems = [
        ("HumanEval/23", (right, right, f"{right}\ndef other(): pass", "    return 0\n", " \n")),
        ("HumanEval/53", ("    return x + y\n",)),
    ]
    assert count_passes(data_dir, problems, 2) == [Counted(3, 0, 3), Counted(1, 0, 1)]
    ran: list[str] = []
    execute = HumanEval.execute

    def counted(task: HumanEval, doc: Mapping[str, Any], program: str) -> dict[str, Result]:
        ran.append(program)
        return execute(task, doc, program)

    monkeypatch.setattr(HumanEval, "execute", counted)
    assert count_passes(data_dir, problems, 1) == [Counted(3, 0, 3), Counted(1, 0, 1)]
    assert len(ran) == 3  # the blank one is never run


def test_cut() -> None:
    assert cut("a\n  b\nprint(1)\n# c") == "a\n  b"
    assert cut("a") == "a"


@pytest.mark.parametrize(
    ("passed", "result", "outcome", "why", "fault"),
    [
        (True, "", "fail", "NameError: name 'math' is not defined", "theirs"),
        (True, "passed", "fail", "No module named 'sympy'", "nobody's"),
        (True, "passed", "timeout", "no answer within 5 s", "nobody's"),
        (False, "timed out", "pass", "", "nobody's"),
        (True, "passed", "fail", "AssertionError", "ours"),
        (False, "failed: ", "pass", "", "ours"),
        (False, "failed: ", "pass", "sympy", "ours"),
        (False, "failed: 'return' outside function (<string>, line 11)", "pass", "", "theirs"),
    ],
)
def test_whose_fault(passed: bool, result: str, outcome: str, why: str, fault: str) -> None:
    """What has no known cause is ours."""
    written = Written("HumanEval/0", "", passed, result)
    assert published_humaneval._difference("set", "system", "pass@1", written, Run(outcome, why)).fault == fault
