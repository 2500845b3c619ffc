"""Verdicts on programs: the data's own solutions, and programs that were broken. What real models wrote, with what its
authors' harnesses said of it, is in test_published_humaneval.py."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

from forgetbench.errors import UsageError
from forgetbench.scoring.sandbox import Program, Result, Sandbox, get_sandbox
from forgetbench.tasks import code
from forgetbench.tasks.code import ROBUST, CodeTask
from forgetbench.tasks.code_mbpp import BASE
from forgetbench.types import Generation, Item, Response

from .code_files import NAMES, SIZES, code_tasks

pytestmark = [pytest.mark.parity, pytest.mark.realdata]


@pytest.fixture(scope="module")
def tasks(data_dir: Path) -> dict[str, CodeTask]:
    return code_tasks(data_dir)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return get_sandbox()
    except UsageError as e:
        if os.environ.get("CI"):
            pytest.fail(str(e))
        pytest.skip(str(e))


HEAVY = {
    "humaneval": {},
    "humaneval_plus": {"HumanEval/15", "HumanEval/83", "HumanEval/130", "HumanEval/139"},
    "mbpp": {123},
    "mbpp_plus": {123, 255, 271, 392, 599},
}
"""More than two seconds each; docs/parity.md has what they give."""
WRONG_SOLUTIONS = {
    ("humaneval_plus", "HumanEval/32", "pass@1"),  # its test unpacks a number
    *(("mbpp_plus", i, BASE) for i in (98, 124, 137, 300)),  # lm-eval leaves out `import math`
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_reference_solutions_pass(name: str, tasks: dict[str, CodeTask], sandbox: Sandbox) -> None:
    task = tasks[name]
    items = [i for i in task.load() if i.doc["task_id"] not in HEAVY[name]]
    assert len(items) == SIZES[name] - len(HEAVY[name])
    failed = {
        (name, item.doc["task_id"], metric)
        for item in items
        for metric, result in task.execute(item.doc, task.reference(item.doc)).items()
        if result.outcome != "pass"
    }
    assert failed == {w for w in WRONG_SOLUTIONS if w[0] == name}


def broken(reference: str) -> str:
    """Every function of a program gives back something that is not its answer."""
    tree = ast.parse(reference)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = ast.parse("raise ValueError('wrong')" if node.name == "__init__" else "return 'wrong'").body
    return ast.unparse(tree)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_wrong_programs_fail(name: str, tasks: dict[str, CodeTask], sandbox: Sandbox) -> None:
    task = tasks[name]
    for item in task.load():
        results = task.execute(item.doc, broken(task.reference(item.doc)))
        outcomes = [r.outcome for r in results.values()]
        if name == "mbpp_plus" and item.doc["task_id"] in (737, 787, 794):
            # Their plus tests ask only whether the answer is true, and all of them want one that is.
            assert outcomes == ["pass", "fail"]
        else:
            assert set(outcomes) == {"fail"}, (item.doc["task_id"], results)


def test_scores(tasks: dict[str, CodeTask], sandbox: Sandbox) -> None:
    """From a response to a judgement, in both styles."""

    def judged(task: CodeTask, item: Item, text: str, finish: Any = "stop") -> Any:
        [found] = task.score(item, Response("r", generations=(Generation(text, (1,), finish),)))
        return found

    raw = tasks["humaneval"]
    item = raw.load()[0]
    right = item.doc["canonical_solution"]
    found = judged(raw, item, right)
    assert (found.scores, found.outcome, found.extracted) == ({"pass@1": 1.0, ROBUST: 1.0}, "ok", right)
    assert found.extra == {"execution": "pass", "integrity": "separate", "sandbox": "bubblewrap"}
    fenced = f"{right}```\nDone."
    assert judged(raw, item, fenced).scores["pass@1"] == 0.0
    assert judged(raw.in_style("chat"), item, fenced).scores == {"pass@1": 1.0, ROBUST: 1.0}
    # An answer that begins its own block, though one was begun for it: no code by lm-eval's reading.
    again = judged(raw.in_style("chat"), item, f"```python\n{raw.reference(item.doc)}```\nDone.")
    assert (again.scores, again.outcome) == ({"pass@1": 0.0, ROBUST: 1.0}, "unparsed")
    assert again.why == "The output holds no code that could be run. Read as pass@1,robust, the program passes."
    lost = judged(raw, item, "return True")
    assert (lost.scores, lost.outcome) == ({"pass@1": 0.0, ROBUST: 0.0}, "ok")
    assert "Read as pass@1,robust, the program does not pass" in lost.why
    assert judged(raw, item, right, "length").outcome == "truncated"
    assert judged(raw, item, " \n").outcome == "unparsed"
    quick = raw.in_style("raw")
    quick.wall_seconds = 0.5
    assert judged(quick, item, "    while True: pass").outcome == "timeout"
    assert judged(raw, item, "    return True", "error").scores == {}
    wrong = judged(raw, item, "    return True\n")
    assert (wrong.outcome, wrong.extra["execution"]) == ("ok", "fail")
    assert "returned True" in wrong.why
    plus = tasks["mbpp_plus"]
    first = plus.load()[0]
    assert judged(plus, first, first.doc["code"]).scores == {"pass@1": 1.0, BASE: 1.0}
    half = "def similar_elements(a, b):\n  return {(3, 4, 5, 6): (4, 5), (1, 2, 3, 4): (3, 4)}.get(a, (13, 14))"
    assert judged(plus, first, half).scores == {"pass@1": 0.0, BASE: 1.0}
    weak = next(i for i in tasks["mbpp"].load() if i.doc["task_id"] == 367)
    assert judged(tasks["mbpp"], weak, weak.doc["code"]).extra["integrity"] == "weak"


def test_a_sandbox_that_fails_is_no_wrong_answer(tasks: dict[str, CodeTask], monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def run(self, program: Program) -> Result:
            return Result("infra_error", "the sandbox failed: it does not answer")

    monkeypatch.setattr(code, "get_sandbox", lambda unsafe: Failing())
    task = tasks["humaneval"]
    [judged] = task.score(task.load()[0], Response("r", generations=(Generation("    pass", (1,), "stop"),)))
    assert (judged.outcome, judged.scores) == ("infra_error", {})
    assert judged.extra["execution"] == "infra_error"
