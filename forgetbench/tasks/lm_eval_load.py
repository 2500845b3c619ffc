"""lm-eval's own tasks and groups, loaded by name, with what a suite has to know of each.

Every rule of lm-eval that decides what is asked stays lm-eval's: this file only finds the task, fixes the seeds
that its evaluator fixes, and refuses what cannot be asked here (programs without a sandbox, images, sound).
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.tasks.base import BRIDGE, folder_name

FEWSHOT_SEED = 1234
"""Of lm-eval's evaluator, for the draw of worked examples."""
_PYTHON_SEED, _NUMPY_SEED = 0, 1234
"""Of the same: some tasks shuffle their options with these generators while they load."""
_LOGGERS = ("lm_eval", "datasets", "huggingface_hub", "fsspec")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One of lm-eval's tasks (not a group), its documents read."""

    name: str
    task_type: str
    stratum: str | None
    """Its name where it is one of several in a group."""
    task: Any
    """lm_eval.api.task.Task."""
    docs: tuple[Mapping[str, Any], ...]
    """Of the evaluated split, in lm-eval's order, as its `process_docs` made them."""

    def source(self, position: int) -> str:
        return f"{BRIDGE}{self.name}[{position}]"

    @property
    def repeats(self) -> int:
        return int(getattr(self.task.config, "repeats", None) or 1)


def load_leaves(name: str, include: Path | None, task_type: str | None) -> tuple[Leaf, ...]:
    """The tasks behind a name: itself, or all of a group or tag in lm-eval's order.

    `include`: a folder of YAML files that is searched instead of lm-eval's own thousands (which takes seconds).
    `task_type` replaces the one made of group and task. Raises UsageError in one line for whatever is wrong.
    """
    where = f"task '{BRIDGE}{name}'"
    if find_spec("lm_eval") is None:
        raise UsageError(where, "lm-eval is not installed", "install forgetbench[lm-eval]")
    if include is not None and not include.is_dir():
        raise UsageError(where, f"include: there is no folder {include}", "name a folder of lm-eval's YAML files")
    with _quiet(), seeded():
        manager = _manager(include)
        entry = manager.task_index.get(name)
        if entry is None:
            raise UsageError(where, f"{_place(include)} has no such task, group or tag", _known(name, manager, include))
        if (entry.cfg or {}).get("unsafe_code"):  # before its data and metrics are fetched for nothing
            raise _unsafe(where)
        try:
            loaded = manager.load([name])["tasks"]
            docs = {leaf: tuple(task.eval_docs) for leaf, task in loaded.items()}
        except Exception as error:  # loading runs foreign code: data sets, metrics and a task's own functions
            raise UsageError(where, f"cannot be loaded ({_one_line(error)})", _cure(error)) from None
    several = entry.kind.name in ("GROUP", "TAG")
    leaves = []
    for leaf, task in loaded.items():
        _refuse(f"task '{BRIDGE}{leaf}'", task, len(docs[leaf]))
        # A task of its own stands for itself: lm-eval's tags say how it is asked as often as what about.
        path = _task_type(task_type, folder_name(name), folder_name(leaf))
        leaves.append(Leaf(leaf, path, leaf if several else None, task, docs[leaf]))
    if not leaves:
        raise UsageError(where, "is an empty group", "name a task or a group that has some")
    return tuple(leaves)


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Python's and numpy's generators as lm-eval's evaluator seeds them; afterwards as they were."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    random.seed(_PYTHON_SEED)
    np.random.seed(_NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and progress bars of loading, which say nothing about the run."""
    import datasets

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [log.level for log in loggers]
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


@functools.lru_cache(maxsize=8)
def _manager(include: Path | None) -> Any:
    """lm-eval's index of names; over its own tasks it takes seconds, so it is made once and only when needed."""
    from lm_eval.tasks import TaskManager

    if include is None:
        return TaskManager()
    return TaskManager(include_defaults=False, include_path=str(include))


def _place(include: Path | None) -> str:
    return "lm-eval" if include is None else str(include)


def _known(name: str, manager: Any, include: Path | None) -> str:
    close = difflib.get_close_matches(name, manager.all_tasks, 3)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    if include is not None:
        shown = ", ".join(manager.all_tasks[:10])
        return f"it has {shown}" if shown else "put YAML files with `task:` or `group:` in it"
    return "`lm-eval ls tasks` prints the names"


def _task_type(given: str | None, above: str, leaf: str) -> str:
    if given is None:
        return f"{above}/{leaf}"
    return given if "/" in given else f"{given}/{leaf}"


def _unsafe(where: str) -> UsageError:
    problem = "runs the model's programs in lm-eval's own process, without a sandbox"
    return UsageError(where, problem, "use humaneval, humaneval_plus, mbpp or mbpp_plus")


def _refuse(where: str, task: Any, n_docs: int) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise _unsafe(where)
    if getattr(task, "MULTIMODAL", False):
        raise UsageError(where, "asks about images or sound", "choose a task of texts")
    if not n_docs:
        raise UsageError(where, "its evaluated split is empty", "check the data files that its YAML names")


def _cure(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "install what it names"
    return (
        "run once online so that its data set is in the cache, or give `include:` a folder of YAML files that load "
        "local ones"
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def version_of(leaves: Sequence[Leaf]) -> str:
    """lm-eval's version and 8 hex digits over the definitions of the tasks: how they ask, filter and score.

    Where the data lies is left out, and so are addresses in memory, which a function without source shows.
    """
    import lm_eval

    described = []
    for leaf in leaves:
        config = leaf.task.dump_config()
        kept = {k: v for k, v in config.items() if k not in ("metadata", "dataset_kwargs")}
        described.append([leaf.name, str(leaf.task.VERSION), kept])
    text = re.sub(r" at 0x[0-9a-f]+", "", json.dumps(described, sort_keys=True, default=str))
    return f"{lm_eval.__version__}+{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
