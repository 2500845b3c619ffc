"""One update against loops, packed against unpacked, small batches against large; and runs that are killed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from forgetbench.errors import ForgetbenchError, UsageError
from forgetbench.training import fit, manifest
from forgetbench.training.fit import build, run
from forgetbench.training.recipe import Recipe
from forgetbench.training.trainer import FineTune
from tests.training import graded, tiny

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _recipe(**settings: Any) -> Recipe:
    base = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-2, "max_length": 64, "save_every": 3}
    return Recipe.model_validate({**base, **({} if "epochs" in settings else {"steps": 8}), **settings})


def _trainer(folder: Path, model: Any = None, **settings: Any) -> FineTune:
    return build(_recipe(**settings), folder, folder / "out", model or tiny.model(), tiny.tokenizer())


def _update(trainer: FineTune, step: int = 0) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one update, as the parent's loop makes them."""
    n = trainer.args.gradient_accumulation_steps
    batches = [trainer.data_collator([b]) for b in trainer.corpus.batches[step * n : (step + 1) * n]]
    total = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    trainer.model.train()
    trainer.model.zero_grad()
    loss = 0.0
    for batch in batches:
        part = trainer.compute_loss(trainer.model, batch, num_items_in_batch=total)
        part.backward()
        loss += float(part.detach())
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss, grads


