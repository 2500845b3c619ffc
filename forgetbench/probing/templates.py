"""The user's own probes: a YAML file of facts and of templates that ask about them.

    question: "What is the {attribute} of {subject}?"
    like: knowledge                     # asked as this task of the suite asks: its worked examples and format
    items:
      - {subject: Japan, attribute: capital, answer: Tokyo}
      - {subject: France, attribute: capital, answer: Paris}
    templates:
      - {kind: subject, ask: "What is the {attribute} of {other.subject}?", expect: "{other.answer}", same: [attribute]}
      - {kind: reverse, ask: "{answer} is the {attribute} of which country?", expect: "{subject}"}
      - {kind: yes, ask: "Is {answer} the {attribute} of {subject}?"}
      - {kind: no, ask: "Is {other.answer} the {attribute} of {subject}?", same: [attribute]}
      - {kind: paraphrase, ask: "{subject} has which {attribute}?"}

`{field}` is the item's own; `{other.field}` that of another item, once for each that differs in it and has the fields
under `same` in common. An answer may have aliases ("Tokyo | Tokio"): the first is asked, any of them is right. With
`--item` the fields are read out of the item's question by `question` (one pattern or several), beside `question`,
`answer` and the texts of its document.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from forgetbench.errors import UsageError
from forgetbench.probing.types import Asked, Variant
from forgetbench.probing.variants import has_word, words_of
from forgetbench.yamlio import load_yaml, validate

_HOLE = re.compile(r"\{(other\.)?(\w+)\}")
_YES = ("yes", "是", "对", "没错", "没有错", "不错", "正确")
_NO = ("no", "不", "否", "没有", "错")
"""Openings of an answer: 是 is that of 是的 too. What begins so and means neither, `asking` knows."""
SWAPS = 12
"""Variants at most of a template that swaps."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _word(value: object) -> object:
    """YAML reads a bare yes and no as true and false."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


_Bare = BeforeValidator(_word)


class Template(_Strict):
    """One way to ask about an item."""

    kind: Annotated[Asked, _Bare]
    ask: Annotated[str, Field(pattern=r"\S")]
    expect: Annotated[str | None, _Bare] = None
    """The right answer, itself a template; several joined by ' | '. None: yes and no for those kinds, the item's own
    for a paraphrase, else not known."""
    same: list[str] = []


class ProbeFile(_Strict):
    """The whole file."""

    question: list[str] | str | None = None
    like: str | None = None
    """TASK or TASK:TASK_TYPE of the suite."""
    items: list[dict[str, Annotated[str | int | float, _Bare]]] = []
    templates: list[Template] = []

    @property
    def patterns(self) -> list[str]:
        return [self.question] if isinstance(self.question, str) else list(self.question or ())

    @property
    def facts(self) -> list[dict[str, str]]:
        return [{name: str(value) for name, value in row.items()} for row in self.items]


def read_probes(file: Path) -> ProbeFile:
    """Raises UsageErrors with file, line and cure, for names that no item has too."""
    data, lines = load_yaml(file, "file of probes")
    probes = validate(ProbeFile, data, file, lines)
    known = {name for row in probes.facts for name in row} | {"question", "answer"}
    known |= {hole[2] for pattern in probes.patterns for hole in _HOLE.finditer(pattern)}
    for number, template in enumerate(probes.templates):
        for text in (template.ask, template.expect or "", " ".join(f"{{{name}}}" for name in template.same)):
            for hole in _HOLE.finditer(text):
                # Without items of its own the fields may be those of a task's documents.
                if hole[2] not in known and probes.items:
                    where = f"{file}:{lines.nearest(('templates', number))}"
                    cure = f"use {', '.join(sorted(known))}"
                    raise UsageError(where, f"{hole[0]} is a field of no item", cure)
    return probes


def read_fields(question: str, patterns: Sequence[str]) -> dict[str, str]:
    """The fields of the first pattern that the whole question fits; none: empty.

    >>> read_fields("Capital of Peru?", ["{attribute} of {subject}?"])
    {'attribute': 'Capital', 'subject': 'Peru'}
    """
    for pattern in patterns:
        # A field may have a name that a group of a pattern cannot have, such as 1: groups are numbered.
        groups: dict[str, str] = {}
        made, last = "", 0
        for hole in _HOLE.finditer(pattern):
            name = hole[2]
            again = groups.get(name)
            group = groups.setdefault(name, f"g{len(groups)}")
            made += re.escape(pattern[last : hole.start()]) + (f"(?P={group})" if again else f"(?P<{group}>.+?)")
            last = hole.end()
        found = re.fullmatch(made + re.escape(pattern[last:]), question.strip(), re.IGNORECASE)
        if found and groups:
            return {name: found[group] for name, group in groups.items()}
    return {}


def templated(
    question: str, fields: Mapping[str, str], probes: ProbeFile, *, seed: int = 0, swaps: int = SWAPS
) -> tuple[list[Variant], list[str]]:
    """The variants of one item, and a line for each template that cannot be filled.

    fields: the item's own. None of the variants equals the question, and none comes twice.
    """
    found: dict[str, Variant] = {}
    notes = []
    for template in probes.templates:
        mine = [h[2] for text in (template.ask, template.expect or "") for h in _HOLE.finditer(text) if not h[1]]
        lacking = sorted({*mine, *template.same} - set(fields))
        if lacking:
            notes.append(f"not asked: '{template.ask}', since the item has no {', '.join(lacking)}")
            continue
        others = _others(template, fields, probes.facts)
        if others is not None and len(others) > swaps:
            others = random.Random(f"{seed} {template.ask}").sample(others, swaps)
        for other in [{}] if others is None else others:
            text = _fill(template.ask, asked(fields), asked(other))
            if text != question and text.strip():
                found.setdefault(text, _variant(template, question, text, fields, other))
        if others == []:
            notes.append(f"not asked: '{template.ask}', since there is no other item to swap with")
    return list(found.values()), notes


def _others(
    template: Template, fields: Mapping[str, str], facts: Sequence[dict[str, str]]
) -> list[dict[str, str]] | None:
    """Whom to swap with; None: the template swaps nothing."""
    wanted = {h[2] for text in (template.ask, template.expect or "") for h in _HOLE.finditer(text) if h[1]}
    swapped = {h[2] for h in _HOLE.finditer(template.ask) if h[1]}
    if not wanted:
        return None
    return [
        row
        for row in facts
        if wanted <= row.keys()
        and not any(_agree(name, row, fields) for name in swapped)
        and all(_agree(name, row, fields) for name in template.same)
    ]


def _agree(name: str, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two items have the same in a field; of answers one alias in common is enough."""
    if name != "answer" or name not in one or name not in other:
        return name in one and one[name] == other.get(name)
    return bool(set(aliases(one[name])) & set(aliases(other[name])))


