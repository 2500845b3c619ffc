"""recipe.yaml: what it may say, and each mistake with file, line, key and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgetbench.errors import ForgetbenchError
from forgetbench.training.recipe import Recipe, load_recipe

pytestmark = pytest.mark.unit
GOOD = "base: b\ndata: [{path: d.jsonl}]\nlr: 2e-5\nepochs: 2\n"


def _load(folder: Path, text: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return load_recipe(file)


def test_defaults(tmp_path: Path) -> None:
    recipe = _load(tmp_path, GOOD)
    assert (recipe.lr, recipe.method, recipe.scheduler, recipe.floor) == (2e-5, "full", "cosine", 0.1)
    assert 0.03 <= recipe.warmup <= 0.05
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.targets) == (64, 128, "all-linear")
    assert (recipe.batch.size, recipe.batch.unit) == (8, "samples")
    assert recipe.loss.reduction == "per_token"


def test_everything_can_be_said(tmp_path: Path) -> None:
    recipe = _load(
        tmp_path,
        """base: b
data: [{path: d.jsonl, weight: 2, task_type: a/b, style: raw}]
method: lora
lora: {r: 8, alpha: 16, targets: [q_proj]}
lr: 1e-4
steps: 100
batch: {tokens: 4096}
loss: {reduction: per_sample, turns: last, task_weights: {a: 2, a/b: 3}, token_weights: {"<|end|>": 0.5}}
replay: {share: 0.1, from_base: {n: 10, prompts: [{path: p.jsonl}]}}
kl: {direction: reverse, weight: 0.5, tokens: all}
self_distillation: {check: numeric}
repeat_first: 0.1
tensorboard: true
stop: {held_out: {patience: 2}, explosion: null}
neftune_alpha: 5
stm_threshold: 2.5
eval_every: 10
held_out: [{path: h.jsonl}]
retention: {suite: standard, every: 50, on_fail: go_on}
""",
    )
    assert [recipe.loss.task_weight(t) for t in ("a/b", "a/c", "x", None)] == [3, 2, 1, 1]
    assert (recipe.batch.size, recipe.batch.unit) == (4096, "tokens")
    assert recipe.warmup_steps(100) == 4
    assert recipe.retention is not None
    assert recipe.retention.policy == "default"
    assert [f.path for f in recipe.files()] == ["d.jsonl", "h.jsonl", "p.jsonl"]
    ewc = _load(tmp_path, GOOD + "ewc: {files: [{path: e.jsonl}]}\n")
    assert [f.path for f in ewc.files()] == ["d.jsonl", "e.jsonl"]


def test_warm_up_is_the_share_in_whole_steps() -> None:
    for percent in range(100):
        given = {"base": "b", "data": [{"path": "d"}], "lr": 1, "steps": 1, "warmup": percent / 100}
        recipe = Recipe.model_validate(given)
        for steps in (1, 25, 50, 100, 400, 12345):
            assert recipe.warmup_steps(steps) == -(-percent * steps // 100), (percent, steps)


def test_a_weight_of_one_may_be_written_where_no_other_may(tmp_path: Path) -> None:
    recipe = _load(tmp_path, GOOD + "held_out: [{path: h.jsonl, weight: 1}]\n")
    assert recipe.held_out[0].weight == 1


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ("warm: 1\n", 5, "`warm` is not a known key; did you mean 'warmup'?"),
        ("replay: {share: 1.0, files: [{path: r}]}\n", 5, "`replay.share`"),
        ("replay: {share: 0.1, files: []}\n", 5, "`replay.files`"),
        ("data: [{path: d, wieght: 2}]\n", 2, "did you mean 'weight'?"),
        ("lr: yes\n", 3, "write a number"),
        ("lr: 0\n", 3, "`lr` is 0"),
        ("lr: .inf\n", 3, "`lr`"),
        ("steps: 5\n", 1, "give either `steps` or `epochs`"),
        ("lora: {r: 8}\n", 1, "write `method: lora`"),
        ("batch: {tokens: 5, samples: 2}\n", 5, "give either `tokens` or `samples`"),
        ("eval_every: 5\n", 1, "needs `held_out`"),
        ("stm_threshold: 1\n", 5, "`stm_threshold` is 1"),
        ("kl: {direction: sideways}\n", 5, "`kl.direction` is 'sideways'"),
        ("loss: {task_weights: {a/b/c: 1}}\n", 5, "one or two levels"),
        ("replay: {share: 0.1}\n", 5, "give either `files` or `from_base`"),
        ("stop: {held_out: {patience: 2}}\n", 1, "needs `held_out` files and `eval_every`"),
        ("stop: {explosion: 1}\n", 5, "`stop.explosion` is 1"),
        ("retention: {suite: s, every: 5, on_fail: wait}\n", 5, "`retention.on_fail` is 'wait'"),
        ("packing: 1\n", 5, "`packing` is 1"),
        ("held_out: [{path: h}, {path: i, weight: 2}]\n", 5, "`held_out.1.weight` is 2; leave it out"),
        ("ewc: {files: [{path: e, weight: 0.5}]}\n", 5, "`ewc.files.0.weight` is 0.5; leave it out"),
        ("ewc: {files: []}\n", 5, "name at least one file"),
        (
            "replay: {share: .1, from_base: {prompts: [{path: p, style: raw}]}}\n",
            5,
            "prompts.0.style` is 'raw'; leave it",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, change: str, line: int, message: str) -> None:
    key = change.split(":")[0]
    kept = [row for row in GOOD.splitlines(keepends=True) if not row.startswith(f"{key}:")]
    text = GOOD
    if len(kept) < 4:
        text = "".join(change if row.startswith(f"{key}:") else row for row in GOOD.splitlines(keepends=True))
    else:
        text += change
    with pytest.raises(ForgetbenchError) as caught:
        _load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}:{line}: ")
    assert message in str(caught.value)
