"""Answers in the wrong language: what is called wrong, and how often it is wrong on published answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from forgetbench.scoring.language import language, letters

ENGLISH = "Which planet of the solar system is the largest, and how large is it?"
CHINESE = "太阳系中最大的行星是哪一颗？它有多大？请简要说明。"
ANSWERS = {
    "en": "The largest planet of the solar system is Jupiter, with a diameter of about 140,000 km.",
    "zh": "太阳系中最大的行星是木星，它的直径大约是十四万公里，质量超过其他行星的总和。",
    "ja": "太陽系で最も大きな惑星は木星です。直径はおよそ十四万キロメートルもあります。",
    "ru": "Самая большая планета Солнечной системы — Юпитер, его диаметр около 140 тысяч километров.",
    "ko": "태양계에서 가장 큰 행성은 목성이며, 지름은 약 십사만 킬로미터에 이릅니다.",
}


@pytest.mark.unit
class TestRule:
    @pytest.mark.parametrize("code", ["zh", "ja", "ru", "ko"])
    def test_english_question_foreign_answer(self, code: str) -> None:
        assert language(ENGLISH, ANSWERS[code]) == "wrong"

    @pytest.mark.parametrize("code", ["en", "ja", "ru", "ko"])
    def test_chinese_question_foreign_answer(self, code: str) -> None:
        assert language(CHINESE, ANSWERS[code]) == "wrong"

    def test_same_language(self) -> None:
        assert language(ENGLISH, ANSWERS["en"]) == "same"
        assert language(CHINESE, ANSWERS["zh"]) == "same"

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            (CHINESE, "B"),
            (CHINESE, "Jupiter"),
            (CHINESE, "```python\nprint('the largest planet of the solar system')\n```"),
            (CHINESE, "木星是 (Jupiter, the largest planet of the solar system) 太阳系最大的行星"),
            ("Translate into Chinese: " + ENGLISH, ANSWERS["zh"]),
            ("用英文回答：" + CHINESE, ANSWERS["en"]),
            ("把下面这句话翻译成俄语：太阳系最大的行星是木星", ANSWERS["ru"]),
            ("2 + 2 =", ANSWERS["zh"]),
            (ENGLISH, "$$\\sum_{i=1}^{n} x_i$$"),
        ],
    )
    def test_doubtful_cases_are_never_called_wrong(self, question: str, answer: str) -> None:
        assert language(question, answer) != "wrong"

    def test_kana_makes_chinese_characters_japanese(self) -> None:
        assert letters(ANSWERS["ja"]).script == "kana"
        assert letters(ANSWERS["zh"]).script == "han"


def _rows(data_dir: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(data_dir / "published" / name, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


@pytest.mark.realdata
def test_false_alarms_and_recall_on_published_answers(data_dir: Path) -> None:
    """False alarms: at most 1 in 500. Found among answers put to questions of the other language: 90 %."""
    chinese = [
        (r["question"], r["answer"]) for r in _rows(data_dir, "alignbench_deepseek67b/deepseek-67b-1206-no-sp.jsonl.gz")
    ]
    english = [(r["prompt"], r["response"]) for r in _rows(data_dir, "gsm8k_abel/gsm8k/7b.jsonl.gz")]
    english += [
        (r["instruction"], r["output_1"])
        for r in _rows(data_dir, "alpaca_eval_phi2_base_sft_dpo/phi-2.annotations.jsonl.gz")
    ]
    pairs = [*chinese, *english]
    assert len(pairs) > 2_700
    assert sum(language(q, a) == "wrong" for q, a in pairs) <= len(pairs) / 500
    judged = [(q, a) for q, a in english if language(q, a) == "same"]
    answers = [a for q, a in chinese if language(q, a) == "same"]
    swapped = [language(q, a) for (q, _), a in zip(judged, answers, strict=False)]
    assert swapped.count("wrong") >= 0.9 * len(swapped) > 400


@pytest.mark.realdata
def test_a_real_case_is_found(data_dir: Path) -> None:
    """ChatGLM3-6B answered two English IFEval prompts in Chinese."""
    rows = _rows(data_dir, "ifeval_deepseek_llm/chatglm.jsonl.gz")
    wrong = [r for r in rows if language(r["prompt"], r["response"]) == "wrong"]
    assert [r["prompt"][:23] for r in wrong] == ["What is the difference ", "Write a funny and sarca"]
