"""What a comparison says of the weights where only some of them could be compared: page, terminal, JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from forgetbench.analysis.types import Comparison
from forgetbench.behaviour import study
from forgetbench.behaviour.types import Behaviour
from forgetbench.drift import Drift, drift
from forgetbench.drift.weights import Side
from forgetbench.report.behaviour import behaviour_context, to_dict, told
from forgetbench.report.html import render
from forgetbench.report.words import load_words
from tests.drift import made
from tests.report import sample
from tests.report.test_words import figures

pytestmark = pytest.mark.unit

NORM, GONE, NEW = "model.norm.weight", "model.layers.1.input_layernorm.weight", "model.extra.weight"


def partial(folder: Path) -> Drift:
    """One tensor with an infinity, one that only the base has, one that only the candidate has; the rest equal."""
    after = made.tensors()
    after[NORM][0] = math.inf
    after[NEW] = after.pop(GONE)
    quantised = {"quantization_config": {"quant_method": "some"}}
    return drift(made.save(folder / "base", made.tensors()), made.save(folder / "sft", after, config=quantised))


def comparison(found: Drift) -> Comparison:
    sides = {"base": SimpleNamespace(alias="base"), "candidate": SimpleNamespace(alias="sft")}
    return cast("Comparison", SimpleNamespace(**sides, behaviour=Behaviour(groups=(), drift=found)))


def test_names_that_were_not_compared_reach_every_form(tmp_path: Path) -> None:
    found = partial(tmp_path)
    told_first, counts = told(Behaviour(groups=(), drift=found))
    assert told_first == "Only 99 % of the weights could be compared: those did not change."
    assert counts.startswith("Tensors that were not compared: 1 of those that both have, 1 that only the base has, 1")
    context = behaviour_context(comparison(found), load_words("en"))
    assert context is not None
    assert context["drift"]["left_out"] == [
        f"Not compared (1): {NORM}. Each holds values that are not finite.",
        f"Only in the base (1): {GONE}.",
        f"Only in the candidate (1): {NEW}.",
    ]
    (as_json,) = json.loads(json.dumps(to_dict([comparison(found)])))
    assert as_json["drift_left_out"] == {
        "skipped": [{"name": NORM, "why": "holds values that are not finite"}],
        "only_base": [GONE],
        "only_candidate": [NEW],
    }
    assert counts in as_json["drift_notes"]


def test_the_page_names_them(tmp_path: Path) -> None:
    first = replace(sample.demo()[0][0], behaviour=Behaviour(groups=(), drift=partial(tmp_path)))
    text = render([first], [])
    assert f"Only in the base (1): {GONE}." in text
    assert "Tensors that were not compared: 1 of those" in text


def test_they_are_told_in_chinese(tmp_path: Path) -> None:
    found, zh = partial(tmp_path), load_words("zh")
    context = behaviour_context(comparison(found), zh)
    assert context is not None
    lines = context["drift"]["notes"] + context["drift"]["left_out"]
    assert len(lines) > 4
    for line in lines:
        translated = zh.sentence(line)
        assert figures(translated) == figures(line), translated
        rest = re.sub(r"model\.[\w.]+", "", translated)
        assert re.findall(r"[a-zA-Z]{2,}", re.sub("LoRA|token", "", rest)) == [], translated


def test_many_names_are_cut(tmp_path: Path) -> None:
    renamed = {n.replace("model.layers", "model.text.layers"): t for n, t in made.tensors().items()}
    found = drift(made.save(tmp_path / "a", made.tensors()), made.save(tmp_path / "b", renamed))
    context = behaviour_context(comparison(found), load_words("en"))
    assert context is not None
    first, second = context["drift"]["left_out"]
    assert re.fullmatch(r"Only in the base \(9\): (model\.layers\.\S+, ){4}\.\.\.\.", first)
    assert second.startswith("Only in the candidate (9): model.text.layers.0.")


def test_a_failed_decomposition_leaves_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr("forgetbench.drift.drift", fails)
    monkeypatch.setattr("forgetbench.drift.weights.side_of", lambda point: point)
    notes: list[str] = []
    side = SimpleNamespace(point=Side("base", Path("base")))
    assert study._drift(side, side, notes) is None  # type: ignore[arg-type]
    assert notes == ["weights are not compared: a decomposition failed (SVD did not converge)"]
