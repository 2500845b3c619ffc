"""What a plan would cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forgetbench.checkpoints import Checkpoint, ModelSpec, resolve
from forgetbench.planning import TaskJob, build_plan, estimate
from forgetbench.types import Decode, Plan, Prompt, PromptSpec, Read, Request
from tests.engines import tiny
from tests.planning.conftest import FakeTask

pytestmark = pytest.mark.unit


def job(task: FakeTask, **changes: object) -> TaskJob:
    return TaskJob(task, task.load(), "ability", "raw", **changes)  # type: ignore[arg-type]


def test_counts(checkpoint: Checkpoint) -> None:
    head = "shared head " * 50
    rank = FakeTask("r", [f"{i:03}" for i in range(40)], lambda t: PromptSpec("rank", head + t, choices=("A", "B")))
    write = FakeTask("w", ["x", "yy"], lambda t: PromptSpec("generate", t * 40, max_tokens=10))
    jobs = [job(rank), job(write), job(write, decode=Decode(temperature=1.0, n=5))]
    got = estimate(build_plan(jobs, checkpoint), checkpoint)
    assert (got.requests, got.score_requests, got.generate_requests, got.samples) == (44, 40, 4, 12)
    assert got.max_new_tokens == 120
    assert got.prompt_tokens == round((40 * 603 + 2 * 120) / 4)  # four characters a token without a tokenizer
    assert got.computed_prompt_tokens < got.prompt_tokens / 10
    assert (got.seconds, got.memory_bytes) == (None, None)


def test_with_weights(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    checkpoint = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    texts = [f"The quick brown fox {i}" for i in range(30)]
    task = FakeTask("w", texts, lambda t: PromptSpec("generate", t, max_tokens=10))
    plan = build_plan([job(task)], checkpoint)
    got = estimate(plan, checkpoint)
    tokenizer = checkpoint.tokenizer()
    exact = sum(len(tokenizer.encode(r.prompt.text)) for r in plan.requests)
    assert (got.prompt_tokens, got.tokens_counted) == (exact, True)
    shared = len(tokenizer.encode("The quick brown fox "))
    assert got.computed_prompt_tokens < exact - 29 * (shared - 2)
    assert got.seconds is not None
    assert got.memory_bytes is not None
    assert 0 < got.seconds < 60
    weights = (folder / "model.safetensors").stat().st_size
    assert weights * 0.9 < got.memory_bytes < weights * 40
    half = resolve(ModelSpec("m", str(folder), dtype="bfloat16"), cache_dir=tmp_path)
    assert estimate(build_plan([job(task)], half), half).memory_bytes == pytest.approx(got.memory_bytes / 2, rel=0.01)
    gpu = resolve(ModelSpec("m", str(folder), engine_args={"device": "cuda"}), cache_dir=tmp_path)
    assert estimate(build_plan([job(task)], gpu), gpu).seconds is None


def test_large_plans_are_estimated(tmp_path: Path) -> None:
    checkpoint = resolve(ModelSpec("m", str(tiny.save(tmp_path / "m"))), cache_dir=tmp_path)
    head = "If a shop sells 12 apples and 7 pears, how many are left? " * 20
    options = (" one two three four", " the lazy dog jumps over the fox", " A")
    rank = FakeTask("r", [f"{i:03}" for i in range(60)], lambda t: PromptSpec("rank", head + t, choices=options))
    plan = build_plan([job(rank)], checkpoint)
    counted = estimate(plan, checkpoint)
    rough = estimate(plan, checkpoint, count_up_to=0)
    assert (counted.tokens_counted, rough.tokens_counted) == (True, False)
    assert rough.prompt_tokens == pytest.approx(counted.prompt_tokens, rel=0.05)
    assert rough.computed_prompt_tokens == pytest.approx(counted.computed_prompt_tokens, rel=0.4)
    assert counted.computed_prompt_tokens < counted.prompt_tokens / 5


def test_reads_count_their_tokens_exactly(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """With a tokenizer and without: prompts of ids and what is read are known to the token."""
    ids = tuple(range(10, 60))
    asked = [Request(f"r{i}", "c", Prompt(token_ids=ids), Read((100 + i, *range(30)))) for i in range(4)]
    real = resolve(ModelSpec("m", str(tiny.save(tmp_path / "m"))), cache_dir=tmp_path)
    text = "The quick brown fox"
    length = len(real.tokenizer().encode(text))
    for point in (checkpoint, real):
        got = estimate(Plan(tuple(asked), {}), point)
        assert (got.requests, got.read_requests, got.score_requests, got.max_new_tokens) == (4, 4, 0, 0)
        assert (got.prompt_tokens, got.computed_prompt_tokens) == (200, 50 + 4 * 30)
    with_text = Plan((*asked, Request("t", "c", Prompt(text=text), Read((1, 2, 3)))), {})
    got = estimate(with_text, real)
    assert got.tokens_counted
    assert (got.prompt_tokens, got.computed_prompt_tokens) == (200 + length, 170 + length + 2)


def test_nothing_to_do(checkpoint: Checkpoint) -> None:
    got = estimate(build_plan([], checkpoint), checkpoint)
    assert (got.requests, got.prompt_tokens, got.max_new_tokens) == (0, 0, 0)


def test_torch_is_not_needed(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "m")
    code = f"""
import sys
from pathlib import Path
from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.planning import build_plan, estimate
checkpoint = resolve(ModelSpec("m", {str(folder)!r}), cache_dir=Path({str(tmp_path)!r}))
estimate(build_plan([], checkpoint), checkpoint)
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
