"""What a probe is about and beside what: items of the suite, rows of a probe file, other questions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from forgetbench.errors import UsageError
from forgetbench.probing.asking import Host, host_of, plain_hosts
from forgetbench.probing.probe import CONTEXTS, Subject
from forgetbench.probing.templates import ProbeFile, aliases, asked, fill, read_fields
from forgetbench.probing.variants import words_of
from forgetbench.rounds import Side
from forgetbench.tasks.base import Task
from forgetbench.types import Item, View


def of_item(item: Item, base: Side, candidate: Side, view: View, probes: ProbeFile | None) -> Subject:
    """An item of the suite. Raises UsageError where one side is not asked it, or where it ranks options."""
    host = host_of(item, base, candidate, view)
    if host is None:
        cure = "choose another --view, or write the question into a file for --set"
        raise UsageError(f"item {item.key}", f"is not asked of both for a text in the {view} view", cure)
    doc = {name: str(v) for name, v in item.doc.items() if isinstance(v, str | int)}
    read = read_fields(host.question, probes.patterns) if probes else {}
    fact = next((row for row in probes.facts if read and read.items() <= row.items()), {}) if probes else {}
    fields = {**doc, "question": host.question, "answer": item.gold, **fact, **read}
    return Subject(str(item.key), host, host.question, item.gold, None, fields)


def of_rows(probes: ProbeFile, base: Side, candidate: Side, view: View, tasks: Sequence[Task]) -> list[Subject]:
    """The items of a probe file, each with its own question.

    A row's question is its `question`, else the file's pattern filled. Raises UsageError for a row without one, and for
    a `like` that names no task which both are asked.
    """
    questions, rows = [], []
    for number, row in enumerate(probes.facts, 1):
        pattern = row.get("question") or next(iter(probes.patterns), None)
        if pattern is None:
            raise UsageError(f"item {number} of the probes", "has no question", 'add "question" to it or to the file')
        questions.append(fill(pattern, asked(row), f"item {number} of the probes"))
        rows.append(row)
    if not rows:
        raise UsageError("the file of probes", "holds no items", "add some under items:, or name one with --item")
    if probes.like is None:
        hosts = plain_hosts("probes", questions, base, candidate)
    else:
        hosts = [_like(probes.like, base, candidate, view, tasks)] * len(rows)
    subjects = []
    for host, question, row in zip(hosts, questions, rows, strict=True):
        answer = row.get("answer", "")
        fields = {**row, "question": question, "answer": answer}
        subjects.append(Subject(question, host, question, answer, aliases(answer) or None, fields))
    return subjects


def _like(name: str, base: Side, candidate: Side, view: View, tasks: Sequence[Task]) -> Host:
    task_name, _, task_type = name.partition(":")
    for task in tasks:
        if task.name == task_name:
            for item in task.load():
                host = host_of(item, base, candidate, view) if task_type in ("", item.task_type) else None
                if host is not None:
                    return host
    cure = f"name TASK or TASK:TASK_TYPE, tasks are {', '.join(t.name for t in tasks)}"
    raise UsageError("like", f"'{name}' is nothing that both are asked in the {view} view", cure)


def contexts(
    subject: Subject, base: Side, candidate: Side, view: View, tasks: Sequence[Task], *, seed: int = 0
) -> list[Host]:
    """Other questions of the suite, all task_types in turn, each fact once, none that shares the item's fact."""
    by_type: dict[str, list[Item]] = {}
    for task in tasks:
        for item in task.load():
            if item.key != subject.host.item.key and (
                item.cluster is None or item.cluster != subject.host.item.cluster
            ):
                by_type.setdefault(f"{task.name} {item.task_type}", []).append(item)
    rng = random.Random(f"{seed} {subject.name}")
    pools = [rng.sample(items, min(len(items), 2 * CONTEXTS)) for _, items in sorted(by_type.items())]
    rng.shuffle(pools)
    found: list[Host] = []
    seen: set[str] = {subject.question}
    for turn in range(2 * CONTEXTS):
        for pool in pools:
            if len(found) == CONTEXTS:
                return found
            if turn < len(pool):
                host = host_of(pool[turn], base, candidate, view)
                fact = (host.item.cluster or host.question) if host else ""
                if host is not None and fact not in seen and words_of(host.question):
                    seen.add(fact)
                    found.append(host)
    return found
