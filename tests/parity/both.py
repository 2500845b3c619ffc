"""Run the same items through lm-eval and through us."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetbench.checkpoints.resolve import resolve
from forgetbench.checkpoints.spec import ModelSpec
from forgetbench.engines.registry import make_engine
from forgetbench.planning.plan import TaskJob, build_plan
from forgetbench.tasks.base import Task
from forgetbench.types import Item, ItemKey, Judged, Request, Response, Score, Style


@dataclass(frozen=True)
class Ours:
    """What we asked, were answered, and made of it, for one item."""

    request: Request
    response: Response
    judged: list[Judged]

    @property
    def prompt(self) -> str:
        assert self.request.prompt.text is not None
        return self.request.prompt.text

    @property
    def continuations(self) -> tuple[str, ...]:
        assert isinstance(self.request.body, Score)
        return self.request.body.continuations


def run_ours(
    task: Task,
    items: Sequence[Item],
    style: Style,
    folder: Path,
    num_fewshot: int,
    *,
    max_tokens: int | None = None,
    **engine_args: Any,
) -> dict[ItemKey, Ours]:
    checkpoint = resolve(ModelSpec(alias="tiny", path=str(folder), dtype="float32"))
    view = "ability" if style == "raw" else "chat"
    plan = build_plan([TaskJob(task, items, view, style, num_fewshot, max_tokens=max_tokens)], checkpoint)
    assert not plan.skipped
    engine = make_engine(checkpoint, **{"device": "cpu", "threads": 1, **engine_args})
    responses = {r.request_id: r for r in engine.run(plan.requests)}
    engine.close()
    by_key = {i.key: i for i in items}
    return {
        origin.item: Ours(
            request,
            responses[request.request_id],
            task.score(by_key[origin.item], responses[request.request_id]),
        )
        for request in plan.requests
        for origin in plan.origins[request.request_id]
    }


def run_lm_eval(
    manager: Any,
    tasks: Sequence[str],
    folder: Path,
    *,
    style: Style,
    num_fewshot: int | None,
    limit: int,
    batch_size: int,
    max_length: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """lm-eval's logged samples by task, in its order."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    for name in ("lm_eval", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    chat = style == "chat"
    with contextlib.redirect_stderr(io.StringIO()):
        model = HFLM(
            pretrained=str(folder),
            backend="causal",
            device="cpu",
            dtype="float32",
            batch_size=batch_size,
            max_length=max_length,
        )
        result = lm_eval.simple_evaluate(
            model=model,
            tasks=list(tasks),
            num_fewshot=num_fewshot,
            limit=limit,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            log_samples=True,
            bootstrap_iters=0,
            gen_kwargs=None if max_tokens is None else {"max_gen_toks": max_tokens},
            task_manager=manager,
        )
    assert result is not None
    samples: dict[str, list[dict[str, Any]]] = result["samples"]
    return samples
