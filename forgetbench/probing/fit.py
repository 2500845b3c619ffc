"""Fit to the training set: are its items answered as trained, and are test items answered with its answers.

Under-fit: the share of training prompts whose greedy answer equals the training answer, the base beside it. Over-fit:
of the test items that the candidate answers wrongly the share whose answer is one of the training file's, word for word
or in shape, or holds the file's hallmark (the word that its answers have most beyond the test's right answers). It is
held (paired, exact) against what was to be expected: that the base's answer to the item is one too, or the right one
is, since a test whose right answers are the training's can only be answered with such.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from forgetbench.analysis.leaks import words
from forgetbench.analysis.significance import holm, mcnemar_exact
from forgetbench.probing.asking import ask_both, plain_hosts, takes
from forgetbench.probing.modal import SLOT, forms_of, normal, p_text, shape_of
from forgetbench.probing.shares import share
from forgetbench.probing.types import Echoed, Example, Learnt, Share, TrainingFit
from forgetbench.rounds import Asker, Side
from forgetbench.tasks.questions import question_of
from forgetbench.types import GREEDY, ItemKey, Judged, Message, Record

ROUND = "training-set"
PER_TYPE = 200
LONGEST = 60
"""Words of a training answer that is asked for: word for word nobody repeats an essay. A Chinese character is a word,
and so are eight characters of a long one: both are a token or more."""
MAX_TOKENS = 128
FEWEST = 5
"""Wrong answers of a task_type that gets a row of its own."""
HALLMARK = 0.2
"""Share of the training answers that have a word which may be their hallmark."""
ALPHA = 0.05
ALL = "all"
_VIEWS = ("ability", "chat", "as_used")


def fit_to_training(
    base: Side,
    candidate: Side,
    training: Sequence[Example],
    ask: Asker,
    *,
    per_type: int = PER_TYPE,
    seed: int = 0,
) -> TrainingFit:
    """Both halves. `training` as `read_examples` reads it. Requests: at most 2 x `per_type` for each task_type, of at
    most MAX_TOKENS tokens; the over-fit half asks nothing, it reads the runs' greedy records."""
    learnt, asked, notes = _learnt(base, candidate, training, ask, per_type, seed)
    echoed, more = _echoed(base, candidate, training)
    lines = [*(_learnt_line(row, candidate.run.alias, base.run.alias) for row in learnt)]
    over = _echo_lines(echoed, candidate.run.alias, base.run.alias)
    lines += over
    if echoed and not over:
        lines.append(
            f"{candidate.run.alias} answers no kind of test item with training answers beyond {base.run.alias}"
        )
    return TrainingFit(tuple(learnt), tuple(echoed), asked, tuple(lines), (*notes, *more))


