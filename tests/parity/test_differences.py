"""Where we differ from lm-eval on purpose (docs/parity.md), each difference shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from forgetbench.tasks.mmlu import Mmlu
from forgetbench.types import ContinuationScore, Prompt, Response

pytestmark = [pytest.mark.parity, pytest.mark.realdata]


def test_a_nan_is_an_answer_there_and_a_failure_here(mmlu: Mmlu, lm_eval_manager: Any) -> None:
    item = next(i for i in mmlu.load() if i.stratum == "anatomy" and i.doc["answer"] == 1)
    logprobs = [-1.0, math.nan, -2.0, -3.0]
    [task] = lm_eval_manager.load(["mmlu_anatomy"])["tasks"].values()
    assert task.process_results(dict(item.doc), [(v, False) for v in logprobs])["acc"] == 1.0
    response = Response("r", scores=tuple(ContinuationScore(v, False, 1) for v in logprobs))
    [judged] = mmlu.score(item, response)
    assert (judged.outcome, judged.scores) == ("infra_error", {})


def test_a_template_without_bos_gets_one_there_and_none_here(llama_folder: Path) -> None:
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    from forgetbench.engines.encode import Encoder

    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}[assistant] "
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.chat_template = template
    messages = [{"role": "user", "content": "2 + 2?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    meant = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    model = HFLM(pretrained=str(llama_folder), backend="causal", device="cpu", tokenizer=tokenizer)
    assert model.tok_encode(text) == [tokenizer.bos_token_id, *meant]
    [ours] = Encoder(tokenizer).prompts([Prompt(text=text, add_special_tokens=False)])
    assert list(ours) == meant
