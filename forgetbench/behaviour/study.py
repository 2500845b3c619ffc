"""The behaviour of a candidate beside its base: measured on what the runs hold, and on what later rounds are told.

Whatever a round asks is bounded and said: distribution and reference answers cost at most 15 % of the comparison's own
tokens, causes and beliefs as their options say. Nothing of it enters a score or the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from forgetbench.analysis.departure import departure_measures
from forgetbench.analysis.distribution import bits_per_byte, distribution_measures
from forgetbench.analysis.diversity import diversity_measures, vendi_per_input
from forgetbench.analysis.openings import habit_measures
from forgetbench.analysis.option_scores import option_measures
from forgetbench.analysis.outputs import common_samples
from forgetbench.analysis.reference_scores import reference_measures
from forgetbench.behaviour.contexts import fixed_texts, own_answers, read_both, same_tokens
from forgetbench.behaviour.fixed import count
from forgetbench.behaviour.options import option_scores
from forgetbench.behaviour.references import Along, Referred, referred, scores_of
from forgetbench.behaviour.sampled import sampled_tasks
from forgetbench.behaviour.texts import (
    Decoded,
    answered,
    fully_sampled,
    has_unknown_tokens,
    in_words,
    kinds_of_tokens,
    merged,
)
from forgetbench.behaviour.types import Behaviour, Group, Spending, Study
from forgetbench.errors import UsageError
from forgetbench.types import GREEDY, View

if TYPE_CHECKING:
    from forgetbench.analysis.outputs import Answered
    from forgetbench.analysis.token_stats import SharedContext
    from forgetbench.analysis.types import Comparison
    from forgetbench.behaviour.contexts import Text
    from forgetbench.behaviour.embedder import Embedder
    from forgetbench.behaviour.fixed import FixedText
    from forgetbench.belief.types import Divergence
    from forgetbench.causes.types import Causes
    from forgetbench.drift.types import Drift
    from forgetbench.probing.types import Example
    from forgetbench.rounds import Asker, Rounds, Side

SHARE = 0.12
"""Of the comparison's tokens that reading and scoring may take; a text is never read in part, so that this stays below
15 %."""
_REFERENCES = 0.04
"""Of the comparison's tokens that scoring references may take; what it leaves goes to reading."""
_VIEWS: tuple[View, ...] = ("ability", "chat", "as_used")


def study(
    base: Side,
    candidate: Side,
    comparison: Comparison,
    rounds: Rounds,
    what: Study,
    *,
    texts: Sequence[FixedText] = (),
    training: Sequence[str] = (),
    examples: Sequence[Example] = (),
    embed: Embedder | None = None,
    seed: int = 0,
) -> Behaviour:
    """All that is asked for. `texts`: what both read whole, beyond the share of tokens that the rest keeps to.
    `training`: texts of the candidate's training data, to tell answers that they teach; `examples`: those of them that
    ask and answer, for the fit to them. `embed`: for the Vendi score of sampled answers.

    Raises what asking raises. Where an engine cannot read, the distribution is left out with a note; where it cannot
    score, the reference answers.
    """
    notes: list[str] = []
    at_hand = answered(base.run, candidate.run)
    groups = [*looks(at_hand, base, candidate, embed, notes), *_options(base, candidate, seed, notes)]
    if embed is not None:
        embed.close()  # its memory is for the models that rounds load
    own = own_tokens(base) + own_tokens(candidate)
    if what.distribution:
        asked = referred(base, candidate, int(_REFERENCES * own), notes, seed=seed)
        along = Along(rounds, asked)
        left = int(SHARE * own) - sum(r.cost for r in asked)
        read = _distribution(base, candidate, along, left, texts, seed, notes)
        groups = [*read, *_references(base, candidate, asked, along, seed, notes), *groups]
    causes = _causes(base, candidate, comparison, rounds, training, what) if what.causes else None
    beliefs = _beliefs(base, candidate, comparison, rounds, what.most) if what.belief else ()
    drift = _drift(base, candidate, notes) if what.drift else None
    fit = None
    if examples:
        from forgetbench.probing.fit import fit_to_training

        fit = fit_to_training(base, candidate, examples, rounds, seed=seed)
    return Behaviour(
        groups=tuple(g for g in groups if g.measures),
        sampled=tuple(sampled_tasks(comparison.scores, at_hand, seed=seed)),
        causes=causes,
        divergences=tuple(beliefs),
        drift=drift,
        fit=fit,
        spent=_spent(rounds, own),
        notes=tuple(dict.fromkeys(notes)),
    )


