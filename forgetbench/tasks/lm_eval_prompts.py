"""What lm-eval asks of a document, as PromptSpecs: its own contexts and requests, only carried over.

    raw   the plain text that its `fewshot_context` makes
    chat  the messages that it would hand to a chat template (shots as turns), templated by planning
    a beginning of the answer (`gen_prefix`) is the prefill

Requests with the same context become one question with several continuations; what is left are further
questions of the same item (`PromptSpec.also`): one context for each option (WinoGrande), the options without any
context (mutual information).

Worked examples are drawn as its evaluator draws them: one generator for the task, advanced document by document.
So the prompts of the whole split are made, in order, before any item is chosen, and a prompt never depends on a
limit or a selection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from forgetbench.errors import UsageError
from forgetbench.tasks.lm_eval_load import FEWSHOT_SEED, Leaf, seeded
from forgetbench.types import Message, PromptSpec, Style

OWN_SHOTS = -1
"""A number of worked examples: the one that each task of lm-eval has of its own."""
_MAX_TOKENS = 256
"""What lm-eval's models generate where a task does not say."""
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm-eval's names for the limit, the first that is there counts."""


class Conversation(str):
    """Messages in the place where lm-eval keeps a prompt: a text to it, readable again by us."""

    __slots__ = ()

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> Conversation:
        """Called by lm-eval in the place of a chat template. Without a generation prompt the last message is the
        beginning of the answer."""
        return cls(json.dumps([not add_generation_prompt, list(messages)], ensure_ascii=False))

    def read(self) -> tuple[tuple[Message, ...], str]:
        """(messages, prefill)."""
        begun, turns = json.loads(self)
        messages = tuple(Message(cast(Literal["system", "user", "assistant"], t["role"]), t["content"]) for t in turns)
        return (messages[:-1], messages[-1].content) if begun else (messages, "")


class Prompts:
    """The questions of one task of lm-eval, made when they are first wanted."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._drawn: dict[tuple[Style, int], list[PromptSpec]] = {}

    def shots(self, wanted: int) -> int:
        """How many worked examples: as lm-eval's evaluator decides where a number is asked for."""
        own = self._leaf.task.config.num_fewshot
        # A task that sets 0 has its examples in its text, or cannot take any: lm-eval never overrules it.
        return int(own or 0) if wanted == OWN_SHOTS or own == 0 else wanted

    def spec(self, position: int, style: Style, wanted: int) -> PromptSpec:
        """Of the document at `position`. Raises UsageError where lm-eval cannot make its prompt."""
        shots = self.shots(wanted)
        if shots == 0:  # nothing is drawn, so that no other document matters
            with seeded():
                return self._make(position, style, 0)
        if (style, shots) not in self._drawn:
            self._leaf.task.set_fewshot_seed(FEWSHOT_SEED)
            with seeded():
                self._drawn[style, shots] = [self._make(p, style, shots) for p in range(len(self._leaf.docs))]
        return self._drawn[style, shots][position]

    def _make(self, position: int, style: Style, shots: int) -> PromptSpec:
        where = self._leaf.source(position)
        try:
            instances = make_instances(self._leaf, position, style, shots)
        except Exception as error:  # templates and functions of the task's own
            line = " ".join(str(error).split())[:200]
            problem = f"lm-eval cannot make its prompt with {shots} shots ({type(error).__name__}: {line})"
            raise UsageError(where, problem, "check the task's YAML, or ask for fewer shots") from None
        first, *also = _questions(instances, style, where)
        return replace(first, also=tuple(also))


def make_instances(leaf: Leaf, position: int, style: Style, shots: int) -> list[Any]:
    """lm-eval's own requests (Instance) for a document, in its order."""
    task, doc = leaf.task, leaf.docs[position]
    chat = style == "chat"
    template = Conversation.of if chat else None
    context = task.fewshot_context(
        doc,
        num_fewshot=shots,
        system_instruction=None,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        chat_template=template,
        gen_prefix=task.doc_to_prefix(doc),
    )
    made = task.construct_requests(
        doc=doc,
        ctx=context,
        metadata=(leaf.name, position, leaf.repeats),
        apply_chat_template=chat,
        chat_template=template,
    )
    return sorted(made, key=lambda i: int(i.idx)) if isinstance(made, list) else [made]


def _questions(instances: Sequence[Any], style: Style, where: str) -> list[PromptSpec]:
    """One spec for each run of requests that share a context."""
    specs: list[PromptSpec] = []
    before: Any = None
    for instance in instances:
        arguments, kind = instance.args, instance.request_type
        if kind == "loglikelihood":
            context, continuation = arguments[0], str(arguments[1])
            if specs and context == before:
                specs[-1] = replace(specs[-1], choices=(*specs[-1].choices, continuation))
            else:
                asked = _asked(context, style, where)
                specs.append(replace(asked, form="rank", choices=(continuation,)))
            before = context
            continue
        before = None
        if kind == "generate_until":
            settings = arguments[1]
            asked = _asked(arguments[0], style, where)
            specs.append(replace(asked, form="generate", stop=_stop(settings), max_tokens=_max_tokens(settings)))
        elif kind == "loglikelihood_rolling":
            text = PromptSpec("rank", "", choices=(str(arguments[0]),), answer_delimiter="", plain=True)
            specs.append(text)
        else:
            raise UsageError(where, f"asks lm-eval for '{kind}'", "choose a task that ranks or generates text")
    return specs


def _asked(context: Any, style: Style, where: str) -> PromptSpec:
    """The context alone. lm-eval's continuations bring their own delimiter, so that ours is empty."""
    if isinstance(context, Conversation):
        messages, prefill = context.read()
        return PromptSpec("rank", "", messages=messages, prefill=prefill, answer_delimiter="")
    if style == "chat" and context:
        problem = "its task writes text around the conversation, which no template could render"
        raise UsageError(where, problem, "set `views: [ability]` for this task")
    return PromptSpec("rank", str(context), answer_delimiter="", plain=style == "chat")


def _stop(settings: Mapping[str, Any]) -> tuple[str, ...]:
    until = settings.get("until") or ()
    return tuple(s for s in ([until] if isinstance(until, str) else until) if s)


def _max_tokens(settings: Mapping[str, Any]) -> int:
    return int(next((settings[name] for name in _LENGTHS if settings.get(name) is not None), _MAX_TOKENS))


def samples(settings: Mapping[str, Any]) -> bool:
    """Whether lm-eval would draw from the distribution with these generation settings."""
    chosen = settings.get("do_sample")
    return float(settings.get("temperature") or 0.0) > 0 if chosen is None else bool(chosen)