def _learnt(
    base: Side, candidate: Side, training: Sequence[Example], ask: Asker, per_type: int, seed: int
) -> tuple[list[Learnt], int, list[str]]:
    notes = []
    if not base.jobs or not candidate.jobs:
        return [], 0, ["the training items were not asked: an imported run has no checkpoint"]
    askable, lacking = _askable(training, candidate)
    notes += lacking
    right: dict[_Asked, dict[str, None]] = {}
    for example in askable:
        right.setdefault(_asked(example), {})[example.answer.strip()] = None
    drawn = _sampled(askable, per_type, seed)
    chosen = [e for e in drawn if not e.before or all(takes(s.point, _whole(e)) for s in (base, candidate))]
    if len(chosen) < len(drawn):
        n = len(drawn) - len(chosen)
        notes.append(f"{n:,} training items are left out: a chat template does not take their system message or turns")
    if not base.point.has_chat_template:
        above = ", with its system message and earlier turns as text" if any(e.before for e in chosen) else ""
        notes.append(f"{base.run.alias} has no chat template: it was asked the training items as `Q: ... A:`{above}")
    n_long = sum(_is_long(e.answer) for e in training)
    if n_long:
        notes.append(f"{n_long:,} training answers of over {LONGEST} words are not asked for word for word")
    hosts = plain_hosts(
        "training",
        [e.prompt for e in chosen],
        base,
        candidate,
        max_tokens=MAX_TOKENS,
        answers=[list(right[_asked(e)]) for e in chosen],
        before=[e.before or () for e in chosen],
    )
    heard = ask_both(base, candidate, ask, [(h, e.prompt) for h, e in zip(hosts, chosen, strict=True)], name=ROUND)
    by_type: dict[str, list[tuple[Example, bool, bool, str]]] = {}
    n_cut = 0
    for example, both in zip(chosen, heard, strict=True):
        if both.base and both.candidate:
            known = [_as_trained(side[0], right[_asked(example)]) for side in both]
            if known[0] is None or known[1] is None:
                n_cut += 1
                continue
            row = (example, known[0], known[1], both.candidate[0].output.strip())
            by_type.setdefault(example.task_type, []).append(row)
    if n_cut:
        notes.append(f"{n_cut:,} training items are left out: an answer as trained so far ended at {MAX_TOKENS} tokens")
    made = []
    for task_type, rows in sorted(by_type.items()):
        only_base = sum(b and not c for _, b, c, _ in rows)
        only_candidate = sum(c and not b for _, b, c, _ in rows)
        made.append(
            Learnt(
                task_type,
                share(sum(b for _, b, _, _ in rows), len(rows)),
                share(sum(c for _, _, c, _ in rows), len(rows)),
                mcnemar_exact(only_base, only_candidate),
                tuple((e.where, e.prompt, e.answer, said) for e, _, c, said in rows if not c)[:5],
            )
        )
    return made, 2 * len(chosen), notes


_Asked = tuple[tuple[Message, ...], str]


def _asked(example: Example) -> _Asked:
    """One user's turn below two system messages is two questions."""
    return example.before or (), example.prompt


def _whole(example: Example) -> tuple[Message, ...]:
    return (*(example.before or ()), Message("user", example.prompt))


def _askable(training: Sequence[Example], candidate: Side) -> tuple[list[Example], list[str]]:
    """What the candidate can be asked as it was trained, and a line for each reason why something cannot."""
    notes = []
    known = [e for e in training if e.before is not None]
    if len(known) < len(training):
        n = len(training) - len(known)
        notes.append(f"{n:,} training items are not asked: they use tools, or what they answer is no user's turn")
    if candidate.point.has_chat_template:
        return known, notes
    bare = [e for e in known if not e.before]
    if len(bare) < len(known):
        problem = f"{candidate.run.alias} has no chat template"
        n = len(known) - len(bare)
        notes.append(f"{n:,} training items with a system message or earlier turns are not asked: {problem}")
    return bare, notes


def _sampled(training: Sequence[Example], per_type: int, seed: int) -> list[Example]:
    """Different prompts with an answer short enough, at most `per_type` of each task_type."""
    pools: dict[str, dict[_Asked, Example]] = {}
    for example in training:
        if not _is_long(example.answer) and normal(example.answer):
            pools.setdefault(example.task_type, {}).setdefault(_asked(example), example)
    rng = random.Random(seed)
    return [e for _, pool in sorted(pools.items()) for e in rng.sample(list(pool.values()), min(per_type, len(pool)))]


def _is_long(answer: str) -> bool:
    return len(words(answer)) > LONGEST or len(answer) > 8 * LONGEST


def _as_trained(judged: Judged, answers: Iterable[str]) -> bool | None:
    """Whether an output is one of the training answers; None: the limit cut it where it could still become one."""
    open_ended = False
    for answer in answers:
        wanted, said = _comparable(answer, answer), _comparable(judged.output, answer)
        if said == wanted:
            return True
        open_ended |= wanted.startswith(said)
    return None if open_ended and judged.outcome == "truncated" else False