def own_tokens(side: Side) -> int:
    """That the checkpoint read and wrote for the comparison: K samples of one request read its prompt once."""
    frame = side.run.records(columns=["request_id", "sample", "n_prompt_tokens", "n_output_tokens"])
    unnamed = frame["request_id"].isna()  # imported: each record stands for itself
    prompts = frame[unnamed | ~frame.duplicated(["request_id"])]["n_prompt_tokens"]
    outputs = frame[unnamed | ~frame.duplicated(["request_id", "sample"])]["n_output_tokens"]
    return int(np.nansum(prompts.to_numpy(dtype=float)) + np.nansum(outputs.to_numpy(dtype=float)))


def _spent(rounds: Rounds, own: int) -> Spending | None:
    if not rounds.spent:
        return None
    tokens = sum(s.usage.prompt_tokens + s.usage.new_tokens for _, s in rounds.spent)
    return Spending(sum(s.usage.requests for _, s in rounds.spent), tokens, tokens / own if own else 0.0)


def looks(
    at_hand: dict[Decoded, list[Answered]], base: Side, candidate: Side, embed: Embedder | None, notes: list[str]
) -> list[Group]:
    """How answers look and how varied they are, for each view and decoding."""
    vocabulary = int((base.point.config.get("text_config") or base.point.config).get("vocab_size") or 0)
    differ = not same_tokens(base, candidate)
    if at_hand and (differ or has_unknown_tokens(at_hand)):
        why = "the tokenizers differ" if differ else "an endpoint does not name its tokens"
        notes.append(f"words stand for tokens in how answers look and vary: {why}")
        at_hand = in_words(at_hand)
        vocabulary = kinds_of_tokens(at_hand)
    elif at_hand and not vocabulary:
        notes.append(
            "no EAD among how varied answers are: the base has no config.json that tells its vocabulary's size"
        )
    made = []
    for view in _VIEWS:
        for decode_id in sorted({d for _, v, d in at_hand if v == view}, key=lambda d: (d != GREEDY, d)):
            everything = merged(at_hand, view, decode_id)
            items = fully_sampled(everything)
            if len(items) < len(everything):
                missed = f"{len(everything) - len(items):,} of {len(everything):,} items ({view}, {decode_id})"
                notes.append(f"{missed} are not in how varied answers are: a sample of them failed")
            about = f"{len(items):,} items, {'greedy answers' if decode_id == GREEDY else decode_id}"
            if decode_id == GREEDY:
                made.append(Group("How answers look", view, about, habit_measures(items)))
            measures = diversity_measures(items, vocabulary)
            if embed is not None and common_samples(items) > 1:
                measures = (*measures, vendi_per_input(items, embed, embedder=embed.identity))
            made.append(Group("How varied answers are", view, about, measures))
    if embed is not None and all(d == GREEDY for _, _, d in at_hand):
        notes.append("no Vendi score: it wants several answers to each item (--samples)")
    return made


def _options(base: Side, candidate: Side, seed: int, notes: list[str]) -> list[Group]:
    return [
        Group(
            "How sure it is among options",
            view,
            f"{task}, {scores.gold.size:,} items",
            option_measures(scores, seed=seed),
        )
        for task, view, scores in option_scores(base, candidate, notes)
    ]


def _references(
    base: Side, candidate: Side, asked: Sequence[Referred], along: Along, seed: int, notes: list[str]
) -> list[Group]:
    try:
        scored = scores_of(asked, along.answers(), notes)
    except UsageError as e:
        if e.where != "engine" and not _is_endpoint(base, candidate):
            raise
        notes.append(f"references are not scored: {'the engine' if e.where == 'engine' else e.where} {e.problem}")
        scored = []
    groups = []
    for view, tasks, scores in scored:
        about = f"{len(scores.tasks):,} items of {', '.join(tasks)}"
        groups.append(Group("How likely the reference answer is", view, about, reference_measures(scores, seed=seed)))
    return groups


