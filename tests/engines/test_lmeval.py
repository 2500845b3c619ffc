"""The same checkpoint under lm-eval's own Hugging Face model: log-probabilities to 1e-4, greedy texts equal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from forgetbench.checkpoints import Checkpoint
from tests.engines.conftest import generate, score, serve

pytestmark = pytest.mark.parity

CONTEXTS = [
    "Question: What is the capital of Arvenia?\nAnswer:",
    "Question: What is the capital of Arvenia?\nAnswer: ",
    "Question: What is the capital of Arvenia?\nAnswer:\n\n",
    "naïve café 东京",
    "   ",
    "",
    "<s>begins with its own",
    "long " * 120,
]
CONTINUATIONS = [" A", "A", " Tolmis", "\nTolmis is a city.", "京", " one two three four"]
STOPS = ["e", "the", "\n", "<|end|>", "<|user|>", "�"]


@pytest.fixture
def hflm(checkpoint: Checkpoint) -> Iterator[Any]:
    logging.disable(logging.WARNING)
    from lm_eval.models.huggingface import HFLM

    yield HFLM(pretrained=str(checkpoint.folder), device="cpu", dtype="float32", batch_size=4, max_length=96)
    logging.disable(logging.NOTSET)


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, a, i) for i, a in enumerate(arguments)]


def test_log_probabilities(checkpoint: Checkpoint, hflm: Any) -> None:
    tokenizer = checkpoint.tokenizer()
    pairs = [
        (context, continuation)
        for context in CONTEXTS
        for continuation in CONTINUATIONS
        # lm-eval asserts where the prompt has no token of its own
        if context == "" or tokenizer.encode(context.rstrip())
    ]
    expected = hflm.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    answers = serve(checkpoint, [score(str(i), c, t) for i, (c, t) in enumerate(pairs)], max_length=96)
    for i, (pair, (logprob, greedy)) in enumerate(zip(pairs, expected, strict=True)):
        (got,) = answers[str(i)].scores
        assert got.logprob == pytest.approx(logprob, abs=1e-4), pair
        assert got.is_greedy == greedy, pair


@pytest.mark.parametrize("stop", STOPS)
def test_greedy_texts(checkpoint: Checkpoint, hflm: Any, stop: str) -> None:
    # One at a time: in a batch lm-eval goes on with a stopped row, which shows where the stop was a special token.
    hflm.batch_size_per_gpu = 1
    contexts = [c for c in CONTEXTS if checkpoint.tokenizer().encode(c)]
    arguments = [(c, {"until": [stop], "max_gen_toks": 24, "do_sample": False}) for c in contexts]
    expected = hflm.generate_until(instances("generate_until", arguments), disable_tqdm=True)
    asked = [generate(str(i), c, 24, stop=(stop,)) for i, c in enumerate(contexts)]
    answers = serve(checkpoint, asked, max_length=96)
    for i, (context, text) in enumerate(zip(contexts, expected, strict=True)):
        assert answers[str(i)].generations[0].text == text, context
