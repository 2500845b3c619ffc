"""The word diff, in the page (reports/diff.js) and in the terminal (report/item.py): what is marked adds up to both
texts, the shortest way is found, and nothing takes long.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench import resources
from forgetbench.report.item import word_diff
from tests.report.chromium import Chromium, browser, find

_POOL = ["velm", "orrin", "is", "the", " ", " ", "\n", "42", ".", "首", "都", "é", "🙂"]
texts = st.lists(st.sampled_from(_POOL), max_size=30).map("".join)


def halves(parts: list[Any]) -> tuple[str, str]:
    return (
        "".join(text for op, text in parts if op in "=-"),
        "".join(text for op, text in parts if op in "=+"),
    )


@pytest.mark.unit
@given(texts, texts)
def test_terminal_parts_add_up(before: str, after: str) -> None:
    parts = word_diff(before, after)
    if parts is not None:
        assert halves(parts) == (before, after)


@pytest.mark.unit
def test_terminal_marks_words_not_letters() -> None:
    assert word_diff("the capital is Orrin.", "the capital is Tamm.") == [
        ("=", "the capital is "),
        ("-", "Orrin"),
        ("+", "Tamm"),
        ("=", "."),
    ]
    assert word_diff("首都是北京", "首都是南京") == [("=", "首都是"), ("-", "北"), ("+", "南"), ("=", "京")]
    assert word_diff("alpha beta", "gamma delta") is None  # nothing in common: no marks
    assert word_diff("x " * 5_000, "y " * 5_000) is None


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if find() is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found; install it: apt-get install chromium")
        pytest.skip("no Chromium found")
    with browser(tmp_path_factory.mktemp("diff") / "profile") as chromium:
        chromium.run(
            resources.path("reports", "diff.js").read_text(encoding="utf-8") + "\nwindow.wordDiff = wordDiff; 1"
        )
        yield chromium


def diff(page: Chromium, before: str, after: str) -> dict[str, Any]:
    found: dict[str, Any] = page.run(f"wordDiff({json.dumps(before)}, {json.dumps(after)})")
    return found


@pytest.mark.slow
def test_page_parts_add_up_and_are_the_shortest(page: Chromium) -> None:
    rng = random.Random(0)
    pairs = []
    for _ in range(400):
        before = [rng.choice(_POOL) for _ in range(rng.randrange(30))]
        after = [w for w in before if rng.random() > 0.2]
        for _ in range(rng.randrange(6)):
            after.insert(rng.randrange(len(after) + 1), rng.choice(_POOL))
        pairs.append(("".join(before), "".join(after)))
    results = page.run(f"{json.dumps(pairs)}.map(([a, b]) => wordDiff(a, b).parts)")
    for (before, after), parts in zip(pairs, results, strict=True):
        assert halves(parts) == (before, after)
        kinds = [op for op, _ in parts]
        assert all(a != b for a, b in itertools.pairwise(kinds))  # neighbours are joined
    # As short as the longest common subsequence allows, on texts without spaces (which are marked with words).
    for _ in range(60):
        a, b = ([rng.choice("甲乙丙丁") for _ in range(rng.randrange(1, 25))] for _ in range(2))
        parts = diff(page, "".join(a), "".join(b))["parts"]
        assert sum(len(t) for op, t in parts if op == "=") == longest_common(a, b)


def longest_common(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@pytest.mark.slow
def test_page_and_terminal_mark_alike(page: Chromium) -> None:
    before, after = "Each clip costs 3 dollars, so 12 in all.", "Each clip costs 4 dollars, so 16 in all."
    assert [tuple(p) for p in diff(page, before, after)["parts"]] == word_diff(before, after)
    assert not diff(page, "alpha beta", "gamma delta")["alike"]
    assert difflib.SequenceMatcher(None, before, after).ratio() > 0.9  # the texts are as alike as they look


@pytest.mark.slow
def test_page_is_quick_on_the_longest_texts(page: Chromium) -> None:
    rng = random.Random(1)
    long = ["".join(rng.choice("abcdefgh ") for _ in range(16_000)) for _ in range(2)]
    near = long[0][:8_000] + "changed " + long[0][8_000:]
    commas = "," * 16_000
    for before, after in ((long[0], long[1]), (long[0], near), (commas, commas[:-5] + "." * 5), ("", long[0])):
        took = page.run(
            f"(() => {{ const s = performance.now(); wordDiff({json.dumps(before)}, {json.dumps(after)});"
            " return performance.now() - s; })()"
        )
        assert took < 1_500
    found = diff(page, long[0], near)
    assert found["whole"]
    assert [op for op, _ in found["parts"]] == ["=", "+", "="]