def _distribution(
    base: Side,
    candidate: Side,
    ask: Asker,
    budget: int,
    texts: Sequence[FixedText],
    seed: int,
    notes: list[str],
) -> list[Group]:
    if _is_endpoint(base, candidate):
        notes.append("distributions are not compared: an endpoint gives neither token ids nor distributions")
        return []
    if not same_tokens(base, candidate):
        notes.append("distributions are not compared: the tokenizers differ, so that the same text has other tokens")
        return []
    found: list[Group] = []
    try:
        own = own_answers(base, candidate, budget, seed=seed)
        if own:
            contexts = read_both("answers-read", own, base, candidate, ask)
            if len(contexts) < len(own):
                notes.append(f"{len(own) - len(contexts):,} of {len(own):,} answers could not be read by both")
            found += said_next(own, contexts, _name_of(base), seed=seed)
        else:
            notes.append("distributions are not compared: no prompt with a generated answer was the same for both")
        if texts:
            pieces = fixed_texts(texts, base.point)
            contexts = read_both("texts-read", pieces, base, candidate, ask) if pieces else []
            if len(contexts) < len(pieces):
                notes.append(f"{len(pieces) - len(contexts):,} of {len(pieces):,} pieces could not be read by both")
            if contexts:
                about = f"{len(contexts):,} pieces of {count(texts)}"
                measures = (bits_per_byte(contexts, seed=seed), *distribution_measures(contexts, seed=seed))
                found.append(Group("On fixed texts", "ability", about, measures))
    except UsageError as e:
        if e.where != "engine":
            raise
        notes.append(f"distributions are not compared: the engine {e.problem}")
    return found


def said_next(
    own: Sequence[Text], contexts: Sequence[SharedContext], name: Callable[[int], str] | None = None, *, seed: int = 0
) -> list[Group]:
    """The base's own answers, each view by itself: a chat that shares its template is no raw ability."""
    view_of = {text.name: text.view for text in own}
    found = []
    for view in _VIEWS:
        part = [c for c in contexts if view_of[c.item] == view]
        if part:
            about = f"{len(part):,} of the base's own answers, read by both"
            measures = (*distribution_measures(part, seed=seed), *departure_measures(part, name, seed=seed))
            found.append(Group("What it would say next", view, about, measures))
    return found


def _is_endpoint(*sides: Side) -> bool:
    return any(side.point.spec.engine == "openai" for side in sides)


def _name_of(side: Side) -> Callable[[int], str] | None:
    """What a token is called, where there is a tokenizer to ask."""
    if side.point.tokenizer_folder is None:
        return None
    tokenizer = side.point.tokenizer()

    def name(token: int) -> str:
        return str(tokenizer.decode([token]))

    return name


def _drift(base: Side, candidate: Side, notes: list[str]) -> Drift | None:
    """Without the search for new directions, which takes half of the time. None, with a note: weights that are not
    there (an endpoint, a script) or that cannot be compared."""
    from forgetbench.drift import drift
    from forgetbench.drift.weights import side_of

    # A comparison that took hours must not end with its last part.
    try:
        return drift(side_of(base.point), side_of(candidate.point), directions=False)
    except UsageError as e:
        notes.append(f"weights are not compared: {e.where}: {e.problem}")
        return None
    except np.linalg.LinAlgError as e:
        notes.append(f"weights are not compared: a decomposition failed ({e})")
        return None


def _causes(
    base: Side, candidate: Side, comparison: Comparison, rounds: Rounds, training: Sequence[str], what: Study
) -> Causes:
    from forgetbench.causes.find import find_causes
    from forgetbench.causes.types import Options

    options = Options(training=tuple(training), most_flips=what.most, further=what.further)
    return find_causes(base, candidate, comparison, rounds, options)


def _beliefs(
    base: Side,
    candidate: Side,
    comparison: Comparison,
    rounds: Rounds,
    most: int,
) -> list[Divergence]:
    from forgetbench.belief.find import find_divergence
    from forgetbench.belief.types import Options

    # Not by what was answered: of ranked options there is no text, and a base without a template is asked raw.
    views = [v for v in _VIEWS[:2] if any(candidate.job(job.task.name, v) is not None for job in candidate.jobs)]
    return [find_divergence(base, candidate, comparison, rounds, Options(view=view, max_items=most)) for view in views]