def _comparable(output: str, answer: str) -> str:
    """Of an answer of one line the output's first line: a base goes on writing."""
    text = output.strip()
    return normal(text.split("\n", 1)[0] if "\n" not in answer.strip() else text)


class _Test(NamedTuple):
    """A test item that the candidate answers wrongly."""

    record: Record
    question: str
    base: str
    """The base's answer; texts as below normalised by their readers."""
    candidate: str


def _echoed(base: Side, candidate: Side, training: Sequence[Example]) -> tuple[list[Echoed], list[str]]:
    questions = _questions(candidate)
    where: dict[str, dict[str, str]] = {"verbatim": {}, "shape": {}}
    for example in training:
        where["verbatim"].setdefault(normal(example.answer), example.where)
        where["shape"].setdefault(shape_of(example.prompt, example.answer), example.where)
    where["verbatim"].pop("", None)
    where["shape"] = {s: w for s, w in where["shape"].items() if SLOT in s and any(c.isalpha() for c in s)}
    theirs = {(r.key, r.view): r for r in _greedy(base.run.read_records())}
    groups: dict[tuple[str, str], list[_Test]] = {}
    notes: dict[str, None] = {}
    for record in _greedy(candidate.run.read_records()):
        if not all(score == 0.0 for score in record.scores.values()):
            continue
        views = [record.view, *(v for v in _VIEWS if v != record.view)]
        other = next((theirs[record.key, v] for v in views if (record.key, v) in theirs), None)  # type: ignore[index]
        if other is None:
            continue
        if other.view != record.view:
            line = f"{candidate.run.alias}'s {record.view} answers are held against {base.run.alias}'s in {other.view}"
            notes[f"{line}: it has no others"] = None
        test = _Test(record, questions.get(record.key, ""), _answer(other), _answer(record))
        for task_type in (record.task_type, ALL):
            groups.setdefault((record.view, task_type), []).append(test)
    made: list[Echoed] = []
    hallmark = _hallmark(training, [t for (_, kind), tests in groups.items() if kind == ALL for t in tests])
    for (view, task_type), tests in sorted(groups.items()):
        if task_type == ALL or len(tests) >= FEWEST:
            made += [_echo(task_type, view, how, tests, where[how]) for how in ("verbatim", "shape")]
        if hallmark:
            made.append(_echo(task_type, view, "word", tests, {hallmark[0]: hallmark[1]}))
    adjusted = holm([row.p_value for row in made])
    rows = [replace(row, adjusted=p) for row, p in zip(made, adjusted, strict=True) if row.wrong.k or row.base.k]
    return rows, list(notes)


def _echo(task_type: str, view: str, how: str, tests: Sequence[_Test], known: Mapping[str, str]) -> Echoed:
    def read(test: _Test, answer: str) -> str:
        if how == "word":
            return next((word for word in known if word in _new_words(test.question, answer)), "")
        return normal(answer) if how == "verbatim" else shape_of(test.question, answer)

    mine = [read(t, t.candidate) in known for t in tests]
    base = [read(t, t.base) in known for t in tests]
    gold = [any(read(t, g) in known for g in t.record.gold.split(" | ")) for t in tests]
    expected = [b or g for b, g in zip(base, gold, strict=True)]
    n = len(tests)
    return Echoed(
        task_type=task_type,
        view=view,
        how="verbatim" if how == "verbatim" else "shape" if how == "shape" else "word",
        wrong=share(sum(mine), n),
        base=share(sum(base), n),
        gold=share(sum(gold), n),
        p_value=mcnemar_exact(
            sum(e and not m for e, m in zip(expected, mine, strict=True)),
            sum(m and not e for e, m in zip(expected, mine, strict=True)),
        ),
        adjusted=1.0,
        examples=tuple(
            (str(t.record.key), t.candidate, known[read(t, t.candidate)])
            for t, hit in zip(tests, mine, strict=True)
            if hit
        )[:5],
        word=next(iter(known)) if how == "word" else "",
    )


