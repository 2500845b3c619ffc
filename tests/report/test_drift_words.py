"""What the report's section on the weights says, in Chinese: every sentence of drift/reading.py is recognised."""

from __future__ import annotations

import re

import pytest

from forgetbench.drift import reading
from forgetbench.drift.types import Group, Place, TensorDrift, TokenRows
from forgetbench.report.words import load_words
from tests.report.test_words import figures

pytestmark = pytest.mark.unit


def tensor(layer: int | None, kind: str, delta: float) -> TensorDrift:
    name = f"model.layers.{layer}.{kind}.weight" if layer is not None else f"{kind}.weight"
    return TensorDrift(name, Place("model.layers", layer, kind), (8, 8), ("F32", "F32"), 1.0, delta, None)


def rows(special: float, others: float) -> TokenRows:
    return TokenRows("embed.weight", 4, 96, special, others, None, None, ())


def layers(deltas: dict[int, float]) -> list[TensorDrift]:
    return [tensor(i, kind, deltas.get(i, 0.01)) for i in range(6) for kind in ("mlp.up", "attn.q")]


WORLDS: dict[str, tuple[list[TensorDrift], list[TokenRows], float | None]] = {
    "nothing": ([], [], None),
    "the same": (layers(dict.fromkeys(range(6), 0.0)), [], 0.0),
    "even": (layers(dict.fromkeys(range(6), 0.5)), [rows(0.4, 0.1), rows(0.4, 0.0), rows(0.0, 0.0)], 0.5),
    "zeros": (layers({2: 0.5}), [], None),
    "one layer": (layers({2: 0.5}), [], 0.3),
    "some layers": (layers({2: 0.5, 3: 0.5}), [], 0.3),
    "one kind": ([tensor(i, k, 0.5 if k == "mlp.up" else 0.01) for i in range(6) for k in ("mlp.up", "attn.q")], [], 1),
    "one matrix": ([tensor(i, k, 0.5 if (i, k) == (2, "mlp.up") else 0.01) for i in range(6) for k in ("mlp.up", "q")],
        [], 1),
    "some of a kind": (
        [tensor(i, k, 0.5 if i in (2, 3) and k == "mlp.up" else 0.01) for i in range(6) for k in ("mlp.up", "q")],
        [], 1),
    "the head": ([tensor(None, "lm_head", 0.5), *layers({})], [], 0.1),
}  # fmt: skip


@pytest.mark.parametrize("compared", [1.0, 0.999, 0.3])
@pytest.mark.parametrize("name", WORLDS)
def test_every_sentence_is_told_in_chinese_with_the_same_figures(name: str, compared: float) -> None:
    tensors, tokens, relative = WORLDS[name]
    total = Group("all", len(tensors), 64 * len(tensors), relative, 1.0, None, None, None, None)
    zh = load_words("zh")
    for line in reading.sentences(total, tensors, tokens, compared):
        told = zh.sentence(line)
        assert re.search(r"[\u4e00-\u9fff]", told), line
        assert figures(told) == figures(line), told
        rest = re.sub(r"mlp\.up|attn\.q|\bq\b|lm_head|embed|Frobenius|token", "", told)
        assert re.findall(r"[a-zA-Z]{2,}", rest) == [], told
