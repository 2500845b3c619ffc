"""Runs that are killed, disks that are full, files that are damaged: what is resumed is what was written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.runs.files import DiskFullError
from forgetbench.training import curves, manifest
from forgetbench.training.fit import run
from forgetbench.training.recipe import Recipe
from forgetbench.training.trainer import NotWritten
from tests.training import tiny

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _recipe(**settings: Any) -> Recipe:
    base = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-2, "max_length": 64, "save_every": 3}
    return Recipe.model_validate({**base, **({} if "epochs" in settings else {"steps": 8}), **settings})


CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from forgetbench.training import fit, trainer
from forgetbench.training.recipe import Recipe
folder, recipe, where = Path(sys.argv[1]), Recipe.model_validate_json(sys.argv[2]), sys.argv[3]
if where == "step":
    told = trainer.FineTune._tell
    def tell(self, *rest):
        told(self, *rest)
        if self.state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    trainer.FineTune._tell = tell
else:
    save = torch.save
    def half(value, file, *rest, **named):
        if "checkpoint-6" in str(file) and "optimizer" in str(file):
            Path(file).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return save(value, file, *rest, **named)
    torch.save = half
fit.run(recipe, folder, str(folder / "base"), folder / "out")
"""


def _killed(folder: Path, recipe: Recipe, where: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), recipe.model_dump_json(exclude_unset=True), where],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_killed_run_resumes_to_the_very_weights_of_an_undisturbed_one(tmp_path: Path, method: str) -> None:
    tiny.world(tmp_path, attention_dropout=0.1)
    settings = {"method": method, "kl": {"direction": "forward"}, "neftune_alpha": 5.0, "accumulation": 2}
    if method == "lora":
        settings["lora"] = {"r": 2, "dropout": 0.1}
    recipe = _recipe(**settings)
    base, out = str(tmp_path / "base"), tmp_path / "out"
    undisturbed = run(recipe, tmp_path, base, tmp_path / "whole")
    _killed(tmp_path, recipe, "step")  # after step 5, checkpoint 3
    assert [f.name for f in manifest.checkpoints(out)] == ["checkpoint-3"]
    told: list[str] = []
    if method == "full":
        _killed(tmp_path, recipe, "save")  # while checkpoint 6 is written
        assert manifest.newest_complete(out)[0] == out / "checkpoint-3"
    resumed = run(recipe, tmp_path, base, out, told.append)
    if method == "full":
        assert told.pop(0).startswith("checkpoint-6 is not used: it has no complete.json")
    assert told[0] == "goes on from checkpoint-3"
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    ours, theirs = load_file(resumed / name), load_file(undisturbed / name)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)

    def curve(folder: Path) -> list[tuple[int, float]]:
        lines = [json.loads(line) for line in (folder / manifest.METRICS).read_text().splitlines()]
        return [(line["step"], line["loss"]) for line in lines]

    assert curve(out) == curve(tmp_path / "whole")


