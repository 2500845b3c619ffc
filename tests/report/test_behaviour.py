"""What a terminal is told of the measures: the clear changes, and how many more there are."""

from __future__ import annotations

import re

import pytest

from forgetbench.analysis.measured import Measured
from forgetbench.analysis.types import Comparison, Interval, SideInfo
from forgetbench.behaviour.types import Behaviour, Group
from forgetbench.belief.divergence import Rates
from forgetbench.belief.find import reading_of
from forgetbench.belief.recovery import recovery_of
from forgetbench.belief.types import KINDS, Divergence, Mode, Part, Rate
from forgetbench.report.behaviour import behaviour_context, to_dict, told
from forgetbench.report.words import Words, load_words

pytestmark = pytest.mark.unit


def _measures(large: int, slight: int, open_: int) -> Behaviour:
    """So many proven large changes, proven slight ones, and ones that are not proven."""
    made = [Measured(f"m{i}", 1.0, 2.0, Interval(0.5, 1.5), "nats", f"large {i}") for i in range(large)]
    made += [Measured(f"s{i}", 1.0, 1.03, Interval(0.01, 0.05), "nats", f"slight {i}") for i in range(slight)]
    made += [Measured(f"o{i}", 1.0, 3.0, Interval(-0.1, 4.1), "nats", f"open {i}") for i in range(open_)]
    return Behaviour(groups=(Group("all", "chat", "10 texts", tuple(made)),))


def test_slight_changes_are_counted_and_not_told() -> None:
    assert told(_measures(0, 0, 4)) == []
    assert told(_measures(1, 0, 4)) == ["large 0 (chat)"]
    assert told(_measures(1, 2, 4)) == ["large 0 (chat)", "2 of 7 measures changed slightly: see the report"]
    assert told(_measures(8, 0, 0))[6:] == ["2 more of 8 measures changed: see the report"]
    assert told(_measures(8, 3, 1))[6:] == ["2 more of 12 measures changed, 3 slightly: see the report"]


def _believed(gross: int, silent: tuple[int, int], controls: int) -> Comparison:
    """100 held items: on so many the candidate says something else, to so many (base, candidate) there is no answer."""

    def rate(count: int) -> Rate:
        return Rate(count / 100, Interval((count - 3) / 100, (count + 3) / 100), count, 100)

    parts = tuple(Part(kind, gross if kind == "other" else 0, 0, rate(gross)) for kind in KINDS)
    rates = Rates(rate(gross), rate(0), rate(gross), parts, candidate_silent=silent[1], base_silent=silent[0])
    came, none = frozenset[Mode](["few-shot"]), frozenset[Mode]()
    found = Divergence(
        view="chat",
        classes={"firm": 100},
        known={},
        gross=rates.gross,
        floor=rates.floor,
        net=rates.net,
        parts=parts,
        candidate_silent=silent[1],
        base_silent=silent[0],
        recovery=recovery_of([came] * 3 + [none] * 2, [came, none][:controls], ("few-shot", "ranking")),
        reading=reading_of(rates),
    )
    info = SideInfo("a", "a", "a")
    return Comparison(info, info, suite="s", changes=(), pairs=(), behaviour=Behaviour(divergences=(found,)))


@pytest.mark.parametrize("controls", [0, 2])
@pytest.mark.parametrize(("gross", "silent"), [(0, (0, 0)), (0, (0, 95)), (2, (3, 4)), (40, (0, 0)), (40, (1, 50))])
def test_beliefs_are_told_in_both_languages_with_what_was_not_answered(
    gross: int, silent: tuple[int, int], controls: int
) -> None:
    comparison = _believed(gross, silent, controls)
    pages = [behaviour_context(comparison, words) for words in (Words(), load_words("zh"))]
    english, chinese = (page["divergences"][0] for page in pages if page is not None)
    assert ("gave no answer" in english["reading"]) is any(silent)
    if any(silent):
        assert f"gave no answer to {silent[1]} (the base to {silent[0]})" in english["reading"]
    assert ("not proven" in english["reading"]) is (gross < 3 and silent[1] < 10)
    assert comparison.behaviour is not None
    assert told(comparison.behaviour)[0] == f"{english['reading']} (chat)"
    for name in ("reading", "recovery"):
        assert sorted(_figures(chinese[name])) == sorted(_figures(english[name]))
        assert re.findall(r"[a-zA-Z]{2,}", chinese[name]) == []
    (made,) = to_dict([comparison])
    assert (made["divergence"][0]["held"], made["divergence"][0]["candidate_silent"]) == (100, silent[1])
    assert made["divergence"][0]["base_silent"] == silent[0]


def _figures(text: str) -> list[str]:
    return re.findall(r"-?\d+(?:\.\d+)?", text)
