"""`forgetbench train` and `train --check` as commands: folders, exit codes, JSON, bad input before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from forgetbench.cli import train as command
from forgetbench.cli.train_live import Lines, is_step
from forgetbench.errors import Exit
from forgetbench.training.stopping import Trained
from tests.cli.conftest import Run
from tests.training import tiny
from tests.training.preflight.made import chats

Out = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe over a tiny base, of three steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny.world(tmp_path)
    tiny.write_jsonl(tmp_path / "data.jsonl", chats())
    return _write(tmp_path)


def _write(folder: Path, **settings: Any) -> Path:
    file = folder / "tickets.yaml"
    content = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-4, "steps": 3, "max_length": 64, **settings}
    file.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return file


def test_a_recipe_is_trained_beside_its_file_and_told_how_to_compare(recipe: Path, run: Run, capsys: Out) -> None:
    assert run("train", str(recipe)) == 0
    out, err = capsys.readouterr()
    folder = recipe.with_suffix("")
    assert (folder / "final" / "model.safetensors").is_file()
    assert json.loads((folder / "training.json").read_text())["steps"] == 3
    assert out.splitlines()[-1] == f"forgetbench compare {recipe.parent / 'base'} {folder / 'final'}"
    assert f"manifest: {folder / 'training.json'}" in out
    assert "step 1: loss" in err
    assert "step 3: loss" in err
    assert "a/even" in err
    assert run("train", str(recipe), "--json") == 0  # a run that is over is told again, not trained again
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["final"], told["exit_code"], told["steps"]) == (str(folder / "final"), 0, 3)
    assert "step" not in err


def test_of_several_processes_one_tells(recipe: Path, run: Run, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained(recipe.parent / "final", 3, 3, "3 steps")
    monkeypatch.setattr("forgetbench.training.fit.train", lambda *_, **__: trained)
    for rank, told in (("0", "checkpoint: "), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert run("train", str(recipe)) == 0
        assert ("checkpoint: " in capsys.readouterr().out) == bool(told)
        assert run("train", str(recipe), "--json") == 0
        assert bool(capsys.readouterr().out) == bool(told)


def test_an_adapter_is_compared_as_the_folder_that_it_is(recipe: Path, run: Run, capsys: Out) -> None:
    from forgetbench.workspace import open_workspace

    _write(recipe.parent, method="lora", lora={"r": 2})
    assert run("train", str(recipe), "--out", str(recipe.parent / "lora")) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    final = recipe.parent / "lora" / "final"
    assert (final / "adapter_config.json").is_file()
    assert told == f"forgetbench compare {recipe.parent / 'base'} {final}"
    ws = open_workspace(models=told.split()[2:])
    base, adapter = (ws.spec(alias) for alias in ws.chosen)
    assert (adapter.path, adapter.adapter) == (base.path, str(final))
    assert base.adapter is None


def test_a_base_by_alias_is_found_and_named_so(recipe: Path, run: Run, capsys: Out) -> None:
    config = {"models": {"mine": {"path": "base"}}}
    (recipe.parent / "forgetbench.yaml").write_text(yaml.safe_dump(config))
    _write(recipe.parent, base="mine")
    assert run("train", str(recipe)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("forgetbench compare mine ")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"path": "base", "adapter": "x"}, "has an adapter"),
        ({"path": "base", "chat_template": "x.jinja"}, "has a chat_template of its own"),
        (
            {"engine": "openai", "engine_args": {"base_url": "http://localhost:1/v1", "model": "m"}},
            "has no weights here",
        ),
    ],
)
def test_aliases_without_weights_of_their_own_are_refused(
    recipe: Path, run: Run, capsys: Out, model: dict[str, Any], told: str
) -> None:
    (recipe.parent / "forgetbench.yaml").write_text(yaml.safe_dump({"models": {"mine": model}}))
    _write(recipe.parent, base="mine")
    assert run("train", str(recipe)) == 2
    assert told in capsys.readouterr().err


def test_an_unknown_base_is_one_line(recipe: Path, run: Run, capsys: Out) -> None:
    (recipe.parent / "forgetbench.yaml").write_text(yaml.safe_dump({"models": {"mine": {"path": "base"}}}))
    _write(recipe.parent, base="nothing")
    assert run("train", str(recipe)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'nothing' is neither a folder nor an alias" in line
    assert "(mine)" in line
    (recipe.parent / "base" / "model.safetensors").unlink()
    _write(recipe.parent)
    assert run("train", str(recipe)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"forgetbench: {recipe.parent / 'base'}")


U, A = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}
BAD: dict[str, tuple[Any, str]] = {
    "no assistant turn": ({"messages": [U]}, "has no assistant turn"),
    "too long": ({"messages": [U, {**A, "content": "x" * 99}]}, "tokens, the limit is 64"),
    "empty answer": ({"messages": [U, {**A, "content": " "}]}, "turn 2 is an empty answer"),
    "empty pair": ({"prompt": "Hi?", "answer": ""}, "is an empty answer"),
    "unknown role": ({"messages": [{"role": "robot", "content": "x"}, A]}, "the unknown role 'robot'"),
    "no task_type": ({"messages": [U, A]}, "has no task_type"),
    "no JSON": ("{", "not JSON"),
}


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_bad_samples_are_named_with_file_and_line_before_the_first_step(
    recipe: Path, run: Run, capsys: Out, name: str, check: bool
) -> None:
    row, told = BAD[name]
    data = recipe.parent / "data.jsonl"
    data.write_text(data.read_text() + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    _write(recipe.parent, require_task_type=name == "no task_type")
    assert run("train", str(recipe), *(["--check"] if check else [])) == 2
    out, err = capsys.readouterr()
    (line,) = [x for x in (out + err).splitlines() if told in x]
    assert f"{data}:9: " in line
    assert "Traceback" not in out + err
    assert not (recipe.with_suffix("") / "metrics.jsonl").exists()


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for %}", "base: chat template, line 1: "),
        (
            "{{ raise_exception('no ' + messages[0]['role']) }}",
            "data.jsonl:1: the chat template fails on roles ['user', 'assistant']: ",
        ),
        (
            "{% generation %}{% endgeneration %}{{ messages[0]['content'] }}",
            "data.jsonl:1: the template's generation block marks nothing",
        ),
        (None, "data.jsonl:1: is a chat, and the tokenizer has no chat template"),
    ],
)
def test_broken_templates_are_named_with_file_and_line(
    recipe: Path, run: Run, capsys: Out, template: str | None, told: str, check: bool
) -> None:
    (recipe.parent / "base" / "chat_template.jinja").unlink(missing_ok=True)
    tiny.tokenizer(template).save_pretrained(recipe.parent / "base")
    assert run("train", str(recipe), *(["--check"] if check else [])) == 2
    out, err = capsys.readouterr()
    assert told in out + err
    assert "Traceback" not in out + err


def test_check_leaves_with_0_or_2_and_trains_nothing(recipe: Path, run: Run, capsys: Out) -> None:
    assert run("train", str(recipe), "--check", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["exit_code"], len(told["samples"])) == ("warn", 0, 3)
    assert not recipe.with_suffix("").exists()
    tiny.write_jsonl(recipe.parent / "data.jsonl", chats() * 2)
    assert run("train", str(recipe), "--check", "--json") == 2
    told = json.loads(capsys.readouterr().out)
    (bad,) = [f for f in told["findings"] if f["state"] == "fail"]
    assert bad["name"] == "duplicates"


def test_a_mistake_in_the_recipe_is_named_with_its_line(recipe: Path, run: Run, capsys: Out) -> None:
    recipe.write_text(recipe.read_text() + "learning_rate: 1\n")
    assert run("train", str(recipe)) == 2
    assert f"{recipe}:" in capsys.readouterr().err
    assert run("train", str(recipe.parent / "none.yaml")) == 2


@pytest.mark.parametrize("code", [Exit.REGRESSION, Exit.INCONCLUSIVE])
def test_no_acceptable_checkpoint_is_said_and_decides_the_exit_code(
    recipe: Path, run: Run, capsys: Out, monkeypatch: pytest.MonkeyPatch, code: Exit
) -> None:
    trained = Trained(None, None, 40, "no acceptable checkpoint (stopped at step 40: the retention set failed)", code)
    monkeypatch.setattr("forgetbench.training.fit.train", lambda *_, **__: trained)
    assert run("train", str(recipe)) == code
    out = capsys.readouterr().out
    assert "no acceptable checkpoint" in out
    assert "forgetbench compare" not in out
    assert run("train", str(recipe), "--json") == code
    assert json.loads(capsys.readouterr().out)["final"] is None


def test_ctrl_c_says_how_to_go_on(recipe: Path, run: Run, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Trained:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("forgetbench.training.fit.train", interrupted)
        assert run("train", str(recipe)) == 130
        assert "begins again" in capsys.readouterr().err
    _write(recipe.parent, save_every=1)
    assert run("train", str(recipe), "--out", "out") == 0
    monkeypatch.setattr("forgetbench.training.fit.train", interrupted)
    assert run("train", str(recipe), "--out", "out") == 130
    assert "the same command goes on from out/checkpoint-3" in capsys.readouterr().err


def test_out_must_be_a_folder(recipe: Path, run: Run, capsys: Out) -> None:
    assert run("train", str(recipe), "--out", str(recipe.parent / "data.jsonl")) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_log_gets_the_first_step_one_now_and_then_and_all_else() -> None:
    now = [0.0]
    told: list[str] = []
    lines = Lines(told.append, lambda: now[0])
    for step in range(1, 41):
        lines(f"step {step}: loss 1.000")
        now[0] += 1
        if step == 20:
            lines("step 20: held-out 1.000")
    lines.close()
    lines.close()
    shown = [t.split(":")[0] for t in told]
    assert shown == ["step 1", "step 16", "step 20", "step 20", "step 31", "step 40"]
    assert is_step("step 3: loss 1.0")
    assert not is_step("step 3: retention PASS")
    assert not is_step("goes on")


def test_a_terminal_shows_the_last_step_in_its_place(capsys: Out) -> None:
    from forgetbench.cli import train_live

    with train_live._live() as tell:
        tell("step 1: loss 2.000 [not markup]")
        tell("checkpoint-1 is not used")
        tell("step 2: loss 1.000 (a/b 1.000), 500 tokens/s, 3 s left")
    err = capsys.readouterr().err
    assert "checkpoint-1 is not used" in err
    assert "step 2: loss 1.000 (a/b 1.000), 500 tokens/s, 3 s left" in err


def test_find_base_reads_folders_from_the_recipe(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from forgetbench.training.recipe import load_recipe

    other = tmp_path_factory.mktemp("elsewhere")
    found = command.find_base(load_recipe(_write(recipe.parent, base="./base")), recipe.parent, None)
    assert (found.name, found.folder, found.alias) == (str(recipe.parent / "base"), recipe.parent / "base", None)
    with pytest.raises(Exception, match="neither a folder nor an alias"):
        command.find_base(load_recipe(_write(recipe.parent)), other, None)
