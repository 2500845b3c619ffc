"""Which GPUs there are, and what may run on them side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forgetbench import devices
from forgetbench.errors import UsageError

pytestmark = pytest.mark.unit


def cards(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, ["0", "1"]),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        (" 0 , 1 ", ["0", "1"]),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
    ],
)
def test_visible_gpus_are_those_of_the_variable_or_all(tmp_path: Path, named: str | None, expected: list[str]) -> None:
    folder = cards(tmp_path, "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null")
    environment = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert devices.visible(environment, folder) == expected


def test_without_a_driver_there_is_no_gpu_whatever_the_variable_says(tmp_path: Path) -> None:
    assert devices.visible({"CUDA_VISIBLE_DEVICES": "0,1"}, cards(tmp_path, "nvidiactl")) == []


def test_counting_imports_no_torch() -> None:
    code = "import sys; from forgetbench import devices; devices.visible(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_flag_is_read() -> None:
    assert devices.parse("auto") is None
    assert devices.parse("0") == ["0"]
    assert devices.parse("1, 0") == ["1", "0"]


@pytest.mark.parametrize("value", ["", "0,", "cuda:0", "0,0", "-1", "all"])
def test_a_flag_that_names_no_gpu_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"--devices: .*use auto, or names"):
        devices.parse(value)


def point(engine: str = "transformers", **engine_args: Any) -> Any:
    return SimpleNamespace(spec=SimpleNamespace(engine=engine, engine_args=engine_args))


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible", lambda: ["0", "1"])


@pytest.mark.usefixtures("two")
def test_auto_is_for_engines_that_compute_on_a_gpu_here() -> None:
    assert devices.side_by_side([point(), point("vllm")], None) == ["0", "1"]
    for other in ("scripted", "openai", "ray"):
        assert devices.side_by_side([point(), point(other)], None) == []
        assert devices.side_by_side([point(), point(other)], ["1", "2"]) == ["1", "2"]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "engine_args",
    [{"tensor_parallel_size": 2}, {"pipeline_parallel_size": 2}, {"device_map": "auto"}, {"device": "cuda:1"}],
)
def test_a_model_that_places_itself_makes_all_go_in_turn(engine_args: dict[str, Any]) -> None:
    for named in (None, ["0", "1"]):
        assert devices.side_by_side([point(), point(**engine_args)], named) == []


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("engine_args", [{"tensor_parallel_size": 1}, {"device": "auto"}, {"device": "cuda"}])
def test_one_that_needs_a_single_device_does_not(engine_args: dict[str, Any]) -> None:
    assert devices.side_by_side([point(), point(**engine_args)], None) == ["0", "1"]
