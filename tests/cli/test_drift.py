"""`forgetbench drift` on the demo's checkpoints and on what has no weights; the page and its heat map."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from forgetbench.cli.drift import drift
from forgetbench.drift import Drift
from forgetbench.drift import drift as compare
from forgetbench.drift.reading import percent
from forgetbench.drift.weights import Side
from forgetbench.errors import UsageError
from forgetbench.report import drift as drift_page
from forgetbench.report import page
from forgetbench.workspace import open_workspace
from tests.drift import made
from tests.report.hostile import ALL

from . import workspace


def pair(tmp_path: Path) -> Drift:
    after = {n: t + 0.1 * t.abs() for n, t in made.tensors().items()}
    return compare(made.save(tmp_path / "base", made.tensors()), made.save(tmp_path / "sft", after))


@pytest.mark.slow
def test_end_to_end_on_the_demo(demo_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drift.html"
    ws = open_workspace(demo_world / "forgetbench.yaml", models=["base", "sft_v2"])
    drift(ws, out=out, directions=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["report"] == str(out)
    assert (told["base"], told["candidate"]) == ("base", "sft_v2")
    assert told["notes"] == ["Both take the output head from the embedding: it is counted once."]
    assert told["skipped"] == told["only_base"] == told["only_candidate"] == []
    from safetensors.torch import load_file

    before, after = (load_file(demo_world / "models" / m / "model.safetensors") for m in ("base", "sft_v2"))
    assert {t["name"] for t in told["tensors"]} == set(before)
    for t in told["tensors"]:
        if t["spectrum"] is None:
            continue
        expected = made.direct(before[t["name"]], after[t["name"]])
        assert t["relative"] == pytest.approx(expected["relative"], rel=1e-5)
        assert t["spectrum"]["stable_rank"]["value"] == pytest.approx(expected["stable_rank"], rel=1e-4)
        assert t["spectrum"]["effective_rank"]["value"] == pytest.approx(expected["effective_rank"], rel=1e-4)
    (rows,) = told["tokens"]
    assert {t["text"] for t in rows["tokens"]} >= {"<|user|>", "<|assistant|>", "<|end|>"}
    assert out.read_text(encoding="utf-8").count('<rect class="d-cell" x=') == 3 * 7


@pytest.mark.slow
def test_a_gentle_fine_tune_moves_least(demo_world: Path) -> None:
    models = demo_world / "models"
    v1 = Side("sft_v1", models / "sft_v1")
    gentle = compare(v1, Side("sft_null", models / "sft_null"), directions=False).total.relative
    careless = compare(v1, Side("sft_v2", models / "sft_v2"), directions=False).total.relative
    assert gentle is not None
    assert careless is not None
    assert 0 < 2 * gentle < careless


@pytest.mark.unit
def test_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pair(tmp_path)
    config = {"models": {"base": {"path": "base"}, "sft": {"path": "sft"}}}
    ws = open_workspace(workspace.write(tmp_path, forgetbench__yaml=config), models=["base", "sft"])
    drift(ws, out=None, directions=True, as_json=False)
    out = capsys.readouterr().out
    assert "The weights moved by 10 % of their Frobenius norm, in 11 of 11 tensors." in out
    assert re.search(r"mlp\.down_proj +10 %", out)
    assert "counted once" in out


@pytest.mark.unit
def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    ws = open_workspace(workspace.write(tmp_path), models=["base", "sft"])
    with pytest.raises(UsageError, match=r"model 'base': has no weights to read \(engine: scripted\)"):
        drift(ws, out=None, directions=True, as_json=False)


@pytest.mark.unit
def test_the_page_is_inert_and_whole(tmp_path: Path) -> None:
    found = replace(pair(tmp_path), candidate="<script>alert(1)</script>", notes=tuple(ALL))
    text = drift_page.render(found)
    assert "<script" not in text
    assert "style=" not in text
    assert "default-src 'none'; style-src 'sha256-" in unescape(text)
    assert text.count('<rect class="d-cell" x=') == 3 * 2
    assert all(t.name in text for t in found.tensors)
    out = page.write(drift_page.render(found), tmp_path / "deep" / "drift.html")
    assert out.read_bytes() == text.encode("utf-8", "replace")
    with pytest.raises(UsageError, match="cannot be written"):
        page.write(drift_page.render(found), tmp_path / "base" / "config.json" / "drift.html")


@pytest.mark.unit
def test_ink_follows_the_change(tmp_path: Path) -> None:
    before = made.tensors()
    after = {n: t.clone() for n, t in before.items()}
    for layer, size in ((0, 0.1), (1, 0.2), (2, 0.0)):
        after[f"model.layers.{layer}.mlp.down_proj.weight"] *= 1 + size
    found = compare(made.save(tmp_path / "base", before), made.save(tmp_path / "sft", after))
    (drawn,) = drift_page.heat_maps(found)
    assert drawn["scale"] == pytest.approx(0.2, rel=1e-4)
    cells = re.findall(r'fill-opacity="([\d.]+)"><title>layer (\d), ([\w.]+): ([^;<]+)', str(drawn["svg"]))
    ink = {(int(layer), kind): (float(depth), told) for depth, layer, kind, told in cells}
    assert ink[2, "mlp.down_proj"] == ink[0, "self_attn.q_proj"] == (0.0, "0 %")
    assert 0 < ink[0, "mlp.down_proj"][0] < ink[1, "mlp.down_proj"][0] == 0.92
    assert ink[1, "mlp.down_proj"][1] == "20 %"


@pytest.mark.unit
def test_long_names_stand_upright(tmp_path: Path) -> None:
    import torch

    kinds = [f"block.a_very_long_name_{c}_indeed" for c in "abcdefgh"]
    before = {f"layers.0.{k}.weight": torch.ones(3, 3) for k in kinds}
    found = compare(made.save(tmp_path / "a", before), made.save(tmp_path / "b", {n: 2 * t for n, t in before.items()}))
    (drawn,) = drift_page.heat_maps(found)
    assert str(drawn["svg"]).count("rotate(-90)") == 8


@pytest.mark.unit
@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "0 %"), (0.136, "14 %"), (0.0314, "3.1 %"), (0.00042, "0.042 %"), (1.0, "100 %"), (3e-10, "3.0e-08 %")]
)  # fmt: skip
def test_percent(share: float, told: str) -> None:
    assert percent(share) == told


@pytest.mark.unit
def test_an_adapter_of_the_config_is_read_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.drift.test_adapter import DOWN, Q, adapter

    made.save(tmp_path / "base", made.tensors())
    made.save(tmp_path / "copy", made.tensors())
    adapter(tmp_path / "lora")
    models = {"base": {"path": "base"}, "sft": {"path": "copy", "adapter": "lora"}}
    config = workspace.write(tmp_path, forgetbench__yaml={"models": models})
    drift(open_workspace(config, models=["base", "sft"]), out=None, directions=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    changed = {t["name"]: t["spectrum"] for t in told["tensors"] if t["delta_norm"]}
    assert set(changed) == {f"{Q}.weight", f"{DOWN}.weight"}
    # The base's files are another copy with the same bytes: known by their digest.
    assert all(spectrum["method"] == "factors" for spectrum in changed.values())
    assert all(spectrum["stable_rank"]["value"] <= 3 for spectrum in changed.values())
