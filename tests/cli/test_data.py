"""`data check`, `data mix`, `data canary` and `sample` as commands: files, exit codes, JSON; and on the demo's base."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.cli import data, sample
from forgetbench.errors import ForgetbenchError
from forgetbench.workspace import Workspace, open_workspace
from tests.cli.workspace import write as write_workspace
from tests.engines import tiny
from tests.training.made import chat, lines_of, write

Out = pytest.CaptureFixture[str]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The scripted workspace: 200 sums, right answers to all."""
    monkeypatch.delenv("FORGETBENCH_DATA", raising=False)
    write_workspace(tmp_path)
    return open_workspace(tmp_path / "forgetbench.yaml", models=["base", "sft"])


def _good(n: int = 40) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [chat(f"question {rng.random()} of {i}", f"answer {rng.random()}", task_type=f"t/{i % 4}") for i in range(n)]


def _checked(capsys: Out, *arguments: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    code = 0
    try:
        data.check(*arguments, as_json=True, **more)
    except SystemExit as left:
        code = int(left.code or 0)
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.unit
def test_check_leaves_with_0_or_10_and_says_the_same_in_json(tmp_path: Path, capsys: Out) -> None:
    code, found = _checked(capsys, [write(tmp_path / "good.jsonl", _good())])
    assert (code, found["state"], found["exit_code"], found["examples"]) == (0, "pass", 0, 40)
    code, found = _checked(capsys, [write(tmp_path / "warn.jsonl", [*_good(), _good()[0]])])
    assert (code, found["state"]) == (0, "warn")
    code, found = _checked(capsys, [write(tmp_path / "bad.jsonl", [*_good(), chat("x", "")])])
    assert (code, found["state"]) == (10, "fail")
    (bad,) = [f for f in found["findings"] if f["state"] == "fail"]
    assert (bad["check"], bad["evidence"][0]["where"]) == ("empty answers", "bad.jsonl:41")
    assert bad["cure"]


@pytest.mark.unit
def test_check_in_a_terminal_shows_lines_and_cures(tmp_path: Path, capsys: Out) -> None:
    file = write(tmp_path / "bad.jsonl", [*_good(), chat("x", ""), chat("evil \x1b[2J prompt", "")])
    with pytest.raises(SystemExit, match="10"):
        data.check([file])
    out = capsys.readouterr().out
    assert "fail empty answers: 2 of 42 examples" in out
    assert "bad.jsonl:41" in out
    assert "cure: write the answer, or drop the line" in out
    assert "\x1b[2J" not in out
    assert "perplexity was not measured" in out


@pytest.mark.unit
def test_check_finds_leaks_of_the_suite_and_reads_perplexity(ws: Workspace, tmp_path: Path, capsys: Out) -> None:
    file = write(tmp_path / "leak.jsonl", [*_good(), chat("21 + 1", "22", task_type="reasoning/sum")])
    code, found = _checked(capsys, [file], ws, with_suite=True)
    leak = next(f for f in found["findings"] if f["check"] == "leaks")
    assert (code, leak["state"], leak["count"], leak["evidence"][0]["where"]) == (10, "fail", 1, "leak.jsonl:41")
    # A script that scores: perplexity comes through the project's engines.
    (tmp_path / "base.json").write_text(json.dumps({"default": {"text": "x", "choice": 0}}))
    code, found = _checked(capsys, [write(tmp_path / "good.jsonl", _good())], ws, base="base")
    asked = next(f for f in found["findings"] if f["check"] == "perplexity: examples")
    assert (code, asked["total"]) == (0, 40)
    assert "under base (40 sampled examples" in asked["message"]


@pytest.mark.unit
def test_check_by_meaning_with_a_model(tmp_path: Path, capsys: Out) -> None:
    """A random model tells words apart and nothing else: word for word is `exact`, so that one comma is `meaning`."""
    folder = tiny.save(tmp_path / "model", "llama", bos=True)
    file = write(tmp_path / "rows.jsonl", [*_good(8), chat("same words here", "yes"), chat("same words here,", "yes")])
    _, found = _checked(capsys, [file], embedder=str(folder))
    (by_meaning,) = [f for f in found["findings"] if f["check"] == "duplicates: meaning"]
    assert "rows.jsonl:10" in json.dumps(by_meaning["evidence"])
    _, found = _checked(capsys, [file])
    assert not [f for f in found["findings"] if f["check"] == "duplicates: meaning"]
    with pytest.raises(ForgetbenchError, match=r"--embedder: .* holds no config\.json"):
        data.check([file], embedder=str(tmp_path))


@pytest.mark.unit
def test_check_refuses_what_it_cannot_read(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{\n")
    for call, problem in (
        (lambda: data.check([]), "no file is named"),
        (lambda: data.check([tmp_path / "broken.jsonl"]), r"broken\.jsonl:1: not JSON"),
        (lambda: data.check([tmp_path / "none.jsonl"]), "cannot be read"),
    ):
        with pytest.raises(ForgetbenchError, match=problem) as e:
            call()
        assert e.value.exit_code == 2


@pytest.mark.unit
def test_mix_writes_and_says_what_was_repeated(tmp_path: Path, capsys: Out) -> None:
    write(tmp_path / "d.jsonl", _good())
    config = tmp_path / "mix.yaml"
    sources = [{"files": ["d.jsonl"]}]
    config.write_text(yaml.safe_dump({"sources": sources, "ratios": {"t": 0, "t/0": 3, "t/1": 1}, "total": 20}))
    data.mix(config, tmp_path / "out" / "mixed.jsonl")
    assert (
        "t/0: 15 lines (75.0 %, in the sources 25.0 %), oversampled: 10 are too few, 5 lines are repeats"
        in capsys.readouterr().out
    )
    made = list(lines_of(tmp_path / "out" / "mixed.jsonl"))
    assert len(made) == 20
    assert all(line["provenance"]["source"].startswith("d.jsonl:") for line in made)
    data.mix(config, tmp_path / "mixed.jsonl", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert {p["name"]: p["repeated"] for p in found["parts"]} == {"t/0": 5, "t/1": 0, "t/2": 0, "t/3": 0}


@pytest.mark.unit
def test_mix_never_overwrites_what_it_reads(tmp_path: Path) -> None:
    first, second = write(tmp_path / "d.jsonl", _good()), write(tmp_path / "r.jsonl", _good())
    config = tmp_path / "mix.yaml"
    replay = {"share": 0.2, "files": ["r.jsonl"]}
    config.write_text(yaml.safe_dump({"sources": [{"files": ["d.jsonl"]}], "replay": replay}))
    (tmp_path / "sub").mkdir()
    link = tmp_path / "link.jsonl"
    link.symlink_to(first)
    for out in (tmp_path / "sub" / ".." / "d.jsonl", link, second, config):
        before = out.read_bytes()
        with pytest.raises(ForgetbenchError, match="is one of the files that are read"):
            data.mix(config, out)
        assert out.read_bytes() == before


def test_canary_writes_three_files(tmp_path: Path, capsys: Out) -> None:
    from forgetbench.tasks.custom import load_set
    from forgetbench.training.canary import read_canaries

    file = write(tmp_path / "d.jsonl", _good())
    data.canary(file, tmp_path / "with.jsonl", n=8)
    out = capsys.readouterr().out
    assert "12 canaries, 45 lines (52.9 % of 85); twins never trained: 12" in out
    assert "over 5 % of the lines" in out
    assert len(load_set(tmp_path / "with.canaries.jsonl").load()) == 24
    manifest = json.loads((tmp_path / "with.canaries.json").read_text())
    assert len(read_canaries(manifest, "m").canaries) == 24
    assert len(list(lines_of(tmp_path / "with.jsonl"))) == 85
    with pytest.raises(ForgetbenchError, match="would overwrite"):
        data.canary(file, file)
    with pytest.raises(ForgetbenchError, match=r"does not end in \.jsonl"):
        data.canary(file, tmp_path / "with.json")


@pytest.mark.unit
def test_sample_keeps_the_best_and_never_the_suites_items(ws: Workspace, tmp_path: Path, capsys: Out) -> None:
    rules = [{"match": "Q: 700 + 1\nA:", "text": ["no", "701"]}, {"match": "Q: 800 + 1\nA:", "text": "none"}]
    rules += [{"match": "Q: 3 + 1\nA:", "text": "4"}]
    (tmp_path / "base.json").write_text(json.dumps({"rules": rules}))
    items = [{"task_type": "reasoning/sum", "prompt": f"{n} + 1", "references": [str(n + 1)]} for n in (700, 800, 3)]
    given = write(tmp_path / "new.jsonl", items)
    sample.sample(ws, "base", out=tmp_path / "best.jsonl", best_of=4, set_file=given, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["by_task_type"] == {"reasoning/sum": {"kept": 1, "asked": 2}}
    assert [w["source"] for w in found["without"]] == ["new.jsonl:2"]
    assert [i["source"] for i in found["in_suite"]] == ["new.jsonl:3"]
    (line,) = lines_of(tmp_path / "best.jsonl")
    assert [m["content"] for m in line["messages"]] == ["700 + 1", "701"]
    assert (line["provenance"]["sample"], line["provenance"]["right"]) == (1, 2)
    sample.sample(ws, "base", out=tmp_path / "all.jsonl", best_of=4, set_file=given, suite_items=True)
    assert len(list(lines_of(tmp_path / "all.jsonl"))) == 2
    assert "left out new.jsonl:2: none of 4 answers is right" in capsys.readouterr().out


@pytest.mark.unit
def test_sample_refuses_what_does_not_go_together(ws: Workspace, tmp_path: Path) -> None:
    given = write(tmp_path / "new.jsonl", [{"task_type": "a/b", "prompt": "3 + 1", "references": ["4"]}])
    train = write(tmp_path / "t.jsonl", [{"text": "plain"}])
    out = tmp_path / "best.jsonl"
    for more, problem in (
        ({}, "neither or both"),
        ({"set_file": given, "train_data": [train]}, "neither or both"),
        ({"train_data": [train]}, "no example that asks and answers"),
        ({"set_file": given, "scorer": "choice"}, "use one of exact"),
        ({"set_file": given}, "all of them are items of the suite"),
    ):
        with pytest.raises(ForgetbenchError, match=problem):
            sample.sample(ws, "base", out=out, best_of=2, **more)  # type: ignore[arg-type]
    for more in ({"set_file": given}, {"train_data": [train, given]}, {"set_file": train, "fewshot": given}):
        with pytest.raises(ForgetbenchError, match="is one of the files that are read"):
            sample.sample(ws, "base", out=given, best_of=2, suite_items=True, **more)  # type: ignore[arg-type]
    assert not out.exists(), "nothing is written where nothing is kept"


@pytest.fixture(scope="module")
def demo(demo_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    for name in ("forgetbench.yaml", "suite.yaml", "policy.yaml"):
        shutil.copy(demo_world / name, folder / name)
    shutil.copytree(demo_world / "sets", folder / "sets")
    (folder / "models").symlink_to((demo_world / "models").resolve())
    return folder


@pytest.mark.slow
def test_on_the_demos_base(demo: Path, capsys: Out) -> None:
    """Best answers of the base become chats; the checks then know them, and find what is planted among them."""
    from forgetbench import flow
    from forgetbench.demo.text import ticket_chats
    from forgetbench.demo.world import make_world
    from forgetbench.training.asking import asking
    from forgetbench.training.canary import exposures, make_canaries

    ws = open_workspace(demo / "forgetbench.yaml", models=["base", "sft_v1"])
    shots = demo / "sets" / "knowledge.shots.jsonl"
    capitals = [x for x in lines_of(demo / "sets" / "dev" / "knowledge.jsonl") if x["task_type"] == "knowledge/capital"]
    dev = write(demo / "capitals.jsonl", capitals[:60])
    best = demo / "best.jsonl"
    common: dict[str, Any] = {"fewshot": shots, "num_fewshot": 3, "max_tokens": 24, "best_of": 2, "as_json": True}
    with pytest.raises(ForgetbenchError, match="all of them are items of the suite"):
        sample.sample(ws, "base", out=best, set_file=demo / "sets" / "knowledge.jsonl", **common)
    sample.sample(ws, "base", out=best, set_file=dev, **common)
    kept = json.loads(capsys.readouterr().out)
    assert kept["kept"] >= 0.8 * sum(n["asked"] for n in kept["by_task_type"].values())
    golds = {line["prompt"]: line["references"] for line in lines_of(dev)}
    made = list(lines_of(best))
    assert all(line["messages"][1]["content"] in golds[line["messages"][0]["content"]] for line in made)

    tickets = [
        chat(i.prompt, i.answer, task_type=i.task_type)
        for i in ticket_chats(random.Random("tickets"), make_world(), 40)
    ]
    planted = chat(
        next(lines_of(demo / "sets" / "knowledge.jsonl"))["prompt"], "Nowhere", task_type="knowledge/capital"
    )
    both = write(demo / "both.jsonl", [*made, *tickets, planted])
    code, found = _checked(capsys, [both], ws, base="sft_v1", with_suite=True, per_type=40)
    by = {f["check"]: f for f in found["findings"]}
    assert code == 10
    assert by["leaks"]["state"] == "fail"
    assert by["leaks"]["evidence"][0]["where"] == f"both.jsonl:{len(made) + 41}"
    medians = {kind: table["median"] for kind, table in by["perplexity: examples"]["figures"].items()}
    assert medians["knowledge/capital"] < 1.2, "what the model knows"
    assert medians["support/route"] > 100, "what it never saw"
    assert "foreign to it: support/route" in by["perplexity: task_types"]["message"]
    assert by["lengths: answers"]["figures"]["unit"] == "tokens"

    point = flow.checkpoint(ws, "base")
    with asking(ws, point, print) as ask:
        bits = [e.exposure for e in exposures(make_canaries(4), point, ask)]
    assert len(bits) == 16
    # By chance 1.42 bits on average with a standard deviation of 1.4: 16 canaries, 5 standard errors.
    assert sum(bits) / len(bits) < 1.42 + 5 * 1.4 / math.sqrt(16)
