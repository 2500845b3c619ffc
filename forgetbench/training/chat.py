"""Conversations under a chat template, with the exact characters that the assistant says.

Two ways to find them. A template with a `{% generation %}` block marks them itself. Any other is rendered up to each
assistant turn, with the opening of the answer, and up to its end; what the second adds to the first is the answer.
That only holds where each of these is a prefix of the whole: a template that rewrites earlier turns (Qwen3 drops their
thinking) breaks it, and is an error with file and line, since a guessed mask would train on the wrong tokens unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forgetbench.checkpoints.template import FIXED_DATE
from forgetbench.errors import UsageError

Turn = Mapping[str, Any]
Turns = Literal["all", "last"]
Span = tuple[int, int]
_BLOCK = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A tokenizer's chat template and what it is rendered with."""

    source: str
    special_tokens: Mapping[str, Any]
    """bos_token, eos_token, ...: what the template may name."""
    specials: tuple[str, ...] = ()
    """Every special token as text: an answer ends with the last of them, not with a line end after it."""

    @property
    def marks(self) -> bool:
        """Whether the template has a generation block."""
        return _BLOCK.search(self.source) is not None


def template_of(tokenizer: Any) -> Template | None:
    """The chat template of a tokenizer of transformers; None where it has none."""
    source = tokenizer.chat_template
    if isinstance(source, Mapping):
        source = source.get("default")
    if not source:
        return None
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if getattr(t, "special", True)]
    specials = tuple(dict.fromkeys([*map(str, tokenizer.all_special_tokens), *added]))
    return Template(str(source), dict(tokenizer.special_tokens_map), specials)


def render(
    template: Template, turns: Sequence[Turn], where: str, *, open_answer: bool = False, tools: Any = None
) -> tuple[str, list[Span]]:
    """The rendered text and the spans of its generation blocks (none where the template has no such block).

    `strftime_now` answers a fixed date: the same data must give the same tokens tomorrow. Raises UsageError for
    whatever the template raises.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, spans = render_jinja_template(
            [[dict(turn) for turn in turns]],
            tools=tools,
            chat_template=template.source,
            return_assistant_tokens_mask=template.marks,
            add_generation_prompt=open_answer,
            strftime_now=FIXED_DATE.strftime,
            **template.special_tokens,
        )
    except Exception as error:  # a template is foreign code: whatever it raises is the user's to see in one line
        roles = [str(turn.get("role")) for turn in turns]
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            where, f"the chat template fails on roles {roles}: {reason}", "mend the template or the turns"
        ) from None
    return str(texts[0]), [(int(s), int(e)) for s, e in spans[0]] if template.marks else []


def answers(
    template: Template, turns: Sequence[Turn], which: Turns, where: str, *, tools: Any = None
) -> tuple[str, list[Span]]:
    """The rendered conversation, and the character spans of its assistant turns: all of them, or the last.

    Raises UsageError where there is no assistant turn, the template fails, or its answers cannot be told apart.
    """
    places = [i for i, turn in enumerate(turns) if turn.get("role") == "assistant"]
    if not places:
        raise UsageError(where, "has no assistant turn", "add the answer, or give it as plain text")
    text, marked = render(template, turns, where, tools=tools)
    if template.marks:
        spans = [(s, e) for s, e in marked if e > s]
        if not spans:
            raise UsageError(where, "the template's generation block marks nothing", "mend the template's block")
        if which == "all":
            return text, spans
        if len(spans) != len(places):
            problem = f"the template marks {len(spans)} answers in {len(places)} assistant turns"
            raise UsageError(where, problem, "use `turns: all`, or one generation block for each turn")
        return text, spans[-1:]
    wanted = places if which == "all" else places[-1:]
    return text, [_between(template, turns, i, text, where, tools) for i in wanted]


def _between(template: Template, turns: Sequence[Turn], i: int, text: str, where: str, tools: Any) -> Span:
    """Where turn `i` begins and ends in the whole, by rendering up to its opening and up to its end."""
    opened, _ = render(template, turns[:i], where, open_answer=True, tools=tools)
    closed = text if i + 1 == len(turns) else render(template, turns[: i + 1], where, tools=tools)[0]
    if not closed.startswith(opened) or not text.startswith(closed):
        raise UsageError(
            where,
            f"the chat template renders turn {i + 1} otherwise within the whole conversation, so that its answer "
            "cannot be masked",
            "put a {% generation %} block into the template, use `turns: last`, or one answer for each conversation",
        )
    start, end = len(opened), len(closed)
    trimmed = closed[start:end].rstrip()
    if trimmed.endswith(template.specials or ("\0",)):  # the line end behind the closing token is no part of the answer
        end = start + len(trimmed)
    if end <= start:
        raise UsageError(where, f"the chat template renders nothing for turn {i + 1}", "mend the template or the turn")
    return start, end


def inside(offsets: Sequence[Span], spans: Sequence[Span]) -> NDArray[np.float32]:
    """For each token, by its characters, 1 where it belongs to a span, else 0: where it begins within it.

    A token that begins before a span and reaches into it is the prompt's: at inference the prompt ends there.
    """
    starts = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)[:, 0]
    mask = np.zeros(len(starts), dtype=np.float32)
    for s, e in spans:
        mask[(starts >= s) & (starts < e)] = 1.0
    return mask
