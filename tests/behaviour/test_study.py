"""What is put together from runs and readings, without a model."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from forgetbench.analysis.distribution import distribution_measures
from forgetbench.behaviour.contexts import Text
from forgetbench.behaviour.study import own_tokens, said_next
from forgetbench.types import Prompt
from tests.analysis.null_worlds import contexts

pytestmark = pytest.mark.unit


def test_each_view_is_a_group_of_its_own() -> None:
    made = [replace(c, item=f"{c.item} ({view})") for view in ("chat", "ability") for c in contexts(view == "chat", 9)]
    own = [
        Text(c.item, Prompt(text="Q"), tuple(c.token_ids.tolist()), 9, view="chat" if "chat" in c.item else "ability")
        for c in made
    ]
    groups = said_next(own, made)
    assert [(g.title, g.view) for g in groups] == [("What it would say next", v) for v in ("ability", "chat")]
    for group, part in zip(groups, (made[9:], made[:9]), strict=True):
        assert group.about.startswith("9 of")
        expected = distribution_measures(part)
        assert [m.base for m in group.measures[: len(expected)]] == [m.base for m in expected]
    assert said_next(own[:9], made[:9])[0].view == "chat"


def test_samples_of_one_request_read_its_prompt_once() -> None:
    rows = [("a", sample, 100, 7) for sample in range(8)]
    rows += [("b", 0, 30, 5), ("b", 0, 30, 5)]  # asked once for two views
    rows += [(None, 0, 11, 1), (None, 0, 11, None)]  # imported: no request
    frame = pd.DataFrame(rows, columns=["request_id", "sample", "n_prompt_tokens", "n_output_tokens"])
    side = SimpleNamespace(run=SimpleNamespace(records=lambda columns: frame[columns]))
    assert own_tokens(cast("Any", side)) == 100 + 8 * 7 + 35 + 2 * 11 + 1
