"""Real published results, imported and compared: every pair of base_vs_sft_code, and outputs of real models."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from forgetbench.runs.importers.store import open_imported
from forgetbench.tasks.code_humaneval import HumanEval
from forgetbench.tasks.source import DataSource
from tests.cli.conftest import Run
from tests.runs.importing import lines

SETS = {"mbpp_plus": (), "humaneval_plus": (), "lcb_codegen": ("--trials", "10")}
ALIASED = "mistralai--Mistral-7B-Instruct-v0.2"


@pytest.fixture(scope="module")
def published(data_dir: Path) -> Path:
    return data_dir / "published" / "base_vs_sft_code"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rule(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, float], list[str]]:
    """(state, the only rule, notes) of the verdict printed last."""
    verdict = json.loads(capsys.readouterr().out)["verdicts"][0]
    (only,) = verdict["rules"]
    return verdict["state"], only, verdict["notes"]


@pytest.mark.parametrize("name", SETS)
def test_every_pair_can_be_compared(
    run: Run, here: Path, published: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The figures are those of the file itself."""
    file = published / f"{name}.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]
    means: dict[str, list[float]] = {}
    for row in rows:
        means.setdefault(row["model"], []).append(float(row["pass1"]))
    pairs = json.loads((published / f"{name}.pairs.json").read_text(encoding="utf-8"))
    assert pairs
    assert run("import", str(file), "--task", f"{name}_as_published", *SETS[name]) == 0
    for base, candidate in pairs:
        capsys.readouterr()
        code = run("gate", base, candidate, "--json")
        state, only, notes = rule(capsys)
        assert code == {"PASS": 0, "FAIL": 10, "INCONCLUSIVE": 11}[state]
        n = len(means[base])
        assert only["n"] == n
        assert only["base"] == pytest.approx(sum(means[base]) / n)
        assert only["candidate"] == pytest.approx(sum(means[candidate]) / n)
        assert any(f"{n} of {n} items are known by their names alone" in note for note in notes)


def test_gemma_is_blocked_and_mistral_is_undecided(
    run: Run, here: Path, published: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the benchmark's own items at hand: the figures that the data's README has."""
    file = str(published / "mbpp_plus.jsonl.gz")
    models = [m for m in ("gemma-7b", "gemma-7b-it", "mistral-7b", f"mistral-it={ALIASED}") for m in ("--model", m)]
    assert run("import", file, "--task", "mbpp_plus", "--data-dir", str(data_dir), *models) == 0
    capsys.readouterr()
    assert run("compare", "gemma-7b", "gemma-7b-it", "--json") == 10
    state, only, notes = rule(capsys)
    assert (state, round(100 * only["base"], 1), round(100 * only["candidate"], 1)) == ("FAIL", 45.0, 33.1)
    assert any("taken for mbpp_plus's own items of these names" in note for note in notes)
    assert run("compare", "mistral-7b", "mistral-it", "--json") == 11
    state, only, _ = rule(capsys)
    assert (state, round(100 * only["delta"], 1)) == ("INCONCLUSIVE", -5.3)


def test_outputs_of_real_models_are_found_and_scored(
    run: Run, here: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three ways to name an item: by the question, by a prompt that holds it, by a path into the row."""
    published = data_dir / "published"
    flags = ("--task", "gsm8k", "--data-dir", str(data_dir), "--json")
    openai = str(published / "gsm8k_openai_solutions" / "example_model_solutions.jsonl.gz")
    files = {
        "llama": (str(published / "gsm8k_zeroeval" / "Meta-Llama-3-8B-Instruct.jsonl.gz"), ()),
        "abel": (str(published / "gsm8k_abel" / "gsm8k" / "7b.jsonl.gz"), ()),
        "gpt3": (openai, ("--field", "output=175b_verification.solution")),
    }
    for alias, (file, more) in files.items():
        assert run("score", file, "--model", alias, *more, *flags) == 0
        made = json.loads(capsys.readouterr().out)["imported"][0]["tasks"][0]
        assert (made["items"], made["records"], made["from"]) == (1319, 1319, "outputs")
    assert run("gate", "gpt3", "abel", "--json") in (0, 10, 11)
    _, only, _ = rule(capsys)
    assert only["n"] == 1319


def test_evalplus_programs_without_results_are_run(
    run: Run, here: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole programs (`solution`) and continuations (`completion`); the other 162 are not wrong, they are not there."""
    items = HumanEval(DataSource(data_dir=data_dir)).load()[:2]
    first, second = (item.doc for item in items)
    wrong = f"{second['prompt']}    return None\n"
    files = {
        "whole": [
            {"task_id": first["task_id"], "solution": items[0].gold},
            {"task_id": second["task_id"], "solution": wrong},
        ],
        "rest": [
            {"task_id": first["task_id"], "completion": first["canonical_solution"]},
            {"task_id": second["task_id"], "completion": "    return None\n"},
        ],
    }
    for name, rows in files.items():
        lines(here / f"{name}.jsonl", rows)
        flags = ("--model", name, "--task", "humaneval", "--data-dir", str(data_dir), "--json")
        assert run("import", f"{name}.jsonl", *flags) == 0
        made = json.loads(capsys.readouterr().out)["imported"][0]["tasks"][0]
        assert (made["from"], made["records"], made["metrics"][0]) == ("outputs", 2, "pass@1")
        assert any("162 of 164 items have no output" in note for note in made["notes"])
        stored = open_imported(here / ".forgetbench" / "runs", name)
        assert stored is not None
        assert [r.scores["pass@1"] for r in stored.read_records()] == [1.0, 0.0]
    assert run("gate", "whole", "rest") == 11
