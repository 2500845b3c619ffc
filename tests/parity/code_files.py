"""The four code tasks over our files, and published programs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from forgetbench.tasks.code import CodeTask
from forgetbench.tasks.registry import CODE_TASKS, get_task
from forgetbench.tasks.source import DataSource

NAMES = sorted(CODE_TASKS)
SIZES = {"humaneval": 164, "humaneval_plus": 164, "mbpp": 500, "mbpp_plus": 378}


def code_tasks(data_dir: Path) -> dict[str, CodeTask]:
    made: dict[str, CodeTask] = {}
    for name in NAMES:
        task = get_task(name, source=DataSource(data_dir=data_dir))
        assert isinstance(task, CodeTask)
        made[name] = task
    return made


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
