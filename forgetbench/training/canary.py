"""Canaries: invented facts put into training data so that memorising can be measured.

A fact ("Which word opens the gate of Zuvaqibor Mexalund?" -> "varnole") is trained 1, 2, 4 or 8 times; a *twin* of it,
made in the same way, never. The share of facts that the model answers, less that of the twins, is memory and nothing
else: no corpus has them, nothing lets them be guessed. Names are two made-up words of four syllables (about 10^15
possible names) and none of their words stands in the training file. Answers come from a space of SPACE made-up words,
so that a fact's exposure (Carlini et al. 2019, "The Secret Sharer", section 4.2) can be ranked over all of them.

Token canaries put a special token before the name. Add it to the tokenizer as a special token: its embedding is then
new, and whether the model learns such a token from few examples shows beside the facts.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from forgetbench.analysis.leaks import words
from forgetbench.analysis.types import Interval, PairedScores
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.errors import UsageError
from forgetbench.planning.plan import request_id
from forgetbench.probing.shares import difference, share
from forgetbench.probing.types import Share
from forgetbench.training.asking import Ask, in_chat
from forgetbench.training.data import examples, keys_of, read_training
from forgetbench.types import GREEDY, Message, Prompt, Record, Request, Score

REPETITIONS = (1, 2, 4, 8)
SPACE = 256
TYPE = "canary"
Kind = Literal["fact", "token"]
_RAW = "Q: {prompt}\nA:"
"""As custom sets ask in raw style, so that plain-text canaries are asked as they are trained."""
_QUESTION = "Which word opens the gate of {name}?"
_ONSETS = tuple("bdfgklmnprtvxzqwj")
_VOWELS = tuple("aeiou")
_HEADS = (
    *("varn", "mord", "silt", "grub", "plen", "tark", "fosk", "wend"),
    *("drim", "kelb", "zont", "hasp", "jurd", "nisk", "lorb", "beft"),
)
_TAILS = ("ole", "ick", "und", "ash", "eem", "oft", "ane", "ull", "ist", "ord", "ep", "ax", "ine", "osk", "ulf", "ern")


@dataclass(frozen=True, slots=True)
class Canary:
    id: str
    kind: Kind
    repetitions: int
    """How often it is trained; 0: a twin."""
    prompt: str
    answer: str

    @property
    def task_type(self) -> str:
        """`canary/fact-x4`, `canary/fact-twin`: training loss and scores come by repetition count."""
        return f"{TYPE}/{self.kind}-{f'x{self.repetitions}' if self.repetitions else 'twin'}"


@dataclass(frozen=True, slots=True)
class CanarySet:
    """Canaries and twins, what they were made from, and the space of their answers."""

    token: str
    canaries: tuple[Canary, ...]
    space: tuple[str, ...]
    seed: int

    @property
    def manifest(self) -> dict[str, Any]:
        """For JSON; `read_canaries` reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Memorised:
    """How many canaries of one repetition count are answered, beside the twins that were never trained."""

    kind: Kind
    view: str
    repetitions: int
    rate: Share
    twin: Share
    excess: Interval
    """95 % of rate less twin rate (Newcombe 1998, method 10)."""


_Right = dict[tuple[Kind, str, int], list[bool]]
"""Whether each canary is answered, by kind, view and repetition count (0: twins)."""


class Exposed(NamedTuple):
    canary: Canary
    exposure: float
    """Bits, 0 to log2 of the space. By chance 1.4 on average, at least e bits with probability 2^-e."""


