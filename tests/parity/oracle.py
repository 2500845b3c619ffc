"""Feed our files to lm-eval's own task definitions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def include(folder: Path, name: str, registered: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write `folder/name.yaml`: the registered task, its documents replaced by ours."""
    files = {}
    for split, docs in splits.items():
        path = folder / f"{name}_{split}.jsonl"
        path.write_text("".join(json.dumps(d) + "\n" for d in docs), encoding="utf-8")
        files[split] = str(path)
    entry = {
        "include": str(registered),
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(entry), encoding="utf-8")
