"""Shards that are written here are read by safetensors, and bytes come out as they went in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from forgetbench.drift.shards import open_shards
from forgetbench.errors import UsageError
from forgetbench.merging.stream import Slot, encode, layout, opened, raw, same_bytes, write_index

pytestmark = pytest.mark.unit


def test_layout_fills_files_in_order_up_to_the_limit() -> None:
    slots = [Slot(f"t{i}", "F32", (10,)) for i in range(5)] + [Slot("large", "F32", (100,))]
    shards = layout(slots, limit=80)
    assert [[s.name for s in shard.slots] for shard in shards] == [["t0", "t1"], ["t2", "t3"], ["t4"], ["large"]]
    assert [s.file for s in shards] == [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)]
    assert all(sum(s.size for s in shard.slots) <= 80 for shard in shards[:3])
    (one,) = layout(slots)
    assert one.file == "model.safetensors"


def test_default_limit_is_5_gb() -> None:
    slots = [Slot(str(i), "BF16", (128_256, 4096)) for i in range(9)]
    shards = layout(slots)
    assert len(shards) > 1
    assert all(sum(s.size for s in shard.slots) <= 5e9 for shard in shards)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_is_written_reads_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = {"a": torch.randn(7, 5), "b": torch.randn(3), "c": torch.randn(()), "d": torch.randn(2, 3, 4)}
    values = {n: t.to(dtype) for n, t in values.items()}
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    save_file(values, tmp_path / "in" / "model.safetensors")
    shards = open_shards(tmp_path / "in")
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
    plan = layout([Slot(n, names[dtype], tuple(values[n].shape)) for n in values], limit=200)
    for shard in plan:
        with opened(tmp_path / "out", shard) as file:
            for slot in shard.slots:
                if dtype == torch.float64:
                    file.write(b"".join(raw(shards.entries[slot.name])))
                else:
                    file.write(encode(shards.read(slot.name), slot.dtype, slot.name))
    write_index(tmp_path / "out", plan)
    found: dict[str, torch.Tensor] = {}
    for shard in plan:
        found |= load_file(tmp_path / "out" / shard.file)
    assert found.keys() == values.keys()
    for name, tensor in values.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert set(open_shards(tmp_path / "out").entries) == set(values)
    assert (tmp_path / "out" / "model.safetensors.index.json").exists() == (len(plan) > 1)
    if len(plan) > 1:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in values.values())


def test_rounding_is_to_the_nearest_even() -> None:
    values = np.float32([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -0.0])
    stored = np.frombuffer(encode(values, "BF16", "t"), dtype="<u2")
    assert stored.tolist() == torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view("<u2").tolist()
    assert stored.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x8000]


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "F32"), (np.inf, "BF16"), (70_000.0, "F16")])
def test_what_is_no_finite_number_is_refused(value: float, dtype: str) -> None:
    with pytest.raises(UsageError, match=r"layer\.7: merged values are NaN or too large for"):
        encode(np.float32([1.0, value]), dtype, "layer.7")


def test_a_file_that_ends_early_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="announced"), opened(tmp_path, layout([Slot("t", "F32", (2,))])[0]) as file:
        file.write(b"1234")


def test_same_bytes(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        save_file({"t": torch.tensor([value, 5])}, tmp_path / name / "model.safetensors")
    a, b, c = (open_shards(tmp_path / n).entries["t"] for n in "abc")
    assert same_bytes([a, b])
    assert not same_bytes([a, b, c])