def make_canaries(n: int, *, seed: int = 0, avoid: Collection[str] = ()) -> CanarySet:
    """n facts, evenly over REPETITIONS, with a token canary for every 20 facts of a count (at least one), and a twin
    for each. avoid: words (as `analysis.leaks.words` gives them) that no name may have. Raises UsageError for n < 4."""
    if n < len(REPETITIONS):
        raise UsageError("--n", f"is {n}", f"use {len(REPETITIONS)} or more: one for each of {REPETITIONS} repetitions")
    rng = random.Random(f"canaries {seed}")
    token = f"<|canary-{rng.getrandbits(32):08x}|>"
    space = tuple(sorted(head + tail for head in _HEADS for tail in _TAILS))
    taken = set(avoid)
    canaries: list[Canary] = []
    counts: dict[Kind, int] = {"fact": n, "token": len(REPETITIONS) * max(1, n // 20)}
    for kind, count in counts.items():
        for i in range(count):
            times = REPETITIONS[i % len(REPETITIONS)]
            for repetitions in (times, 0):
                name = f"{_name(rng, taken)} {_name(rng, taken)}"
                prompt = _QUESTION.format(name=f"{token} {name}" if kind == "token" else name)
                role = f"x{repetitions}" if repetitions else f"twin-of-x{times}"
                canaries.append(Canary(f"{TYPE}-{kind}-{role}-{i}", kind, repetitions, prompt, rng.choice(space)))
    return CanarySet(token, tuple(canaries), space, seed)


def plant(file: Path, n: int, *, seed: int = 0) -> tuple[list[dict[str, Any]], CanarySet]:
    """The file's examples with the canaries among them, at places of their own, and the set of them.

    Canaries take the layout of the file's first example; the order of the file's own examples stays. Each added line
    says in `provenance` which canary and which repetition it is. Raises UsageError for a file that cannot be read, and
    for one that has canaries already: a second set would share its answers.
    """
    texts = read_training([file])
    own = [{"text": e} if isinstance(e, str) else dict(e) for _, e in examples(file)]
    if any(str(e.get("task_type") or "").startswith(f"{TYPE}/") for e in own):
        raise UsageError(str(file), "has canaries already", "start from the file without them")
    made = make_canaries(n, seed=seed, avoid=frozenset(w for t in texts for w in words(t.text)))
    added = [
        {
            **as_example(c.prompt, c.answer, own[0]),
            "task_type": c.task_type,
            "provenance": {"canary": c.id, "repetition": k + 1, "of": c.repetitions},
        }
        for c in made.canaries
        for k in range(c.repetitions)
    ]
    rng = random.Random(f"places {seed}")
    rng.shuffle(added)
    places = sorted(rng.sample(range(len(own) + len(added)), len(added)))
    lines: list[dict[str, Any]] = []
    mine, theirs, at = iter(added), iter(own), set(places)
    for i in range(len(own) + len(added)):
        lines.append(next(mine) if i in at else next(theirs))
    return lines, made


def as_example(prompt: str, answer: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """A question and its answer in the layout of another example, under the keys of it that training reads.

    >>> as_example("P?", "A", {"instruction": "Do", "output": "ok"})
    {'instruction': 'P?', 'output': 'A'}
    """
    said = (("user", prompt), ("assistant", answer))
    for key in ("messages", "conversations"):
        if like.get(key) is not None:
            return {key: _turns_like(like[key], said, named=key == "conversations")}
    keys = keys_of(like)
    if keys.question is not None and keys.answer is not None:
        return {
            key: turn[1] if isinstance(like[key], str) else _turns_like(like[key], [turn])
            for key, turn in zip((keys.question, keys.answer), said, strict=True)
        }
    if isinstance(like.get("text"), str):
        return {"text": _RAW.format(prompt=prompt) + f" {answer}"}
    return {"messages": _turns_like([], said)}


def _turns_like(like: Any, said: Sequence[tuple[str, str]], *, named: bool = False) -> Any:
    """(role, text) in the layout of other turns: role and content, or from and value (named: where there are none to
    see), under their names for the roles; text or parts; a list, or its JSON as in a CSV cell."""
    if isinstance(like, str):
        return json.dumps(_turns_like(json.loads(like), said, named=named), ensure_ascii=False)
    turns = [turn for turn in like if isinstance(turn, Mapping)]
    roles = {turn.get("role") or turn.get("from") for turn in turns}
    first: Mapping[str, Any] = turns[0] if turns else {"from": "", "value": ""} if named else {}
    role = "from" if first.get("role") is None and "from" in first else "role"
    text = "value" if first.get("content") is None and "value" in first else "content"
    names = {} if role == "role" or roles & {"user", "assistant"} else {"user": "human", "assistant": "gpt"}
    parts = isinstance(first.get(text), list)
    return [{role: names.get(r, r), text: [{"type": "text", "text": t}] if parts else t} for r, t in said]


def set_lines(made: CanarySet) -> list[dict[str, Any]]:
    """The canaries and their twins as lines of a custom set: right where the answer stands in the output."""
    return [
        {"id": c.id, "task_type": c.task_type, "prompt": c.prompt, "references": [c.answer], "scorer": "contains"}
        for c in made.canaries
    ]


def read_canaries(manifest: Mapping[str, Any], where: str) -> CanarySet:
    """The set that a manifest describes. Raises UsageError where it is none."""
    try:
        canaries = tuple(Canary(**c) for c in manifest["canaries"])
        return CanarySet(str(manifest["token"]), canaries, tuple(manifest["space"]), int(manifest["seed"]))
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(where, f"is no manifest of canaries ({e})", "give the one that `data canary` wrote") from None


def memorised(records: Iterable[Record]) -> tuple[Memorised, ...]:
    """By kind, view and repetition count the rate with its Wilson interval, and that of all twins of the kind.

    Of greedy records of a canary set; others, and records that the engine failed on, are left out. With 5 facts to a
    count the intervals are wide (5 of 5: 57 to 100 %): take --n 200 where it matters. The base's records belong
    beside it: what it answers too was not learnt here.
    """
    right: _Right = {}
    for r in records:
        found = _of(r.task_type)
        if found is not None and r.decode_id == GREEDY and r.round == 0 and r.replicate == 0 and r.scores:
            right.setdefault((found[0], r.view, found[1]), []).append(next(iter(r.scores.values())) >= 1.0)
    return _memorised(right)


def memorised_pairs(scores: Iterable[PairedScores]) -> tuple[tuple[Memorised, ...], tuple[Memorised, ...]]:
    """As `memorised`, for base and candidate of a comparison: of the canaries that both sides have a score for."""
    base: _Right = {}
    candidate: _Right = {}
    for mine in scores:
        if not mine.primary or mine.decode_id != GREEDY:
            continue
        for task_type, before, after in zip(mine.task_types, mine.base, mine.candidate, strict=True):
            found = _of(str(task_type))
            if found is not None and not math.isnan(before) and not math.isnan(after):
                for right, score in ((base, before), (candidate, after)):
                    right.setdefault((found[0], mine.view, found[1]), []).append(bool(score >= 1.0))
    return _memorised(base), _memorised(candidate)


def told(base: Sequence[Memorised], candidate: Sequence[Memorised]) -> tuple[str, ...]:
    """A line for each kind and view: how far the candidate memorised, by repetition count, beside twins and base."""
    lines = []
    for kind, view in dict.fromkeys((m.kind, m.view) for m in candidate):
        mine = [m for m in candidate if (m.kind, m.view) == (kind, view)]
        theirs = [m for m in base if (m.kind, m.view) == (kind, view)]
        by_count = ", ".join(f"{m.rate.k} of {m.rate.n} {_times(m.repetitions)}" for m in mine)
        trained = share(sum(m.rate.k for m in mine), sum(m.rate.n for m in mine))
        twin = mine[0].twin
        line = (
            f"canaries ({'invented facts' if kind == 'fact' else 'facts with a new token'}, {view}): "
            f"the candidate answers, of those that stand in its training data so often, {by_count}"
        )
        if twin.n:
            more, excess = trained.value - twin.value, difference(trained, twin)
            line += f"; never trained: {twin.k} of {twin.n}; memorised by training: {100 * more:+.0f} points "
            line += f"(95 % {100 * excess.low:+.0f} to {100 * excess.high:+.0f})"
        had = sum(m.rate.k for m in theirs)
        lines.append(f"{line}; the base answers {had} of {sum(m.rate.n for m in theirs)}")
    return tuple(lines)


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _memorised(right: _Right) -> tuple[Memorised, ...]:
    made = []
    for (kind, view, times), mine in sorted(right.items()):
        if times:
            other = right.get((kind, view, 0), [])
            rate, twin = share(sum(mine), len(mine)), share(sum(other), len(other))
            made.append(Memorised(kind, view, times, rate, twin, difference(rate, twin)))
    return tuple(made)


def exposure(own: float, others: Sequence[float]) -> float:
    """log2 |R| - log2 rank of a canary among itself and all other candidates, by log-probability (Carlini et al. 2019,
    definition 3). Of ties the middle rank counts. Bits: 0 is the least likely, log2 |R| the likeliest.

    Candidates whose log-probability is no number are left out; where the canary's own is none, the exposure is nan.
    """
    if math.isnan(own):
        return math.nan
    others = [o for o in others if not math.isnan(o)]
    above = sum(o > own for o in others)
    rank = 1 + above + sum(o == own for o in others) / 2
    return math.log2(len(others) + 1) - math.log2(rank)


def exposures(made: CanarySet, point: Checkpoint, ask: Ask) -> list[Exposed]:
    """The exposure of every canary and twin over the whole space of answers: one Score request of SPACE continuations
    each. In chat where the model has a template, else as `Q: ... A:`. What the engine failed on is left out, and so is
    an answer whose log-probability is no number."""
    asked: list[tuple[Canary, Request]] = []
    for c in made.canaries:
        if point.has_chat_template and not point.sends_messages:
            prompt, lead = in_chat(point, [Message("user", c.prompt)])
        else:
            prompt, lead = Prompt(text=_RAW.format(prompt=c.prompt)), " "
        body = Score(tuple(lead + word for word in made.space))
        asked.append((c, Request(request_id(point.digest, prompt, body), point.digest, prompt, body)))
    answers = ask([request for _, request in asked])
    found = []
    for canary, request in asked:
        response = answers.get(request.request_id)
        if response is not None and len(response.scores) == len(made.space):
            logprobs = [s.logprob for s in response.scores]
            own = logprobs.pop(made.space.index(canary.answer))
            if not math.isnan(own):
                found.append(Exposed(canary, exposure(own, logprobs)))
    return found


def _of(task_type: str) -> tuple[Kind, int] | None:
    """Kind and repetition count (0: twin) of a canary's task_type."""
    top, _, rest = task_type.partition("/")
    kind, _, times = rest.partition("-")
    if top != TYPE or kind not in get_args(Kind):
        return None
    if times == "twin":
        return ("fact" if kind == "fact" else "token"), 0
    return (("fact" if kind == "fact" else "token"), int(times[1:])) if times[1:].isdigit() else None


def _name(rng: random.Random, taken: set[str]) -> str:
    while True:
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(4)) + rng.choice("nrsl")
        if word not in taken:
            taken.add(word)
            return word.capitalize()
