"""--train-data, export --flips, sampled suites and sets without a scorer, end to end on the scripted engine."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from . import workspace
from .conftest import Run

pytestmark = pytest.mark.unit


def _suite(**task: Any) -> dict[str, Any]:
    suite = copy.deepcopy(workspace.SUITE)
    suite["tasks"][0].update(task)
    return suite


def _train(folder: Path, numbers: range) -> str:
    rows = [
        {"messages": [{"role": "user", "content": f"{n} + 1"}, {"role": "assistant", "content": "?"}]} for n in numbers
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(folder / "train.jsonl")


class TestTrainData:
    def test_changes_and_verdict_with_and_without_leaked_items(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """All that the candidate still answers was trained on: without it the loss is 100 points."""
        config = workspace.write(tmp_path, sft__json=workspace.script(wrong=range(100, 200)))
        train = _train(tmp_path, range(100))
        assert run("compare", "base", "sft", "--config", str(config), "--train-data", train) == 10
        out = " ".join(capsys.readouterr().out.replace("−", "-").split())
        assert "with and without items found in the training data (100)" in out
        assert "reasoning ability 200 -50.0 100 -100.0" in out
        assert "train.jsonl holds 100 of 200 items (100 word for word)" in out
        assert "the verdict would be the same: blocked" in out

    def test_a_verdict_that_rests_on_leaks_says_so(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Ten lost items in 800 pass; among the hundred that were not trained on they block."""
        items = [{**workspace.ITEMS[0], "id": f"i{n}", "prompt": f"{n} + 1", "references": ["x"]} for n in range(800)]
        rules = [{"match": f"Q: {n} + 1\nA:", "text": "x" if n < 790 else "y"} for n in range(800)]
        right = [{"match": "Q:", "text": "x"}]
        config = workspace.write(tmp_path, sums__jsonl=items, sft__json={"rules": rules}, base__json={"rules": right})
        arguments = ("compare", "base", "sft", "--config", str(config))
        assert run(*arguments) == 0
        capsys.readouterr()
        assert run(*arguments, "--train-data", _train(tmp_path, range(700))) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "the verdict would be another, FAIL: blocked" in out

    def test_several_files_and_nothing_found(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = workspace.write(tmp_path)
        (tmp_path / "notes.txt").write_text("Nothing here.\n")
        first = _train(tmp_path, range(5000, 5003))
        both = ("--train-data", first, "--train-data", str(tmp_path / "notes.txt"))
        assert run("compare", "base", "sft", "--config", str(config), *both) == 0
        assert "train.jsonl, notes.txt holds none of 200 items" in " ".join(capsys.readouterr().out.split())

    def test_a_broken_file_is_said_before_anything_runs(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = workspace.write(tmp_path)
        (tmp_path / "train.jsonl").write_text('{"q": 1}\n')
        assert run("compare", "base", "sft", "-c", str(config), "--train-data", str(tmp_path / "train.jsonl")) == 2
        assert "train.jsonl:1: no field that holds a question" in capsys.readouterr().err
        assert not (tmp_path / ".forgetbench").exists()


class TestExport:
    def _rows(self, run: Run, config: Path, out: Path) -> list[dict[str, Any]]:
        assert run("export", "--flips", "base", "sft", "--config", str(config), "--out", str(out)) == 0
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    def test_flipped_unparsed_and_diverged_items(self, run: Run, tmp_path: Path) -> None:
        def script(answers: dict[int, str]) -> dict[str, Any]:
            return {"rules": [{"match": f"Q: {n} + 1\nA:", "text": answers.get(n, str(n + 1))} for n in range(200)]}

        config = workspace.write(
            tmp_path,
            base__json=script({1: "bad", 2: "bad", 3: "bad"}),
            sft__json=script({0: "wrong", 2: "worse", 3: "", 4: "a very long answer"}),
        )
        run("compare", "base", "sft", "--config", str(config))
        rows = self._rows(run, config, tmp_path / "out" / "flips.jsonl")
        kinds = {row["prompt"].rsplit("Q: ", 1)[1].split(" ")[0]: (row["kind"], row["flip"]) for row in rows}
        assert kinds == {
            "0": ("lost", "lost"),
            "1": ("gained", "gained"),
            "2": ("diverged", "same"),
            "3": ("unparsed", "same"),
            "4": ("lost", "lost"),
        }
        row = next(r for r in rows if r["kind"] == "diverged")
        assert set(row) == {
            "id", "task", "task_type", "view", "kind", "flip", "prompt", "gold", "base", "candidate", "source",
        }  # fmt: skip
        assert row["base"]["extracted"] == "bad"
        assert row["candidate"]["output"] == "worse"
        assert '"worse" is not "3"' in row["candidate"]["why"]
        assert (row["task"], row["task_type"], row["gold"], row["view"]) == ("sums", "reasoning/sum", "3", "ability")

    def test_nothing_is_generated(self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = workspace.write(tmp_path)
        assert run("export", "--flips", "base", "sft", "-c", str(config), "--out", str(tmp_path / "x")) == 2
        assert "run it first: forgetbench run base" in capsys.readouterr().err
        assert not (tmp_path / "x").exists()

    def test_it_has_to_be_said_what(self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = workspace.write(tmp_path)
        assert run("export", "base", "sft", "-c", str(config), "--out", str(tmp_path / "x")) == 2
        assert "use --flips" in capsys.readouterr().err


class TestSamples:
    def test_the_sample_is_the_same_for_both_and_tells_of_the_whole(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = workspace.write(
            tmp_path, suite__yaml=_suite(sample=80, seed=3), sft__json=workspace.script(wrong=range(60))
        )
        assert run("compare", "base", "sft", "--config", str(config)) == 10
        out = " ".join(capsys.readouterr().out.split())
        assert "sums (ability): 80 of 200 items, drawn in proportion" in out
        runs = list((tmp_path / ".forgetbench/runs").iterdir())
        hashes = {json.loads((r / "manifest.json").read_text())["tasks"][0]["items_hash"] for r in runs}
        assert len(runs) == 2
        assert len(hashes) == 1

    def test_limit_on_the_command_line_goes_before(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = workspace.write(tmp_path, suite__yaml=_suite(sample=80))
        assert run("compare", "base", "sft", "--config", str(config), "--limit", "30") == 11
        out = capsys.readouterr().out
        assert "n=30" in out
        assert "drawn in proportion" not in out

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            ({"sample": 10, "limit": 10}, "not both"),
            ({"seed": 1}, "`seed` belongs to `sample`"),
            ({"sample": 0}, "sample"),
            ({"fields": {"qustion": "x"}}, "qustion"),
            ({"fields": {"prompt": []}}, "fields"),
            ({"set": "{data}/x.jsonl"}, "no data folder was given"),
        ],
    )
    def test_mistakes(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: dict[str, Any], message: str
    ) -> None:
        config = workspace.write(tmp_path, suite__yaml=_suite(**task))
        assert run("validate", "--config", str(config)) == 2
        assert message in capsys.readouterr().err


class TestNoScorer:
    POEMS = [{"task_type": "writing/poem", "prompt": f"A poem on {n}."} for n in range(3)]

    def _write(self, folder: Path, *, alone: bool) -> Path:
        suite = copy.deepcopy(workspace.SUITE)
        poems = {"set": "poems.jsonl", "scorer": "none", "max_tokens": 8}
        suite["tasks"] = [poems] if alone else [*suite["tasks"], poems]
        script = workspace.script()
        script["rules"].append({"match": "poem", "text": "Roses"})
        config = workspace.write(
            folder, suite__yaml=suite, base__json=script, sft__json=script, poems__jsonl=self.POEMS
        )
        config.write_text(config.read_text().replace("policy: policy.yaml", "policy: default"))
        return config

    def test_answers_are_stored_and_left_out_of_the_verdict(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from forgetbench.runs.store import list_runs

        config = self._write(tmp_path, alone=False)
        assert run("compare", "base", "sft", "--config", str(config)) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "poems has no scorer: its answers are kept in the runs, and decide nothing" in out
        for stored in list_runs(tmp_path / ".forgetbench/runs"):
            records = stored.read_records("poems")
            assert [(r.output, r.scores, r.outcome) for r in records] == [("Roses", {}, "ok")] * 3

    def test_alone_it_can_be_run_and_not_compared(
        self, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = self._write(tmp_path, alone=True)
        assert run("run", "base", "sft", "--config", str(config)) == 0
        assert run("validate", "--config", str(config)) == 0
        assert run("compare", "base", "sft", "--config", str(config)) == 2
        assert "has no task with a scorer" in capsys.readouterr().err
