"""A checkpoint of a running fine-tune judged by our own gate, without a trace in the training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.training.stopping import Judged

if TYPE_CHECKING:
    from forgetbench.flow import Judgement, Say
    from forgetbench.training.grading import Grader

Judge = Callable[[int, Path], Judged]
"""Of a step and the folder of its checkpoint."""


def judge_with(grader: Grader, name: str, say: Say) -> Judge:
    """Judge by a grader's suite and policy. Runs are kept under `NAME-STEP`: a checkpoint judged before is not asked
    again."""
    from forgetbench.runs.files import safe_name

    def judge(step: int, folder: Path) -> Judged:
        with undisturbed():
            return judged(grader.grade(f"{safe_name(name)}-{step}", folder, say))

    return judge


def judged(found: Judgement) -> Judged:
    """Of a comparison's verdict what a training log keeps."""
    verdict = found.verdict
    return Judged(verdict.state, verdict.reason, {r.rule.name: r.delta for r in verdict.rules})


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it random numbers may be drawn and threads set; afterwards all is as it was. A resumed run, which judges
    nothing again, then goes on from the same state."""
    import numpy as np
    import torch

    python, numpy_, cpu, threads = (
        random.getstate(),
        np.random.get_state(),
        torch.get_rng_state(),
        torch.get_num_threads(),
    )
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    grad = torch.is_grad_enabled()
    try:
        if devices:
            torch.cuda.empty_cache()  # the checkpoint is loaded beside the model in training
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
