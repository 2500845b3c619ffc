"""Texts that both checkpoints read token by token: the base's own answers, and fixed texts.

Three rounds: the base reads and names its likeliest tokens; the candidate reads, names its own, and says how likely the
base's are; the base says how likely the candidate's are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forgetbench.analysis.measured import cluster_of
from forgetbench.analysis.token_stats import SharedContext, shared_context
from forgetbench.engines.encode import Encoder
from forgetbench.errors import UsageError
from forgetbench.planning.plan import plan_item, request_id
from forgetbench.rounds import Asker, Side
from forgetbench.types import Prompt, Read, Reading, Request, Response, View

if TYPE_CHECKING:
    from forgetbench.behaviour.fixed import FixedText
    from forgetbench.checkpoints.checkpoint import Checkpoint

TOP_M = 64
"""Likeliest ids kept of each position; what they leave out is told with every measure."""
MOST = 400
"""Answers that are read; means over more hardly move."""
_PIECE = 800
"""Characters of a fixed text that are read at once."""
_CLUSTERS = 20
"""Fixed texts from which on their pieces count as parts of one another."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is read after a prompt."""

    name: str
    prompt: Prompt
    token_ids: tuple[int, ...]
    cost: int
    """Tokens of prompt and text."""
    cluster: str | None = None
    n_bytes: int | None = None
    view: View = "ability"
    """That an answer was given in; fixed texts are read as they are."""


def same_tokens(base: Side, candidate: Side) -> bool:
    """Whether both cut a text into the same tokens, under the same numbers.

    A fine-tune often brings special tokens and another end of sequence: they change the tokenizer's digest and cut no
    ordinary text otherwise. So the rules and the vocabulary are compared, and the numbers of special tokens that both
    have.
    """
    if base.point.parts.get("tokenizer") == candidate.point.parts.get("tokenizer"):
        return True
    rules = [_rules(side.point.tokenizer_folder) for side in (base, candidate)]
    if None in rules:
        return False
    (one, added), (other, more) = (r for r in rules if r is not None)
    return one == other and all(more.get(text, number) == number for text, number in added.items())


def _rules(folder: Path | None) -> tuple[dict[str, object], dict[str, int]] | None:
    """What cuts a text, and the numbers of special tokens, by tokenizer.json; None where there is none."""
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {str(t["content"]): int(t["id"]) for t in found.get("added_tokens") or ()}
    return {name: found.get(name) for name in ("normalizer", "pre_tokenizer", "model")}, added


def own_answers(base: Side, candidate: Side, budget: int, *, most: int = MOST, seed: int = 0) -> list[Text]:
    """The base's greedy answers to prompts that were identical, in a seeded order, as far as a budget of tokens goes.

    Reading costs three times a text's tokens.
    """
    found: list[Text] = []
    left = budget
    for text in sorted(_answers(base, candidate), key=lambda t: hashlib.sha256(f"{seed}/{t.name}".encode()).digest()):
        if len(found) == most:
            break
        if 3 * text.cost <= left:
            found.append(text)
            left -= 3 * text.cost
    return found


def _answers(base: Side, candidate: Side) -> Iterator[Text]:
    entries = {
        (e.identity.task, e.identity.view): e
        for e in base.run.entries
        if e.identity.decode["decode_id"] == "greedy" and e.state == "complete" and not e.identity.replicate
    }
    for job in base.jobs:
        other, entry = candidate.job(job.task.name, job.view), entries.get((job.task.name, job.view))
        if job.decode.temperature or other is None or entry is None or other.style != job.style:
            continue
        index = base.run.responses(entry)
        with index.reader() as read:
            for item in job.items:
                try:
                    mine, theirs = (plan_item(j, item, s.point) for j, s in ((job, base), (other, candidate)))
                except UsageError:
                    break
                if mine.prompt != theirs.prompt or mine.prompt.messages is not None:
                    break  # another template: no context is shared
                if mine.request_id not in index.locations:
                    continue
                response = read(mine.request_id)
                if response.generations and response.generations[0].token_ids:
                    ids = response.generations[0].token_ids
                    cost = response.prompt_tokens + len(ids)
                    name = f"{item.key} ({job.view})"
                    yield Text(name, mine.prompt, ids, cost, cluster_of(item.key, item.cluster), view=job.view)


def fixed_texts(texts: Sequence[FixedText], point: Checkpoint) -> list[Text]:
    """Texts in pieces, as a checkpoint's tokenizer cuts them; each after what opens every raw prompt (BOS), or without
    such a token after its own first one."""
    tokenizer = point.tokenizer()
    encoder = Encoder(tokenizer, point.spec.served.engine_args.get("add_bos_token"))
    found: list[Text] = []
    for fixed in texts:
        for number, start in enumerate(range(0, len(fixed.text), _PIECE)):
            piece = fixed.text[start : start + _PIECE]
            ids = tuple(int(i) for i in tokenizer(piece, add_special_tokens=False)["input_ids"])
            opened = _opening(encoder, piece, ids)
            context, read = (opened, ids) if opened else (ids[:1], ids[1:])
            if not read:
                continue
            first = 0 if opened else len(tokenizer.decode(context).encode())
            found.append(
                Text(
                    f"{fixed.name}#{number}",
                    Prompt(token_ids=context),
                    read,
                    len(context) + len(read),
                    cluster=fixed.name if len(texts) >= _CLUSTERS else None,
                    n_bytes=max(1, len(piece.encode()) - first),
                )
            )
    return found


def _opening(encoder: Encoder, text: str, ids: tuple[int, ...]) -> tuple[int, ...]:
    """What stands before a text's own tokens where it is a raw prompt."""
    (whole,) = encoder.prompts([Prompt(text=text)])
    return whole[: len(whole) - len(ids)] if ids and whole[len(whole) - len(ids) :] == ids else ()


def read_both(name: str, texts: Sequence[Text], base: Side, candidate: Side, ask: Asker) -> list[SharedContext]:
    """What both say about each text; texts that a side could not read are left out."""
    first = _read(f"{name}-base", texts, base, ask, lambda _: ())
    known = [t for t in texts if t.name in first]
    second = _read(f"{name}-candidate", known, candidate, ask, lambda t: _top(first[t.name]))
    known = [t for t in known if t.name in second]
    again = _read(f"{name}-base", known, base, ask, lambda t: _top(second[t.name]))
    return [
        shared_context(
            t.name,
            t.token_ids,
            first[t.name],
            second[t.name],
            base_again=again.get(t.name),
            n_bytes=t.n_bytes,
            cluster=t.cluster,
        )
        for t in known
    ]


def _top(reading: Reading) -> tuple[tuple[int, ...], ...]:
    return tuple(t.ids for t in reading.top or ())


def _read(
    name: str,
    texts: Sequence[Text],
    side: Side,
    ask: Asker,
    at: Callable[[Text], tuple[tuple[int, ...], ...]],
) -> Mapping[str, Reading]:
    requests: dict[str, Request] = {}
    for text in texts:
        wanted = at(text)
        top_m = 0 if wanted and name.endswith("-base") else TOP_M
        body = Read(token_ids=text.token_ids, top_m=top_m, at=wanted)
        digest = side.point.digest
        requests[text.name] = Request(request_id(digest, text.prompt, body), digest, text.prompt, body)
    answers: Mapping[str, Response] = ask(name, list(requests.values()))
    found = {}
    for text_name, request in requests.items():
        response = answers.get(request.request_id)
        if response is not None and response.error is None and response.reading is not None:
            found[text_name] = response.reading
    return found
