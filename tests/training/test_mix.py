"""Files mixed to ratios: counts, provenance, repeats that are said."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from forgetbench.errors import ForgetbenchError
from forgetbench.training.check.rows import read_rows
from forgetbench.training.mix import Mix, MixConfig, apportion, mix, read_mix, to_jsonl
from tests.training.made import chat, write

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "tickets.jsonl", [chat(f"ticket {n}", f"desk {n}") for n in range(20)])
    kinds = ["format/upper", "format/yaml", "code/call"]
    write(tmp_path / "chats.jsonl", [chat(f"q {n}", f"a {n}", task_type=kinds[n % 3], keep=n) for n in range(60)])
    (tmp_path / "general.txt").write_text("\n\n".join(f"general text {n}" for n in range(30)))
    return tmp_path


def _mix(folder: Path, **config: Any) -> Mix:
    sources = [{"files": ["tickets.jsonl"], "task_type": "support/route"}, {"files": ["chats.jsonl"]}]
    return mix(MixConfig.model_validate({"sources": sources, **config}), folder)


def _parts(made: Mix) -> dict[str, int]:
    return dict(Counter(line["provenance"]["part"] for line in made.lines))


def test_ratios_and_replay_share_are_exact(folder: Path) -> None:
    ratios = {"support": 2, "format": 1, "code": 1}
    made = _mix(folder, ratios=ratios, replay={"share": 0.2, "files": ["general.txt"]}, total=50)
    assert _parts(made) == {"support/route": 20, "format/upper": 5, "format/yaml": 5, "code/call": 10, "replay": 10}
    assert all(not part.repeated for part in made.parts)
    assert [p.told for p in made.parts if p.name == "replay"] == [
        "replay: 10 lines (20.0 %, in the sources 27.3 %), undersampled: 20 of 30 left out"
    ]


def test_the_longer_name_wins_and_zero_leaves_out(folder: Path) -> None:
    made = _mix(folder, ratios={"support": 1, "format": 1, "format/yaml": 0, "code/call": 0}, total=20)
    assert _parts(made) == {"support/route": 10, "format/upper": 10}
    assert {p.name: p.taken for p in made.parts}["format/yaml"] == 0


def test_provenance_names_the_very_line(folder: Path) -> None:
    made = _mix(folder, replay={"share": 0.1, "files": ["general.txt"]})
    for line in made.lines:
        file, number = line["provenance"]["source"].rsplit(":", 1)
        whole = (folder / file).read_text().split("\n")
        if file.endswith(".txt"):
            assert line["text"] == whole[int(number) - 1]
        else:
            origin = json.loads(whole[int(number) - 1])
            assert {k: v for k, v in line.items() if k in origin} == origin
            assert line["task_type"] == origin.get("task_type", "support/route")


def test_without_total_nothing_is_repeated_and_some_part_is_used_whole(folder: Path) -> None:
    made = _mix(folder, ratios={"support": 1, "format": 1, "code": 1})
    assert len(made.lines) == 60
    assert all(part.repeated == 0 for part in made.parts)
    assert len({line["provenance"]["source"] for line in made.lines}) == 60


def test_repeats_are_said_and_even(folder: Path) -> None:
    made = _mix(folder, ratios={"support": 1, "format": 0, "code": 0}, total=50)
    (part,) = [p for p in made.parts if p.taken]
    assert (part.taken, part.available, part.repeated) == (50, 20, 30)
    assert "oversampled: 20 are too few, 30 lines are repeats (2.50 uses each)" in part.told
    uses = Counter(line["provenance"]["source"] for line in made.lines)
    assert set(uses.values()) == {2, 3}, "no line is used a third time before all are used twice"
    assert max(line["provenance"]["use"] for line in made.lines) == 3


def test_too_many_repeats_name_the_largest_total(folder: Path) -> None:
    with pytest.raises(ForgetbenchError, match=r"each 4\.5 times; lower `total` to 80"):
        _mix(folder, ratios={"support": 1, "format": 0, "code": 0}, total=90)
    made = _mix(folder, ratios={"support": 1, "format": 0, "code": 0}, total=80)
    assert len(made.lines) == 80


def test_duplicates_of_the_sources_are_said(folder: Path) -> None:
    write(folder / "twice.jsonl", [chat("ticket 3", "desk 3", task_type="support/route")])
    made = _mix(folder, sources=[{"files": ["tickets.jsonl", "twice.jsonl"], "task_type": "support/route"}])
    assert made.duplicates == 1
    assert made.told[-1].startswith("1 lines of the sources copy another one")


def test_the_seed_decides_and_nothing_else(folder: Path) -> None:
    one, same, other = (to_jsonl(_mix(folder, total=40, seed=s).lines) for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"ratios": {"support": 1}}, "no ratio for 'code/call'"),
        ({"ratios": {"support": 1, "format": 1, "code": 1, "math": 1}}, "ratios.math: no source has such"),
        ({"ratios": {"support": 0, "format": 0, "code": 0}}, "are all 0"),
        ({"sources": [{"files": ["tickets.jsonl"]}], "ratios": {"a": 1}}, "no source has such"),
        ({"sources": [{"files": ["none.jsonl"]}]}, "cannot be read"),
    ],
)
def test_what_cannot_be_mixed_names_the_cure(folder: Path, config: dict[str, Any], problem: str) -> None:
    with pytest.raises(ForgetbenchError, match=problem):
        _mix(folder, **config)


def test_config_mistakes_name_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "mix.yaml"
    file.write_text(yaml.safe_dump({"sources": [{"files": ["a"]}]}) + "replay: {share: 1.5, files: [a]}\nsed: 3\n")
    with pytest.raises(ForgetbenchError) as e:
        read_mix(file)
    assert "mix.yaml:4" in str(e.value)
    assert "share" in str(e.value)
    assert "did you mean 'seed'?" in str(e.value)


def test_what_is_written_can_be_read_again(folder: Path) -> None:
    made = _mix(folder, replay={"share": 0.2, "files": ["general.txt"]})
    out = folder / "out.jsonl"
    out.write_bytes(to_jsonl(made.lines))
    found = read_rows([out])
    assert Counter(r.kind for r in found if not r.plain) == {k: n for k, n in _parts(made).items() if k != "replay"}
    assert sum(r.plain for r in found) == _parts(made)["replay"]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.lists(st.floats(0.01, 50), min_size=1, max_size=8))
def test_apportionment_adds_up_and_is_off_by_less_than_one(total: int, shares: list[float]) -> None:
    counts = apportion(total, {str(i): s for i, s in enumerate(shares)})
    assert sum(counts.values()) == total
    assert all(abs(counts[str(i)] - total * s / sum(shares)) < 1 + 1e-6 for i, s in enumerate(shares))