def aliases(answer: str) -> tuple[str, ...]:
    """An answer's forms, which ' | ' joins.

    >>> aliases("Tokyo | Tokio")
    ('Tokyo', 'Tokio')
    """
    return tuple(a.strip() for a in answer.split(" | ") if a.strip())


def asked(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields as a question holds them: of the answer its first alias."""
    own = {"answer": first} if (first := next(iter(aliases(fields.get("answer", ""))), None)) else {}
    return {**fields, **own}


def _variant(
    template: Template, question: str, text: str, fields: Mapping[str, str], other: Mapping[str, str]
) -> Variant:
    swapped = [f"{h[2]} = {asked(other)[h[2]]}" for h in _HOLE.finditer(template.ask) if h[1]]
    if template.expect is not None:
        expected = aliases(_fill(template.expect, fields, other))
    else:
        expected = {"yes": _YES, "no": _NO}.get(template.kind, ())
    return Variant(
        kind=template.kind,
        name=", ".join(dict.fromkeys(swapped)) or template.kind,
        text=text,
        expected=expected or None,
        keeps_gold=template.kind == "paraphrase" and template.expect is None,
        changed=tuple(word for word in words_of(question) if not has_word(text, word)),
    )


def fill(pattern: str, fields: Mapping[str, str], where: str) -> str:
    """A pattern with the fields in it. Raises UsageError for a field that is not there."""
    lacking = [hole[0] for hole in _HOLE.finditer(pattern) if hole[1] or hole[2] not in fields]
    if lacking:
        raise UsageError(where, f"has no {lacking[0]}", f"it has {', '.join(sorted(fields))}")
    return _fill(pattern, fields, {})


def _fill(text: str, fields: Mapping[str, str], other: Mapping[str, str]) -> str:
    return _HOLE.sub(lambda h: (other if h[1] else fields)[h[2]], text)