def _same(a: tuple[float, dict[str, torch.Tensor]], b: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert a[0] == pytest.approx(b[0], rel=1e-6)
    assert a[1].keys() == b[1].keys()
    # By the length of the difference: single entries near 0 differ by rounding of the larger ones they are sums of.
    apart = torch.stack([(gradient - b[1][name]).norm() for name, gradient in a[1].items()]).norm()
    whole = torch.stack([gradient.norm() for gradient in a[1].values()]).norm()
    assert float(apart / whole) < 1e-6


def _by_hand(trainer: FineTune, model: Any) -> float:
    """The loss of the first update, sample by sample, from plain forward passes."""
    n = trainer.args.gradient_accumulation_steps
    top = bottom = 0.0
    for batch in trainer.corpus.batches[:n]:
        for d in (d for row in batch.rows for d in row):
            document = trainer.corpus.documents[d]
            with torch.no_grad():
                logprobs = model.eval()(input_ids=torch.from_numpy(document.ids)[None]).logits[0].log_softmax(-1)
            for i in range(1, len(document.ids)):
                top -= float(document.weights[i]) * float(logprobs[i - 1, document.ids[i]])
                bottom += float(document.weights[i])
    return top / bottom


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("reduction", ["per_token", "per_sample"])
def test_the_loss_is_that_of_solo_runs(tmp_path: Path, reduction: str, packing: bool) -> None:
    tiny.world(tmp_path)
    loss = {"reduction": reduction, "task_weights": {"x/odd": 3}, "token_weights": {"<|end|>": 0.5}}
    trainer = _trainer(tmp_path, loss=loss, packing=packing, accumulation=2, batch={"samples": 5})
    assert _update(trainer)[0] == pytest.approx(_by_hand(trainer, tiny.model()), rel=1e-6)


def test_per_sample_is_the_mean_of_each_samples_own_loss(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    means = []
    whole = _trainer(tmp_path, loss={"reduction": "per_sample"}, batch={"samples": 6})
    for d in (d for row in whole.corpus.batches[0].rows for d in row):
        document = whole.corpus.documents[d]
        with torch.no_grad():
            logits = tiny.model().eval()(input_ids=torch.from_numpy(document.ids)[None]).logits[0]
        learnt = [i for i in range(1, len(document.ids)) if document.weights[i] > 0]
        means.append(-sum(float(logits.log_softmax(-1)[i - 1, document.ids[i]]) for i in learnt) / len(learnt))
    assert _update(whole)[0] == pytest.approx(sum(means) / len(means), rel=1e-6)


@pytest.mark.parametrize("kl", [None, {"direction": "forward"}, {"direction": "reverse", "tokens": "all"}])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Gemma3"])
def test_packed_equals_unpacked_and_accumulation_equals_one_large_batch(tmp_path: Path, kind: str, kl: Any) -> None:
    tiny.world(tmp_path)
    settings = {"kl": kl, "loss": {"reduction": "per_sample"}}
    moved = tiny.model(kind, seed=1)  # away from the reference, so that KL has something to say

    def update(**more: Any) -> tuple[float, dict[str, torch.Tensor]]:
        trainer = _trainer(tmp_path, tiny.model(kind), **settings, **more)
        trainer.model.load_state_dict(moved.state_dict())
        return _update(trainer)

    whole = update(batch={"samples": 12}, packing=True)
    _same(whole, update(batch={"samples": 12}, packing=False))
    _same(whole, update(batch={"samples": 4}, accumulation=3, packing=True))


def test_kl_is_added_with_its_weight_and_is_zero_at_the_base(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    plain = _update(_trainer(tmp_path))[0]
    assert _update(_trainer(tmp_path, kl={"weight": 9}))[0] == pytest.approx(plain, rel=1e-6)
    found = []
    for weight in (0.5, 2.5):
        trainer = _trainer(tmp_path, kl={"weight": weight})
        trainer.model.load_state_dict(tiny.model(seed=1).state_dict())
        found.append(_update(trainer)[0])
        kl = trainer._kl_sum
    assert kl > 0.01
    assert found[1] - found[0] == pytest.approx(2 * kl, rel=1e-4)


def test_neftune_noise_goes_by_the_document_and_by_the_step(tmp_path: Path) -> None:
    from forgetbench.training.noise import scales

    documents = torch.tensor([[0, 0, 0, 0, 1], [2, 2, -1, -1, -1]])
    expected = [[5 / (4 * 16) ** 0.5] * 4 + [5 / 16**0.5], [5 / (2 * 16) ** 0.5] * 2 + [0.0] * 3]
    torch.testing.assert_close(scales(documents, 16, 5.0), torch.tensor(expected))
    tiny.world(tmp_path)
    first, again, quiet = (_update(_trainer(tmp_path, neftune_alpha=a))[0] for a in (5, 5, 0))
    assert first == again
    assert abs(first - quiet) > 1e-4


def test_metrics_have_a_line_for_each_step_and_the_loss_of_each_task_type(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    run(_recipe(held_out=[{"path": "held.jsonl"}], eval_every=4), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / manifest.METRICS).read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == list(range(1, 9))
    assert [line["step"] for line in lines if line["kind"] == "held_out"] == [4, 8]
    assert set(train[0]["channels"]) == {"x/even", "x/odd"}
    assert train[0]["loss"] == pytest.approx(train[0]["per_token"], rel=1e-5)
    assert train[-1]["loss"] < train[0]["loss"] - 0.5
    cosine = [0.0, *(0.1 + 0.9 * (1 + math.cos(math.pi * done / 7)) / 2 for done in range(7))]  # one step of warm-up
    assert [line["learning_rate"] for line in train] == pytest.approx([1e-2 * c for c in cosine])
    about = json.loads((tmp_path / "out" / manifest.TRAINING).read_text())
    assert about["tokens"] == sum(line["tokens"] for line in train)
    assert sum(row["share"] for row in about["task_types"].values()) == pytest.approx(1)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, method: str) -> None:
    tiny.world(tmp_path)
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    found = []
    for on in (False, True):
        recipe = _recipe(
            method=method, steps=3, gradient_checkpointing=on, kl={"direction": "reverse"}, neftune_alpha=5
        )
        folder = run(recipe, tmp_path, str(tmp_path / "base"), tmp_path / f"out-{on}")
        found.append(load_file(folder / name))
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_bfloat16_computes_in_it_and_keeps_float32_weights(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = _recipe(steps=2, precision=precision, kl={"direction": "forward"})
        folder = run(recipe, tmp_path, str(tmp_path / "base"), tmp_path / precision)
        assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {torch.float32}
        losses.append(json.loads((tmp_path / precision / manifest.METRICS).read_text().splitlines()[0])["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_batch_with_nothing_left_to_learn_moves_nothing(tmp_path: Path, method: str) -> None:
    tiny.world(tmp_path)
    trainer = _trainer(tmp_path, method=method, loss={"task_weights": {"x": 0, "x/odd": 1}}, batch={"samples": 1})
    empty = [
        i for i, b in enumerate(trainer.corpus.batches) if not trainer.corpus.documents[b.rows[0][0]].weights.any()
    ]
    loss, grads = _update(trainer, empty[0])
    assert loss == 0
    assert grads
    assert all(not g.any() for g in grads.values())


@pytest.mark.parity
@pytest.mark.parametrize(("packing", "accumulation"), [(False, 1), (True, 1), (False, 4)])
def test_loss_and_gradient_are_those_of_trl(tmp_path: Path, packing: bool, accumulation: int) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import TrainerCallback

    tiny.world(tmp_path)
    size = 24 // accumulation
    ours = _trainer(tmp_path, packing=packing, accumulation=accumulation, batch={"samples": size}, max_length=512)
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    order = [d for b in ours.corpus.batches[:accumulation] for row in b.rows for d in row]
    chats = [
        [{"role": "user", "content": rows[d]["prompt"]}, {"role": "assistant", "content": rows[d]["answer"]}]
        for d in order
    ]
    theirs: dict[str, torch.Tensor] = {}

    class Look(TrainerCallback):  # type: ignore[misc]
        def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
            theirs.update({n: p.grad.clone() for n, p in model.named_parameters()})

    config = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=1 if packing else size, packing=packing,
        gradient_accumulation_steps=accumulation, max_steps=1, max_length=512, assistant_only_loss=True, bf16=False,
        gradient_checkpointing=False, use_cpu=True, report_to="none", logging_steps=1, save_strategy="no",
        max_grad_norm=0, disable_tqdm=True, train_sampling_strategy="sequential",
    )  # fmt: skip
    data = Dataset.from_list([{"messages": chat} for chat in chats])
    trainer = trl.SFTTrainer(
        tiny.model(), args=config, train_dataset=data, processing_class=tiny.tokenizer(), callbacks=[Look()]
    )
    trainer.train()
    _same(_update(ours), (trainer.state.log_history[0]["loss"], theirs))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_tokens_that_surprise_the_base_are_not_learnt_whatever_is_trained(tmp_path: Path, method: str) -> None:
    """The base's own likelihoods, by plain forward passes; replay keeps all of its tokens."""
    tiny.world(tmp_path)
    settings = {"method": method, "replay": {"share": 0.3, "files": [{"path": "replay.txt"}]}, "lora": {"r": 2}}
    settings = {k: v for k, v in settings.items() if k != "lora" or method == "lora"}
    plain, masked = _trainer(tmp_path, **settings), _trainer(tmp_path, stm_threshold=150.0, **settings)
    base, dropped = tiny.model().eval(), 0
    for number, (a, b) in enumerate(zip(plain.corpus.documents, masked.corpus.documents, strict=True)):
        with torch.no_grad():
            logprobs = base(input_ids=torch.from_numpy(a.ids)[None]).logits[0].log_softmax(-1)
        for i in range(1, len(a.ids)):
            surprises = number < 24 and -float(logprobs[i - 1, a.ids[i]]) > math.log(150)
            assert b.weights[i] == (0 if surprises else a.weights[i])
            dropped += bool(surprises and a.weights[i] > 0)
    assert 0 < dropped < sum(int((d.weights > 0).sum()) for d in plain.corpus.documents[:24])


PROCESS = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from forgetbench.training.fit import run
from forgetbench.training.recipe import Recipe
from tests.training import graded
graded.scripted({4: "INCONCLUSIVE", 8: "PASS"})
folder = Path(sys.argv[1])
run(Recipe.model_validate_json(sys.argv[2]), folder, str(folder / "base"), folder / "two")
"""


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.world(tmp_path)
    settings: dict[str, Any] = {
        "batch": {"samples": 3}, "loss": {"reduction": "per_sample"}, "kl": {"tokens": "all"},
        "held_out": [{"path": "held.jsonl"}], "eval_every": 4, "stop": {"held_out": {"patience": 5}},
        "ewc": {"files": [{"path": "replay.txt"}], "weight": 1e3}, "retention": {"suite": "s.yaml", "every": 4},
    }  # fmt: skip
    monkeypatch.setattr(fit, "judge_of", fit.judge_of)
    graded.scripted({4: "INCONCLUSIVE", 8: "PASS"})
    one = run(_recipe(accumulation=4, **settings), tmp_path, str(tmp_path / "base"), tmp_path / "one")
    (tmp_path / "process.py").write_text(PROCESS)
    recipe = _recipe(accumulation=2, **settings).model_dump_json(exclude_unset=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "process.py"), str(tmp_path), recipe],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ours = load_file(tmp_path / "two" / "final" / "model.safetensors")
    for name, weight in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)
    curves = [
        [json.loads(line) for line in (tmp_path / run_ / manifest.METRICS).read_text().splitlines()]
        for run_ in ("one", "two")
    ]
    for a, b in zip(*curves, strict=True):
        assert (a["kind"], a["step"], a.get("tokens")) == (b["kind"], b["step"], b.get("tokens"))
        if a["kind"] == "retention":
            assert a == b
            continue
        assert (a.get("ewc") or 0.0) == pytest.approx(b.get("ewc") or 0.0, rel=1e-3)
        assert a["channels"] == pytest.approx(b["channels"], rel=1e-5)
        assert a["per_sample"] == pytest.approx(b["per_sample"], rel=1e-5)


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    """The line of docs/train.md: one command, told once, and the weights of one process."""
    tiny.world(tmp_path)
    one = run(_recipe(accumulation=2, kl={}), tmp_path, str(tmp_path / "base"), tmp_path / "one")
    recipe = {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-2, "max_length": 64, "save_every": 3}
    (tmp_path / "recipe.yaml").write_text(json.dumps({**recipe, "steps": 8, "kl": {}}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "forgetbench", "train", "recipe.yaml", "--out", "two"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (done.stdout + done.stderr).count("step 8: loss") == 1
    ours = load_file(tmp_path / "two" / "final" / "model.safetensors")
    for name, weight in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)


def test_one_step_is_a_step(tmp_path: Path) -> None:
    """With a warm-up of it alone the rate would be 0."""
    tiny.world(tmp_path)
    final = run(_recipe(steps=1), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    before = load_file(tmp_path / "base" / "model.safetensors")
    assert any(not torch.equal(before[n], w) for n, w in load_file(final / "model.safetensors").items() if n in before)


def test_a_process_that_sees_two_devices_trains_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the parent hands two laid-out batches to one step (DataParallel)."""

    def device(self: TrainingArguments) -> torch.device:
        self._n_gpu = 2
        return torch.device("cuda", 0)

    monkeypatch.setattr(TrainingArguments, "device", property(device))
    made = fit.arguments(_recipe(), tmp_path, 8)
    assert (made._n_gpu, made.train_batch_size) == (1, 1)


def test_held_out_data_that_weigh_nothing_stop_no_run(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    settings: dict[str, Any] = {
        "held_out": [{"path": "held.jsonl"}], "eval_every": 4, "stop": {"held_out": {"patience": 5}},
        "loss": {"task_weights": {"x/odd": 0.0}},
    }  # fmt: skip
    tiny.write_jsonl(tmp_path / "held.jsonl", [{"prompt": "q", "answer": "a", "task_type": "x/odd"}] * 3)
    with pytest.raises(UsageError, match=r"stop\.held_out: no token"):
        _trainer(tmp_path, **settings)


def test_bad_samples_are_found_before_the_first_step(tmp_path: Path) -> None:
    tiny.world(tmp_path)
    tiny.write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "x", "answer": ""}, {"messages": []}])
    with pytest.raises(ForgetbenchError, match=r"bad\.jsonl:1: .*\n.*bad\.jsonl:2: "):
        run(_recipe(data=[{"path": "bad.jsonl"}]), tmp_path, str(tmp_path / "base"), tmp_path / "out")
    assert not (tmp_path / "out" / manifest.METRICS).exists()
    with pytest.raises(UsageError, match=r"lora.targets: .*; name modules"):
        _trainer(tmp_path, method="lora", lora={"targets": ["nonsense"]})
