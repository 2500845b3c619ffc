"""Requests that belong to no run, asked of one checkpoint through the project's engines and response cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from forgetbench import running
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.types import Message, Prompt, Request, Response
from forgetbench.workspace import Workspace

Ask = Callable[[Sequence[Request]], Mapping[str, Response]]
"""Answers by request id. What the engine failed on is not among them."""
TRIES = 2


def in_chat(point: Checkpoint, messages: Sequence[Message]) -> tuple[Prompt, str]:
    """A conversation open for the answer, and what the template writes between the two (a blank, mostly nothing).

    Training sees that blank as part of the answer, where its first token would be another without it. Raises UsageError
    where the template changes the prompt once it is answered: nothing can then be read after the prompt.
    """
    text = point.render_chat(messages)
    mark = "Answer"
    answered = point.render_chat(messages, mark)
    if not (answered.startswith(text) and answered.endswith(mark)):
        problem = "its chat template changes the prompt once it is answered"
        raise UsageError(f"models.{point.alias}", problem, "open the assistant's turn in the template's prompt")
    return Prompt(text=text, add_special_tokens=False), answered[len(text) : -len(mark)]


@contextmanager
def asking(ws: Workspace, point: Checkpoint, say: Callable[[str], None], *, use_cache: bool = True) -> Iterator[Ask]:
    """An engine for the block. It is made with the first request that is not empty, so that a block which asks nothing
    loads nothing. Answers go into the response cache: the same command finds them again after an interruption.

    Asking raises EngineError where the engine dies, UsageError where it cannot serve such requests.
    """
    from forgetbench.engines.base import Engine
    from forgetbench.engines.pool import EnginePool
    from forgetbench.runs.asking import check_capabilities
    from forgetbench.runs.codec import is_final
    from forgetbench.runs.signals import sigterm_is_ctrl_c

    with EnginePool() as pool:
        make = running.engine_maker(ws, pool, [point], (), say, use_cache)
        engine: Engine | None = None

        def ask(requests: Sequence[Request]) -> Mapping[str, Response]:
            nonlocal engine
            answers: dict[str, Response] = {}
            for _ in range(TRIES):
                todo = [r for r in {r.request_id: r for r in requests}.values() if r.request_id not in answers]
                if not todo:
                    break
                if engine is None:
                    engine = make()
                check_capabilities(engine.capabilities, todo)
                with sigterm_is_ctrl_c():
                    answers |= {r.request_id: r for r in engine.run(todo) if is_final(r)}
            return {key: found for key, found in answers.items() if found.error is None}

        try:
            yield ask
        finally:
            if engine is not None:
                engine.close()