def _hallmark(training: Sequence[Example], tests: Sequence[_Test]) -> tuple[str, str] | None:
    """The word that training answers have, and their prompts have not, most beyond the right answers of the test, and
    the first line with it; None where no word is in HALLMARK of the training answers."""
    if not training or not tests:
        return None
    inside = Counter(word for e in training for word in _new_words(e.prompt, e.answer))
    right = Counter(word for t in tests for word in _new_words(t.question, t.record.gold))
    common = {w: n / len(training) - right[w] / len(tests) for w, n in inside.items() if n >= HALLMARK * len(training)}
    if not common:
        return None
    best = min(common, key=lambda word: (-common[word], word))
    return best, next(e.where for e in training if best in _new_words(e.prompt, e.answer))


def _new_words(question: str, answer: str) -> set[str]:
    return {form.text for form in forms_of(question, answer) if form.kind == "word"}


def _greedy(records: Iterable[Record]) -> list[Record]:
    """The comparison's own greedy answers that are texts and were scored."""
    return [
        r
        for r in records
        if (r.decode_id, r.replicate, r.round) == (GREEDY, 0, 0)
        and r.scores
        and r.n_choices is None
        and "choice_logprobs" not in r.extra
    ]


def _answer(record: Record) -> str:
    output = record.output.strip()
    return record.extracted if len(output.split()) > LONGEST and record.extracted else output


def _questions(side: Side) -> dict[ItemKey, str]:
    return {item.key: question_of(job.task, item).text for job in side.jobs for item in job.items}


def _learnt_line(row: Learnt, candidate: str, base: str) -> str:
    own = row.candidate
    judged = "under-fit: " if own.interval.high < 0.5 else ""
    return (
        f"{judged}{candidate} answers {told(own)} of its training items"
        f"{'' if row.task_type == ALL else f' of {row.task_type}'} as trained; {base} {told(row.base, brief=True)}"
    )


def _echo_lines(rows: Sequence[Echoed], candidate: str, base: str) -> list[str]:
    """One line for each view with an over-fit: all items together where that is proven, and where it is worst."""
    lines = []
    for view in dict.fromkeys(row.view for row in rows):
        over = [r for r in rows if r.view == view and r.adjusted <= ALPHA and r.wrong.k > max(r.base.k, r.gold.k)]
        if not over:
            continue
        lead = max(over, key=lambda r: (r.task_type == ALL, r.wrong.k))
        worst = sorted((r for r in over if r.how == lead.how and r.task_type != ALL), key=lambda r: -r.wrong.value)
        named = [f"{r.task_type} ({told(r.wrong, brief=True)})" for r in worst[:3] if r is not lead]
        lines.append(_echo_line(lead, candidate, base) + (f"; most in {', '.join(named)}" if named else ""))
    return lines


def _echo_line(row: Echoed, candidate: str, base: str) -> str:
    how = {"verbatim": "are word for word", "shape": "are in shape"}.get(row.how, f"hold '{row.word}', the hallmark of")
    kind = "" if row.task_type == ALL else f" to {row.task_type}"
    return (
        f"over-fit: of {candidate}'s wrong answers{kind} ({row.view}) {told(row.wrong)} {how} answers of the training "
        f"file; {base}'s answers to the same items {told(row.base, brief=True)}, the right ones "
        f"{told(row.gold, brief=True)} ({p_text(row.adjusted)}, Holm)"
    )


def told(found: Share, *, brief: bool = False) -> str:
    """`93.0 % (186 of 200; 95 % 88.6 to 95.8)`."""
    text = f"{100 * found.value:.1f} %"
    if brief:
        return text
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return f"{text} ({found.k:,} of {found.n:,}; 95 % {low:.1f} to {high:.1f})"
