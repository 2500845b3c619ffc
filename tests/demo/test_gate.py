"""The demo as a user runs it: the command line on real checkpoints, every exit code as promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.vllm_installed import needs_vllm

pytestmark = pytest.mark.slow

REQUIRED = {"knowledge", "reasoning", "format", "copy", "code", "safety"}


def _compare(world: Path, *aliases: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "forgetbench", "compare", *aliases, "--json"]
    done = subprocess.run([*command, "-c", str(world / "forgetbench.yaml")], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_careless_fine_tune_is_blocked_and_the_broad_one_is_not(demo_world: Path) -> None:
    code, out = _compare(demo_world, "base", "sft_v1", "sft_v2")
    assert code == out["exit_code"] == 10
    first, second = out["verdicts"]
    assert (first["candidate"], first["state"]) == ("sft_v1", "PASS")
    assert (second["candidate"], second["state"]) == ("sft_v2", "FAIL")
    required = [r for r in second["rules"] if r["rule"]["required"]]
    assert {r["rule"]["task_type"] for r in required} == REQUIRED
    assert all(r["n"] >= 400 for r in required)
    lost = [r for r in required if r["state"] == "FAIL"]
    assert {"copy", "safety"} <= {r["rule"]["task_type"] for r in lost}
    for rule in lost:  # blocked for what it really forgot: a proven loss, not a doubt
        assert rule["interval"]["high"] < -0.025, rule["rule"]["name"]
    assert any(r["state"] == "PASS" for r in required), "a corpse: nothing at all was kept"
    (gain,) = [r for r in second["rules"] if r["rule"]["task_type"] == "support"]
    assert gain["delta"] > 0.8
    html = Path(out["report"]).read_text(encoding="utf-8")
    assert "A toy" in html


@needs_vllm
def test_vllm_comes_to_the_same_verdict(demo_world: Path) -> None:
    """Every rule of both candidates, and what each is about; the default engine's runs are those of the test above."""
    code, out = _compare(demo_world, "base", "sft_v1", "sft_v2")
    code_vllm, out_vllm = _compare(demo_world, "base", "sft_v1", "sft_v2", "--engine", "vllm")
    assert code_vllm == code == 10
    for mine, theirs in zip(out_vllm["verdicts"], out["verdicts"], strict=True):
        assert (mine["candidate"], mine["state"]) == (theirs["candidate"], theirs["state"])
        for a, b in zip(mine["rules"], theirs["rules"], strict=True):
            assert (a["rule"]["name"], a["state"], a["n"]) == (b["rule"]["name"], b["state"], b["n"])
            # Greedy answers may part where two tokens are equally likely to seven digits.
            assert a["delta"] == pytest.approx(b["delta"], abs=0.005)
    gate = [sys.executable, "-m", "forgetbench", "gate", "base", "sft_v1", "sft_v2", "--engine", "vllm", "--json"]
    done = subprocess.run([*gate, "-c", str(demo_world / "forgetbench.yaml")], capture_output=True, text=True)
    assert json.loads(done.stdout)["verdicts"] == out_vllm["verdicts"], "judged again from the runs on disk"


def test_the_gentle_fine_tune_passes(demo_world: Path) -> None:
    code, out = _compare(demo_world, "sft_v1", "sft_null")
    assert code == 0
    required = [r for r in out["verdicts"][0]["rules"] if r["rule"]["required"]]
    assert len(required) == 12  # six abilities, raw and chat
    assert all(r["state"] == "PASS" and r["n"] >= 400 for r in required)


def test_base_against_itself_passes(demo_world: Path) -> None:
    assert _compare(demo_world, "base", "base")[0] == 0


def test_compare_on_folders_without_a_config(demo_world: Path, tmp_path: Path) -> None:
    """Two folders and a suite are enough; the default policy then asks for every ability."""
    models = demo_world / "models"
    command = [sys.executable, "-m", "forgetbench", "compare", str(models / "sft_v1"), str(models / "sft_null")]
    done = subprocess.run(
        [*command, "--suite", str(demo_world / "suite.yaml"), "--limit", "20", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 11, done.stderr  # twenty items exclude nothing
    assert json.loads(done.stdout)["verdicts"][0]["state"] == "INCONCLUSIVE"


def test_the_weights_are_drawn_and_not_spelt_out(demo_world: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.html"
    command = [
        sys.executable,
        "-m",
        "forgetbench",
        "compare",
        "sft_v1",
        "sft_null",
        "--study",
        "drift",
        "--limit",
        "20",
    ]
    command += ["--config", str(demo_world / "forgetbench.yaml"), "--report", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in (0, 11), done.stderr
    page = out.read_text(encoding="utf-8")
    assert '<svg class="d-map"' in page
    assert "&lt;svg" not in page
    assert "of their Frobenius norm" in page