def test_damaged_checkpoints_are_named_and_never_loaded(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    out = tmp_path / "out"
    final = run(_recipe(keep=9), tmp_path, str(tmp_path / "base"), out)
    assert manifest.damage(final) is None
    assert manifest.newest_complete(out) == (out / "checkpoint-8", [])
    file = out / "checkpoint-8" / "optimizer.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert "bytes, not" in str(manifest.damage(out / "checkpoint-8"))
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert manifest.damage(out / "checkpoint-8") == "optimizer.pt is not what was written"
    (out / "checkpoint-6" / "model.safetensors").unlink()
    found, notes = manifest.newest_complete(out)
    assert found == out / "checkpoint-3"
    assert [n.split(":")[0] for n in notes] == ["checkpoint-8 is not used", "checkpoint-6 is not used"]


def test_a_checkpoint_without_its_state_is_whole_and_not_gone_on_from(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    out = tmp_path / "out"
    run(_recipe(keep=9), tmp_path, str(tmp_path / "base"), out)
    place = out / "checkpoint-8"
    weights = load_file(place / "model.safetensors")
    state = [place / "optimizer.pt", place / "scheduler.pt", *place.glob("rng_state*")]
    size = sum(f.stat().st_size for f in state)
    assert manifest.drop_state(place) == size > 2 * (place / "model.safetensors").stat().st_size
    assert manifest.drop_state(place) == 0
    assert not any(f.exists() for f in state)
    assert manifest.damage(place) is None
    assert all(torch.equal(load_file(place / "model.safetensors")[k], v) for k, v in weights.items())
    found, notes = manifest.newest_complete(out)
    assert found == out / "checkpoint-6"
    assert notes == ["checkpoint-8 is not used: its optimizer was removed to save room"]
    # A kill between the list and the files: the next call removes them.
    state[0].write_bytes(b"left")
    assert manifest.damage(place) is None
    assert manifest.drop_state(place) == 4
    (out / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    assert manifest.drop_state(out / "checkpoint-6") == 0
    assert (out / "checkpoint-6" / "optimizer.pt").exists()


def test_a_folder_in_which_nothing_was_made_takes_mended_data(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    rows = [{"prompt": "q", "answer": "a", "task_type": "x/y"}] * 6
    tiny.write_jsonl(tmp_path / "data.jsonl", [*rows, {"prompt": "no answer"}])
    base, out = str(tmp_path / "base"), tmp_path / "out"
    with pytest.raises(ForgetbenchError, match=r"data\.jsonl:7"):
        run(_recipe(), tmp_path, base, out)
    tiny.write_jsonl(tmp_path / "data.jsonl", rows)
    assert manifest.damage(run(_recipe(), tmp_path, base, out)) is None
    tiny.write_jsonl(tmp_path / "data.jsonl", rows[:5])
    with pytest.raises(UsageError, match="differs in data"):
        run(_recipe(), tmp_path, base, out)


def test_another_base_in_the_same_folder_is_another_run(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    base, out = str(tmp_path / "base"), tmp_path / "out"
    run(_recipe(), tmp_path, base, out)
    tiny.model(seed=1).save_pretrained(base)
    with pytest.raises(UsageError, match="differs in weights"):
        run(_recipe(), tmp_path, base, out)


def test_damaged_later_checkpoints_do_not_push_out_good_ones(tmp_path: Path) -> None:
    """Resumed from 3, since 6 and 8 are damaged; of what comes then and was there the newest whole ones are kept."""
    tiny.world(tmp_path)
    base, out = str(tmp_path / "base"), tmp_path / "out"
    run(_recipe(keep=9), tmp_path, base, out)
    for step in (6, 8):
        file = out / f"checkpoint-{step}" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    shutil.rmtree(out / "final")
    (out / "result.json").unlink()
    assert manifest.newest_complete(out)[0] == out / "checkpoint-3"
    manifest.set_aside(out, 3)
    assert [f.name for f in manifest.checkpoints(out)] == ["checkpoint-3"]
    assert sorted(f.name for f in out.glob("unused-*")) == ["unused-checkpoint-6", "unused-checkpoint-8"]
    told: list[str] = []
    run(_recipe(keep=9), tmp_path, base, out, told.append)
    assert "goes on from checkpoint-3" in told
    assert [f.name for f in manifest.checkpoints(out)] == ["checkpoint-3", "checkpoint-6", "checkpoint-8"]


def test_a_full_disk_under_the_curves_is_one_line() -> None:
    with pytest.raises(DiskFullError):
        curves.append(Path("/dev/full"), {"kind": "train", "step": 1, "text": "x" * 100_000})


def test_what_is_no_causal_model_is_one_line(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "model_type": "t5", "architectures": ["T5"]}))
    with pytest.raises(UsageError) as caught:
        run(_recipe(), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_kill_after_the_last_step_only_writes_the_result_again(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    base, out = str(tmp_path / "base"), tmp_path / "out"
    weights = load_file(run(_recipe(), tmp_path, base, out) / "model.safetensors")
    (out / "final" / manifest.COMPLETE).unlink()
    lines = (out / manifest.METRICS).read_text()
    told: list[str] = []
    again = load_file(run(_recipe(), tmp_path, base, out, told.append) / "model.safetensors")
    assert told == ["goes on from checkpoint-8"]
    assert (out / manifest.METRICS).read_text() == lines
    assert all(torch.equal(again[k], weights[k]) for k in weights)


def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.world(tmp_path)
    save = torch.save

    def full(value: Any, file: Any, *rest: Any, **named: Any) -> Any:
        if "checkpoint-6" in str(file):
            raise OSError(28, "No space left on device")
        return save(value, file, *rest, **named)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(NotWritten, match=r"checkpoint-6: could not be written.*; free space") as caught:
        run(_recipe(), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert manifest.newest_complete(tmp_path / "out")[0] == tmp_path / "out" / "checkpoint-3"
    run(_recipe(), tmp_path, str(tmp_path / "base"), tmp_path / "out")


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    base, out = str(tmp_path / "base"), tmp_path / "out"
    final = run(_recipe(), tmp_path, base, out)
    before = (final / "model.safetensors").stat().st_mtime_ns
    assert run(_recipe(), tmp_path, base, out) == final
    assert (final / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="differs in recipe"):
        run(_recipe(lr=1e-3), tmp_path, base, out)
    with (tmp_path / "data.jsonl").open("a") as handle:
        handle.write("\n")
    with pytest.raises(UsageError, match="differs in data"):
        run(_recipe(), tmp_path, base, out)


def test_a_finished_run_in_a_read_only_folder_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.world(tmp_path)
    base, out = str(tmp_path / "base"), tmp_path / "out"
    final = run(_recipe(steps=2), tmp_path, base, out)
    really, allowed = os.open, os.access

    def refused(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and out in Path(os.fsdecode(path)).parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return really(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out and allowed(path, mode))
    assert run(_recipe(steps=2), tmp_path, base, out) == final


HOLDER = """
import sys, time
from pathlib import Path
from forgetbench.runs.lock import locked
with locked(Path(sys.argv[1]) / ".lock"):
    print("held", flush=True)
    sys.stdin.readline()
    time.sleep(1)
"""


def test_one_process_at_a_time_trains_into_a_folder(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        told: list[str] = []

        def say(line: str) -> None:
            if "is in use by" in line:
                assert not (out / manifest.RUN).exists()
                other.stdin.write("go\n")  # type: ignore[union-attr]
                other.stdin.flush()  # type: ignore[union-attr]
            told.append(line)

        run(_recipe(steps=2), tmp_path, str(tmp_path / "base"), out, say)
    assert told[0].startswith(f"{out} is in use by process {other.pid} on ")


def test_a_folder_with_nothing_but_a_lock_is_claimed_anew(tmp_path: Path) -> None:
    manifest.claim(tmp_path, {"data": 1})
    (tmp_path / manifest.LOCK).touch()
    manifest.claim(tmp_path, {"data": 2})
    assert json.loads((tmp_path / manifest.RUN).read_text()) == {"data": 2}
