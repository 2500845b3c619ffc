"""Lengths and times out of two frames of records: which answers count, and which comparisons are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from forgetbench.analysis.compare import compare_frames
from forgetbench.analysis.types import AnswerChange, SideInfo
from tests.analysis.made import frame, sampled

pytestmark = pytest.mark.unit

ENGINE = {"name": "transformers", "device": "cpu", "torch": "2.13"}
N = 60


def tokens_of(n: int = N, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(2, 100, n).tolist()


def run(tokens: list[int], *, b: float = 0.1, k: float = 0.01, **columns: object) -> pd.DataFrame:
    seconds = [b + k * (x - 1) for x in tokens]
    shown = {"n_output_tokens": [float(x) for x in tokens], "seconds": seconds, "finish_reason": "stop"}
    return frame([1.0] * len(tokens), **{**shown, **columns})


def side(engine: dict[str, str] | None = None, tokenizer: str = "t") -> SideInfo:
    return SideInfo("x", "runs/x", "f", {"engine": engine or ENGINE, "parts": {"tokenizer": tokenizer}})


def maybe(base: pd.DataFrame, candidate: pd.DataFrame, info: SideInfo | None = None) -> AnswerChange | None:
    given = {"base": side(), "candidate": info or side(), "suite": "toy", "bootstrap": 100}
    return compare_frames(base, candidate, **given).answers  # type: ignore[arg-type]


def answers(base: pd.DataFrame, candidate: pd.DataFrame, info: SideInfo | None = None) -> AnswerChange:
    found = maybe(base, candidate, info)
    assert found is not None
    return found


def test_lengths_are_those_of_the_records() -> None:
    before, after = tokens_of(), tokens_of(seed=1)
    finish = ["length" if i % 4 == 0 else "stop" for i in range(N)]
    found = answers(run(before), run(after, finish_reason=finish))
    (row,) = found.lengths
    assert (row.group, row.kind, row.n) == ("toy", "task", N)
    assert (row.base.median, row.base.mean) == (np.median(before), pytest.approx(np.mean(before)))
    assert row.candidate.p90 == pytest.approx(np.quantile(after, 0.9))
    assert (row.base.at_limit, row.candidate.at_limit) == (0.0, 0.25)
    assert row.delta == pytest.approx(np.mean(after) - np.mean(before))
    assert row.interval is not None
    assert row.interval.low < row.delta < row.interval.high
    half = 1.96 * float(np.std(np.subtract(after, before))) / N**0.5
    assert half < (row.interval.high - row.interval.low) / 2 < 2 * half
    shorter = answers(run(before), run([x // 2 + 1 for x in before])).lengths[0]
    assert shorter.interval is not None
    assert shorter.interval.high < 0


def test_tasks_and_views_stand_alone_and_together() -> None:
    def both(seed: int) -> pd.DataFrame:
        parts = [
            run(tokens_of(seed=seed), task="a"),
            run(tokens_of(seed=seed + 1), task="b"),
            run(tokens_of(seed=seed + 2), task="a", view="chat"),
        ]
        return pd.concat(parts, ignore_index=True)

    found = answers(both(0), both(10))
    assert [(x.view, x.group, x.n) for x in found.lengths] == [
        ("ability", "all", 2 * N),
        ("ability", "a", N),
        ("ability", "b", N),
        ("chat", "a", N),
    ]
    assert found.speed.base is not None
    assert found.speed.base.total == 3 * N


def test_failed_answers_and_choices_do_not_count() -> None:
    tokens = tokens_of()
    lost = [None if i < 5 else float(x) for i, x in enumerate(tokens)]
    outcomes = ["infra_error" if i < 5 else "ok" for i in range(N)]
    found = answers(run(tokens), run(tokens, n_output_tokens=lost, outcome=outcomes))
    assert found.lengths[0].n == N - 5
    assert found.speed.candidate is not None
    assert found.speed.candidate.total == N - 5
    choices = run(tokens, n_output_tokens=None)
    assert maybe(choices, choices) is None


def test_samples_have_lengths_and_no_line() -> None:
    rates = [[1.0, 0.0]] * N
    lengths = [float(x) for x in tokens_of(2 * N)]
    one = sampled(rates, n_output_tokens=lengths, seconds=1.0, finish_reason="stop")
    found = answers(one, one)
    assert (found.lengths[0].n, found.lengths[0].base.mean) == (N, pytest.approx(np.mean(lengths)))
    assert found.speed.base is None
    assert found.speed.base_reason == "no answer has a measured time"


def test_the_line_comes_from_the_records_and_its_change_too() -> None:
    tokens = tokens_of()
    found = answers(run(tokens), run([x + 3 for x in tokens], b=0.15, k=0.012)).speed
    assert found.base is not None
    assert found.candidate is not None
    assert (found.base.first_token, found.base.per_token) == (pytest.approx(0.1), pytest.approx(0.01))
    assert (found.first_token, found.per_token) == (pytest.approx(0.05), pytest.approx(0.002))
    assert found.base.measured_first_token is None
    measured = answers(run(tokens, first_token_seconds=0.09), run(tokens)).speed
    assert measured.base is not None
    assert measured.base.measured_first_token == 0.09


def test_one_answer_that_several_items_share_is_timed_once() -> None:
    tokens = [tokens_of()[i // 2] for i in range(N)]
    shared = run(tokens, request_id=[f"r{i // 2}" for i in range(N)])
    found = answers(shared, shared)
    assert found.lengths[0].n == N
    assert found.speed.base is not None
    assert found.speed.base.total == N // 2


def test_an_item_of_several_requests_has_no_time_of_its_own() -> None:
    joint = run(tokens_of(), request_id=[f"r{i}+q{i}" if i < 30 else f"r{i}" for i in range(N)])
    found = answers(joint, joint)
    assert found.lengths[0].n == N
    assert found.speed.base is not None
    assert found.speed.base.total == N - 30


def test_a_scripted_engines_zeros_are_no_times() -> None:
    found = answers(run(tokens_of(), seconds=0.0), run(tokens_of(), seconds=0.0)).speed
    assert (found.base, found.base_reason) == (None, "no answer has a measured time")


def test_only_one_side_has_times() -> None:
    found = answers(run(tokens_of(), seconds=None), run(tokens_of()))
    assert found.lengths[0].delta == 0.0
    assert found.speed.base is None
    assert found.speed.candidate is not None
    assert found.speed.per_token is None


def test_runs_without_the_columns_still_compare() -> None:
    old = run(tokens_of()).drop(columns=["seconds", "finish_reason"])
    found = answers(old, old)
    assert found.lengths[0].base.at_limit is None
    assert found.speed.base is None


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (ENGINE, ""),
        ({**ENGINE, "adapter": "served"}, ""),
        ({**ENGINE, "model": "sft", "fingerprint": "2"}, ""),
        (
            {**ENGINE, "device": "cuda", "torch": "2.14"},
            "the engines differ (device: cpu, cuda; torch: 2.13, 2.14)",
        ),
        ({**ENGINE, "max_length": "512"}, "the engines differ (max_length: none, 512)"),
    ],
)
def test_times_of_unlike_engines_are_not_held_against_each_other(engine: dict[str, str], reason: str) -> None:
    tokens = tokens_of()
    found = answers(run(tokens), run(tokens), side(engine)).speed
    assert found.not_comparable == reason
    assert (found.per_token is None) == bool(reason)
    assert found.candidate is not None


def test_an_unknown_engine_is_not_the_same_engine() -> None:
    blank = SideInfo("x", "runs/x", "f", {})
    found = answers(run(tokens_of()), run(tokens_of()), blank)
    assert found.speed.not_comparable == "the engine of a side is not known"
    assert found.speed.per_token is None
    assert not found.other_tokenizer


def test_another_tokenizer_is_told() -> None:
    one = run(tokens_of())
    assert not answers(one, one).other_tokenizer
    assert answers(one, one, side(tokenizer="u")).other_tokenizer
