"""`forgetbench doctor`: what this machine can do, each line ok, warn or fail with its cure."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from forgetbench.cli.output import console, print_json
from forgetbench.config import find_config, load_config
from forgetbench.errors import Exit, ForgetbenchError

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Line:
    level: Level
    what: str
    found: str
    cure: str = ""


def _library(name: str, distribution: str, required: bool, cure: str) -> Line:
    if importlib.util.find_spec(name) is None:
        return Line("fail" if required else "warn", distribution, "not installed", cure)
    return Line("ok", distribution, metadata.version(distribution))


def _vllm() -> Line:
    from forgetbench.engines.vllm_host import distribution

    package = distribution()
    if package is None:
        return Line("warn", "vllm", "not installed", "needed for engine vllm: pip install 'forgetbench[vllm]'")
    return Line("ok", "vllm", f"{package} {metadata.version(package)}")


def _gpu() -> Line:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Line("ok", "GPU", names)
    return Line("warn", "GPU", "none: runs on the CPU", "small models and `--limit` are fine; else use a GPU machine")


def _sandbox() -> Line:
    from forgetbench.scoring.sandbox import CURE, Sandbox

    sandbox = Sandbox()
    problem = sandbox.problem()
    sandbox.close()
    if problem is None:
        return Line("ok", "sandbox", "bubblewrap works: the code tasks can be run")
    return Line("warn", "sandbox", f"none for the code tasks: {problem}", CURE)


def checks(config: Path | None) -> list[Line]:
    """All checks; pure reading."""
    version = ".".join(map(str, sys.version_info[:3]))
    lines = [
        Line(
            "ok" if sys.version_info >= (3, 11) else "fail",
            "Python",
            version,
            "" if sys.version_info >= (3, 11) else "use 3.11 or newer",
        )
    ]
    lines.append(_library("torch", "torch", True, "pip install torch"))
    lines.append(_library("transformers", "transformers", True, "pip install transformers"))
    lines.append(_library("peft", "peft", False, "needed for LoRA adapters: pip install 'forgetbench[train]'"))
    lines.append(_vllm())
    lines.append(_library("ray", "ray", False, "needed for engine ray: pip install 'forgetbench[ray]'"))
    lines.append(_library("lm_eval", "lm-eval", False, "needed for lm_eval: tasks: pip install 'forgetbench[lm-eval]'"))
    lines.append(_library("datasets", "datasets", False, "needed for hub data: pip install 'forgetbench[hub]'"))
    if importlib.util.find_spec("torch") is not None:
        lines.append(_gpu())
    lines.append(_sandbox())
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    lines.append(
        Line("ok" if free > 2 else "warn", "disk", f"{free:.0f} GB free here", "" if free > 2 else "make room")
    )
    data = os.environ.get("FORGETBENCH_DATA")
    if data and not Path(data).is_dir():
        lines.append(Line("fail", "FORGETBENCH_DATA", f"{data} does not exist", "mend or unset it"))
    else:
        lines.append(Line("ok", "FORGETBENCH_DATA", data or "not set: benchmark data comes from the hub"))
    for key in ("HF_HUB_OFFLINE", "HF_HOME", "OPENAI_BASE_URL"):
        if os.environ.get(key):
            lines.append(Line("ok", key, os.environ[key]))
    for key in ("HF_TOKEN", "OPENAI_API_KEY"):
        lines.append(Line("ok", key, "set" if os.environ.get(key) else "not set"))  # never the key itself
    try:
        file = find_config(config)
        lines.append(Line("ok", "config", f"{file}: {', '.join(load_config(file).models)}"))
    except ForgetbenchError as e:
        lines.append(Line("warn", "config", str(e).splitlines()[0]))
    return lines


def doctor(config: Path | None, as_json: bool) -> None:
    lines = checks(config)
    if as_json:
        print_json({"checks": [asdict(line) for line in lines]})
    else:
        from rich.markup import escape

        out = console()
        for line in lines:
            mark = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}[line.level]
            cure = f"  ({line.cure})" if line.cure else ""
            out.print(f"{mark} {escape(line.what)}: {escape(line.found + cure)}", soft_wrap=True)
    if any(line.level == "fail" for line in lines):
        sys.exit(Exit.USAGE)
