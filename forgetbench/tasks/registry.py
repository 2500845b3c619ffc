"""Built-in tasks by name. A new benchmark is one file in this folder and one line here.

A name that begins with `lm_eval:` is a task or group of lm-eval's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from forgetbench.errors import UsageError
from forgetbench.tasks.base import BRIDGE, Task
from forgetbench.tasks.code_humaneval import HumanEval, HumanEvalPlus
from forgetbench.tasks.code_mbpp import Mbpp, MbppPlus
from forgetbench.tasks.gsm8k import Gsm8k
from forgetbench.tasks.ifeval import IfEval
from forgetbench.tasks.mmlu import Mmlu
from forgetbench.tasks.open_questions import OpenQuestions
from forgetbench.tasks.source import DataSource
from forgetbench.tasks.truthfulqa import TruthfulQa, TruthfulQaGen
from forgetbench.types import Style

_TASKS: Mapping[str, Callable[..., Task]] = {
    "gsm8k": Gsm8k,
    "humaneval": HumanEval,
    "humaneval_plus": HumanEvalPlus,
    "ifeval": IfEval,
    "mbpp": Mbpp,
    "mbpp_plus": MbppPlus,
    "mmlu": Mmlu,
    "mmlu_open": OpenQuestions,
    "truthfulqa": TruthfulQa,
    "truthfulqa_gen": TruthfulQaGen,
}

TASK_NAMES: tuple[str, ...] = tuple(_TASKS)
CODE_TASKS = frozenset({"humaneval", "humaneval_plus", "mbpp", "mbpp_plus"})
"""They run programs and take the option `unsafe_exec`."""


def default_num_fewshot(name: str, style: Style) -> int:
    """How many shots a task has where a suite does not say."""
    if name.startswith(BRIDGE):
        from forgetbench.tasks.lm_eval_prompts import OWN_SHOTS

        return OWN_SHOTS
    known: Mapping[Style, int] = getattr(_TASKS[name], "default_num_fewshot", {})
    return known.get(style, 0)


def get_task(name: str, /, *, source: DataSource, **options: Any) -> Task:
    """A built-in task; nothing is read until its `load`. Raises UsageError for a name that is not known.

    One of lm-eval's is read at once, and from where lm-eval reads it: `source` is for the built-in ones.
    """
    if name.startswith(BRIDGE):
        from forgetbench.tasks.lm_eval_bridge import LmEvalTask

        return LmEvalTask(name.removeprefix(BRIDGE), **options)
    if name not in _TASKS:
        close = difflib.get_close_matches(name, TASK_NAMES, 1)
        cure = f"did you mean '{close[0]}'?" if close else f"choose one of {', '.join(TASK_NAMES)}"
        raise UsageError(f"task '{name}'", "there is no such task", cure)
    return _TASKS[name](source, **options)
