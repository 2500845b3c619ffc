"""The repetition detector: what it finds, what it must not, and its rate of false alarms on published answers."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from forgetbench.scoring.loops import MIN_COVERED, find_loop

PROSE = (
    "Janet sells sixteen eggs a day. She eats three for breakfast and bakes muffins with four. She sells what is "
    "left at two dollars each, so every day she makes nine times two, which is eighteen dollars. "
)


@pytest.mark.unit
class TestRule:
    def test_a_loop_at_the_end_is_found_with_its_unit(self) -> None:
        found = find_loop(PROSE + "So we need to check again. " * 20)
        assert found is not None
        assert "check again" in found.unit
        assert found.repeats >= 19
        assert find_loop(PROSE) is None

    @pytest.mark.parametrize("cut", range(0, 27, 5))
    def test_where_the_limit_cuts_the_last_unit_does_not_matter(self, cut: int) -> None:
        text = PROSE + "So we need to check again. " * 20
        assert find_loop(text[: len(text) - cut]) is not None

    def test_a_long_loop_in_the_middle_is_found(self) -> None:
        assert find_loop(PROSE + "no, wait, " * 130 + PROSE * 1 + "The answer is 18.") is not None

    def test_four_repeats_or_few_characters_are_no_loop(self) -> None:
        unit = "and then the miller said to the farmer that the weather would hold until the harvest, "
        assert find_loop(PROSE + unit * 4) is None
        assert find_loop(PROSE + unit * 5) is not None
        assert find_loop(PROSE + "ha " * (MIN_COVERED // 3 - 3)) is None

    def test_rules_and_blanks_to_fill_in_are_no_loop(self) -> None:
        assert find_loop("-" * 500) is None
        assert find_loop("| - | - |\n" * 100) is None

    def test_a_counted_list_is_no_loop(self) -> None:
        assert find_loop("".join(f"{i}. item number {i} of the list\n" for i in range(300))) is None

    def test_chinese(self) -> None:
        assert find_loop("我们需要重新检查计算。" * 30) is not None

    def test_the_period_is_the_smallest_one(self) -> None:
        """Against a direct search over all periods."""
        rng = random.Random(0)
        for _ in range(50):
            unit = "".join(rng.choice("ab c") for _ in range(rng.randint(3, 40))) + "x"
            text = unit * (260 // len(unit) + 6)
            found = find_loop(text)
            stripped = text.rstrip()
            smallest = next(p for p in range(1, 300) if stripped[p:] == stripped[:-p])
            assert found is not None
            assert len(found.unit) == smallest


def _outputs(data_dir: Path, *files: str) -> Iterator[str]:
    for name in files:
        with gzip.open(data_dir / "published" / name, "rt", encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                text = next(row[k] for k in ("response", "output", "output_1", "generated_text") if k in row)
                yield text[0] if isinstance(text, list) else text


@pytest.mark.realdata
def test_false_alarms_on_published_answers_of_finished_models(data_dir: Path) -> None:
    """At most 1 in 1,000. Measured: none in 9,300 answers of seven models that end their answers."""
    texts = list(
        _outputs(
            data_dir,
            "gsm8k_zeroeval/Meta-Llama-3-8B-Instruct.jsonl.gz",
            "gsm8k_zeroeval/gpt-3.5-turbo-0125.jsonl.gz",
            "gsm8k_abel/gsm8k/7b.jsonl.gz",
            "gsm8k_abel/gsm8k/70b.jsonl.gz",
            "gsm8k_abel/gsm8k_robust/7b.jsonl.gz",
            "gsm8k_abel/gsm8k_robust/70b.jsonl.gz",
            "ifeval_gpt4_google/input_response_data_gpt4_20231107_145030.jsonl.gz",
            "alpaca_eval_phi2_base_sft_dpo/phi-2.annotations.jsonl.gz",  # output_1: text-davinci-003
        )
    )
    assert len(texts) > 9_000
    assert sum(find_loop(t) is not None for t in texts) <= len(texts) / 1000


@pytest.mark.realdata
def test_real_loops_are_found(data_dir: Path) -> None:
    """gemma-2-2b-it ran into its limit three times on GSM8K, each time repeating one sentence."""
    texts = list(_outputs(data_dir, "gsm8k_zeroeval/gemma-2-2b-it.jsonl.gz"))
    found = [t for t in texts if find_loop(t) is not None]
    assert len(found) == 3
    assert min(map(len, found)) > 10_000
