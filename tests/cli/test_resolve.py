"""`compare --resolve` end to end: what is asked beyond the suite, what is kept, what is said."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from forgetbench.runs.codec import decode

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit

Out = pytest.CaptureFixture[str]

SCRIPT = """
import hashlib, re

def answer(request):
    n = int(re.findall(r"Q: (\\d+) \\+ 1", request.prompt.text)[-1])
    if request.body.temperature == 0:
        return "none" if n in {wrong} else str(n + 1)
    draws = [int(hashlib.sha256(str(seed).encode()).hexdigest()[:8], 16) / 2**32 for seed in request.body.seeds]
    return [str(n + 1) if draw < {p} else "none" for draw in draws]
"""


def _write(folder: Path, *, p: float = 0.7, sft: float = 0.7, wrong: str = "()", **more: Any) -> Path:
    config = copy.deepcopy(workspace.CONFIG)
    for alias, chance, lost in (("base", p, "()"), ("sft", sft, wrong)):
        (folder / f"{alias}.py").write_text(f"# {alias}" + SCRIPT.replace("{p}", str(chance)).replace("{wrong}", lost))
        config["models"][alias] = {"path": f"{alias}.py", "engine": "scripted"}
        config["models"][alias]["engine_args"] = {"script": f"{alias}.py"}
    return workspace.write(folder, forgetbench__yaml=config, **more)


def _sampled(samples: int) -> dict[str, Any]:
    suite = copy.deepcopy(workspace.SUITE)
    suite["sampling"] = {"n": samples, "temperature": 0.7}
    policy = copy.deepcopy(workspace.POLICY)
    policy["rules"][0] |= {"estimand": "sampled", "margin": 4}
    return {"suite__yaml": suite, "policy__yaml": policy}


def _limited(items: int) -> dict[str, Any]:
    suite = copy.deepcopy(workspace.SUITE)
    suite["tasks"][0]["limit"] = items
    return {"suite__yaml": suite}


def _verdict(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)["verdicts"][0]
    return found


def _drawn(folder: Path, alias: str, *, where: str) -> list[int]:
    """Samples of each stored response."""
    (run,) = (folder / ".forgetbench/runs").glob(f"{alias}-*")
    lines = [line for s in run.glob(f"{where}/responses/*.jsonl") for line in s.read_bytes().splitlines()]
    return [len(decode(line[9:]).generations) for line in lines]


def test_more_samples_of_every_item_and_only_those_that_are_new(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, **_sampled(2))
    assert run("compare", "base", "sft", "--config", str(config)) == 11
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "10000000", "--no-cache", "--json") == 0
    for alias in ("base", "sft"):
        # 2 samples were there: half way to 32 are 17, so 15 more of each item, and no item was asked twice.
        extra = Counter(_drawn(tmp_path, alias, where="rounds/more-samples"))
        assert sum(size * count for size, count in extra.items()) in (200 * 15, 200 * 30)
        assert set(_drawn(tmp_path, alias, where="tasks/*")) <= {1, 2, 17, 32}


def test_the_verdict_says_what_was_done(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, **_sampled(2))
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "10000000", "--json") == 0
    verdict = _verdict(capsys.readouterr().out)
    (rule,) = verdict["rules"]
    assert rule["state"] == "PASS"
    assert rule["rule"]["alpha"] < 0.05  # a look of several
    (line,) = [note for note in verdict["notes"] if note.startswith("resolve: ")]
    assert "looks at sums, each at a level of its own, together 5 %" in line
    assert "asked beyond the suite: sums: " in line


def test_a_greedy_rule_gets_the_items_that_were_left_out(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, wrong="(3, 17)", **_limited(40))
    assert run("compare", "base", "sft", "--config", str(config)) == 11
    capsys.readouterr()
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "10000000", "--json") == 0
    (rule,) = _verdict(capsys.readouterr().out)["rules"]
    assert 40 < rule["n"] <= 200


def test_a_loss_still_blocks(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, sft=0.55, **_sampled(2))
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "10000000", "--json") == 10
    assert _verdict(capsys.readouterr().out)["state"] == "FAIL"


def test_the_budget_is_kept_and_what_it_cannot_do_is_said(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, **_sampled(2))
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "100", "--json") == 11
    verdict = _verdict(capsys.readouterr().out)
    assert verdict["rules"][0]["rule"]["alpha"] == 0.05
    (line,) = [note for note in verdict["notes"] if note.startswith("resolve: ")]
    assert "its share of the budget, 100 tokens, is less than one more sample of every item takes" in line
    (run_folder,) = (tmp_path / ".forgetbench/runs").glob("sft-*")
    assert not (run_folder / "rounds").exists()


def test_where_nothing_can_be_raised_it_is_said(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, wrong="range(7)")
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "100000", "--json") == 11
    (line,) = [note for note in _verdict(capsys.readouterr().out)["notes"] if note.startswith("resolve: ")]
    assert "greedy answers have no second sample" in line


def test_the_same_command_asks_nothing_again_and_says_the_same(run: Run, tmp_path: Path, capsys: Out) -> None:
    config = _write(tmp_path, **_sampled(2))
    seen = []
    for _ in range(2):
        assert run("compare", "base", "sft", "--config", str(config), "--resolve", "10000000", "--json") == 0
        answers = sum(_drawn(tmp_path, "sft", where="tasks/*")), sum(_drawn(tmp_path, "sft", where="rounds/*"))
        seen.append((_verdict(capsys.readouterr().out), answers))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("flag", [("--sequential",), ("--train-data", "x.jsonl")])
def test_what_does_not_go_together_is_refused(run: Run, tmp_path: Path, capsys: Out, flag: tuple[str, ...]) -> None:
    config = _write(tmp_path)
    assert run("compare", "base", "sft", "--config", str(config), "--resolve", "100", *flag) == 2
    assert "--resolve: cannot go with" in capsys.readouterr().err
