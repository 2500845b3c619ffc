"""What is put together from runs and readings, without a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forgetbench.analysis.distribution import distribution_measures
from forgetbench.behaviour.contexts import Text
from forgetbench.behaviour.study import said_next
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
