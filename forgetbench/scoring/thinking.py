"""Tell what a model thinks from what it answers, by the tags of its chat template.

What it covers: blocks between an opening and a closing tag, anywhere in the text; a block whose opening tag
the template itself wrote into the prompt (the text then holds the closing tag only); a block that never ends.
What it does not: thinking without tags; tags that are special tokens of the tokenizer, since decoding drops
them before the text is seen (`hidden_tags` finds those, and the plan says so).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Tags(NamedTuple):
    """An opening tag and the closing one."""

    open: str
    close: str


COMMON = (
    Tags("<think>", "</think>"),
    Tags("<thinking>", "</thinking>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("◁think▷", "◁/think▷"),
    Tags("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""Looked for whatever the template says; a template adds its own."""

_TAG = re.compile(
    r"""(?P<before>[<\[])/(?P<name>[A-Za-z_|:]*(?:think|thought|reason|reflect|scratch|analysis)[A-Za-z_|:]*)
        (?P<after>[>\]])""",
    re.IGNORECASE | re.VERBOSE,
)


_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")


class Split(NamedTuple):
    """A text taken apart."""

    answer: str
    """What is left without the blocks; the text as it is where there was none."""
    thinking: str
    """The blocks, joined."""
    closed: bool
    """False: the last block never ended, so no answer followed it."""

    @property
    def has_thinking(self) -> bool:
        return bool(self.thinking) or not self.closed


def template_tags(template: str | None) -> tuple[Tags, ...]:
    """The tags of a chat template's own, then the common ones, each once.

    A template's tag is a pair such as `<reasoning>` and `</reasoning>` of which it holds the closing one:
    templates cut earlier turns there.
    """
    found = [Tags(f"{m['before']}{m['name']}{m['after']}", m.group()) for m in _TAG.finditer(template or "")]
    return tuple(dict.fromkeys((*found, *COMMON)))


def opened_by(prompt: str, tags: Iterable[Tags]) -> Tags | None:
    """The tag that a rendered prompt ends in: the model then begins inside a block."""
    end = prompt.rstrip()
    return next((t for t in tags if end.endswith(t.open)), None)


def hidden_tags(special: Iterable[str], tags: Iterable[Tags]) -> tuple[str, ...]:
    """Those tags that are special tokens: decoding drops them, and thinking looks like an answer."""
    names = set(special)
    return tuple(t.close for t in tags if t.close in names)


def split_thinking(text: str, tags: Iterable[Tags] = COMMON, opened: Tags | None = None) -> Split:
    """Take a text apart (see the module's docstring).

    A block ends at the first closing tag. A closing tag that is left over ends a block whose opening is not
    in the text, so everything before it is thinking as well.

    >>> split_thinking("<think>2 and 2</think>\\n\\n4").answer
    '4'
    >>> split_thinking("<think>2 and 2, so").closed
    False
    """
    thinking: list[str] = []
    closed = True
    if opened is not None:
        head, mark, rest = text.partition(opened.close)
        thinking.append(head)
        text, closed = (rest, True) if mark else ("", False)
    for tag in tags:
        text, inside, ended = _cut(text, tag)
        thinking += inside
        closed = closed and ended
    if not thinking:
        return Split(text, "", True)
    # Blank lines after a block go, indentation stays: the answer may be code.
    return Split(_BLANK_LINES.sub("", text).rstrip(), "\n".join(t.strip() for t in thinking if t.strip()), closed)


def _cut(text: str, tag: Tags) -> tuple[str, list[str], bool]:
    """(text without this tag's blocks, the blocks, whether the last one ended)."""
    if tag.open not in text and tag.close not in text:
        return text, [], True
    kept: list[str] = []
    inside: list[str] = []
    closed = True
    while (start := text.find(tag.open)) >= 0:
        stray, mark, after = text[:start].rpartition(tag.close)
        if mark:
            inside += [*kept, stray]
            kept.clear()
        kept.append(after)
        body, mark, text = text[start + len(tag.open) :].partition(tag.close)
        inside.append(body)
        closed = bool(mark)
    stray, mark, after = text.rpartition(tag.close)
    if mark:
        inside += [*kept, stray]
        kept.clear()
    return "".join((*kept, after)), inside, closed
