"""The words of forgetbench as small frozen dataclasses. Read this file first.

    checkpoint + suite -> plan (requests) -> engine (responses) -> scoring (records) -> run on disk
    run + run -> comparison (pairs, flips, measures) -> verdict (policy) -> report

One street, one direction. Nothing downstream of `Record` knows an engine; nothing upstream of a comparison
knows that there are two checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["raw", "chat"]
"""How an item becomes a prompt: `raw` completion text, or the checkpoint's chat template."""

View = Literal["ability", "chat", "as_used"]
"""`ability`: the identical rendered prompt for both checkpoints; `chat`: the same messages, each under its own
template; `as_used`: styles may differ, advisory only."""

Form = Literal["rank", "generate", "continue"]
"""What is asked: rank given continuations, generate an answer, or continue a text."""

Outcome = Literal["ok", "unparsed", "truncated", "refused", "timeout", "infra_error"]
"""What became of a sample. `infra_error` never counts as wrong: such a record carries no score."""

FinishReason = Literal["stop", "length", "error"]

GREEDY = "greedy"
"""The decode_id of temperature 0. Greedy rows never enter K-sample statistics."""


@dataclass(frozen=True, slots=True, order=True)
class ItemKey:
    """Identity of an item: its task, the hash of its content, and which copy of that content it is.

    MMLU has 27 exact duplicates, so the content hash alone is not unique; a positional index would pair the
    wrong items as soon as a file is reordered.
    """

    task: str
    content_hash: str
    occurrence: int = 0

    def __str__(self) -> str:
        return f"{self.task}:{self.content_hash}#{self.occurrence}"


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a task."""

    key: ItemKey
    task_type: str
    """Two-level path of the ability, `reasoning/arithmetic`."""
    doc: Mapping[str, Any]
    """The document as its file has it."""
    gold: str
    """The reference answer as text, for people (several joined by ' | ')."""
    gold_hash: str
    cluster: str | None = None
    """Items that share a fact or passage share a cluster; None: a cluster of its own."""
    stratum: str | None = None
    """Fixed strata such as MMLU's subjects; never used as clusters (metrics.md, section 2)."""
    n_choices: int | None = None
    source: str = ""
    """`file:line` it was read from."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Shot:
    """One worked example. `question` is already formatted; `chat_question` replaces it in chat style."""

    question: str
    answer: str
    chat_question: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """What a task asks, before any template: planning renders it for a checkpoint and a style.

    raw:  system + ''.join(shot.question + answer_delimiter + shot.answer + shot_delimiter) + question [+ prefill]
    chat: messages [system?], (user, assistant)*, user [, assistant prefill] under the checkpoint's template.
    In rank form the raw continuations are answer_delimiter + choice; in chat they are the bare choice.
    """

    form: Form
    question: str
    shots: tuple[Shot, ...] = ()
    system: str = ""
    chat_question: str | None = None
    messages: tuple[Message, ...] | None = None
    """A whole conversation of the user's own; in chat style it replaces `question` (shots come before it)."""
    prefill: str = ""
    answer_delimiter: str = " "
    shot_delimiter: str = "\n\n"
    choices: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    plain: bool = False
    """Raw text in chat style too: what no template may touch, such as a text whose own likelihood is asked."""
    also: tuple[PromptSpec, ...] = ()
    """Further questions of the same item (one with its options in the prompt, not after it): the task scores the
    answers to all of them together."""


@dataclass(frozen=True, slots=True)
class Decode:
    """A decoding rule of the suite; never taken from a checkpoint's generation_config.json."""

    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1

    @property
    def decode_id(self) -> str:
        if self.temperature == 0.0:
            return GREEDY
        return f"T{self.temperature:g}/p{self.top_p:g}/K{self.n}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: exactly one of text, token_ids, messages (an endpoint templates on its own side)."""

    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    messages: tuple[Message, ...] | None = None
    add_special_tokens: bool = True
    """Whether the tokenizer may add BOS to `text`; False for text that a chat template rendered."""

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.text, self.token_ids, self.messages)) != 1:
            raise ValueError("a Prompt has exactly one of text, token_ids, messages")


@dataclass(frozen=True, slots=True)
class TokenStats:
    """Which token statistics a request wants beside the text."""

    logprobs: bool = True
    entropy: bool = True
    top_m: int = 0
    """Store the top-m token ids per position, their log-probabilities and the tail's mass (two-model measures)."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Generate len(seeds) samples (greedy: one, its seed unused)."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seeds: tuple[int, ...] = (0,)
    stats: TokenStats = TokenStats()


@dataclass(frozen=True, slots=True)
class Score:
    """Log-probability of each continuation after the prompt (natural log, summed over its tokens)."""

    continuations: tuple[str, ...]
    stats: TokenStats = TokenStats(logprobs=False, entropy=False)


@dataclass(frozen=True, slots=True)
class Read:
    """Teacher-force these tokens after the prompt and report the distribution at each of their positions.

    The prompt is tokenised by itself, since the tokens are given: nothing merges at the seam. An empty prompt becomes
    BOS (EOS where there is no BOS); a text that is read from its start has its own first token as the prompt.
    Raises ValueError for what no engine could read.
    """

    token_ids: tuple[int, ...]
    """What is read; at least one."""
    top_m: int = 0
    """Keep the m most likely ids of each position with their log-probabilities."""
    at: tuple[tuple[int, ...], ...] = ()
    """Empty, or for each position the ids whose log-probability is wanted."""
    nucleus: float = 0.95

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError("a Read has at least one token")
        if self.at and len(self.at) != len(self.token_ids):
            raise ValueError(f"a Read of {len(self.token_ids)} tokens has `at` for {len(self.at)} positions")
        if min(self.token_ids) < 0 or any(min(ids, default=0) < 0 for ids in self.at):
            raise ValueError("a Read has a token id below 0")
        if self.top_m < 0 or not 0 < self.nucleus <= 1:
            raise ValueError("a Read has top_m >= 0 and 0 < nucleus <= 1")


@dataclass(frozen=True, slots=True)
class Request:
    """What an engine is asked. It knows the checkpoint it is for, never the task."""

    request_id: str
    """Hash of checkpoint digest, prompt and body: the same question has the same id in any suite or order."""
    checkpoint: str
    """Digest of the checkpoint, so that one engine may serve a base and its adapters in one batch."""
    prompt: Prompt
    body: Generate | Score | Read


@dataclass(frozen=True, slots=True)
class Origin:
    """Why a request was made. Several origins may share one (deduplicated) request."""

    item: ItemKey
    view: View
    style: Style
    decode_id: str
    replicate: int = 0
    round: int = 0
    prompt_text_hash: str = ""
    part: int = 0
    """Which of the item's questions: 0 is the prompt itself, the others are `PromptSpec.also`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests in the order an engine should see them, and where each came from.

    Round 0 comes from the suite. A later round is computed from a comparison, stores its parents' hashes and
    goes down the same street.
    """

    requests: tuple[Request, ...]
    origins: Mapping[str, tuple[Origin, ...]]
    round: int = 0
    parents: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    """Lines for the user: what could not be planned, and why (chat view of a base without a template)."""


@dataclass(frozen=True, slots=True)
class TopTokens:
    """One position's truncated distribution: top-m ids, natural-log probabilities, probability mass of the rest."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    tail_mass: float


@dataclass(frozen=True, slots=True)
class Generation:
    text: str
    """Decoded without special tokens, cut before the first stop string."""
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[float, ...] | None = None
    """Natural log, of each generated token under the raw (temperature 1, untruncated) distribution."""
    entropies: tuple[float, ...] | None = None
    """Nats, of the raw next-token distribution at each generated position."""
    top: tuple[TopTokens, ...] | None = None


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    logprob: float
    is_greedy: bool
    n_tokens: int
    token_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a Read gives: one entry for each token read, of the raw (temperature 1, untruncated) distribution there."""

    logprobs: tuple[float, ...]
    """Natural log, of each token."""
    entropies: tuple[float, ...]
    """Nats."""
    nucleus_sizes: tuple[int, ...]
    """Fewest tokens whose mass reaches `Read.nucleus`."""
    argmax: tuple[int, ...]
    """The most likely id."""
    top: tuple[TopTokens, ...] | None = None
    """Where `Read.top_m`; the most likely first."""
    at: tuple[tuple[float, ...], ...] | None = None
    """Where `Read.at`: the log-probabilities of the wanted ids, in their order."""


@dataclass(frozen=True, slots=True)
class Response:
    """What an engine answered. `error` set means infra_error: nothing else in it counts."""

    request_id: str
    generations: tuple[Generation, ...] = ()
    scores: tuple[ContinuationScore, ...] = ()
    prompt_tokens: int = 0
    prompt_token_hash: str = ""
    truncated_left: int = 0
    """Prompt tokens dropped on the left because the context was too long."""
    computed_tokens: int | None = None
    """Prompt tokens that the engine really computed for it, where it can tell: the rest came from a prefix that
    was there already."""
    first_token_seconds: float | None = None
    """From the moment that the engine took the request up to its first new token."""
    seconds: float | None = None
    """From that moment to its last token."""
    error: str | None = None
    reading: Reading | None = None
    line: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """The encoded response that it was read from (runs.codec), so that it can be stored again as it is. No part of
    what it says: `replace` leaves it out."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a task makes of one sample: its scores and the evidence."""

    scores: Mapping[str, float]
    """By metric; 0/1 for correctness, any float for continuous metrics. Empty for infra_error."""
    outcome: Outcome
    output: str
    """The raw output (rank form: the chosen option with all log-probabilities)."""
    extracted: str | None
    why: str
    """One sentence: why it was judged so."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Goes into `Record.extra`: flags such as `looped` that are counted and decide nothing."""


@dataclass(frozen=True, slots=True)
class Record:
    """One scored sample of one item. Flat, so that it is one row of a table.

    Keyed by item, view, decode_id, sample, replicate. Provenance columns may be None for imported runs; an
    imported row may carry successes out of trials instead of a single sample.
    """

    task: str
    content_hash: str
    occurrence: int
    task_type: str
    view: View
    style: Style | None
    decode_id: str
    sample: int
    replicate: int
    outcome: Outcome
    scores: Mapping[str, float]
    output: str
    extracted: str | None
    gold: str
    why: str
    gold_hash: str
    cluster: str | None = None
    stratum: str | None = None
    n_choices: int | None = None
    source: str | None = None
    prompt: str | None = None
    prompt_text_hash: str | None = None
    prompt_token_hash: str | None = None
    request_id: str | None = None
    finish_reason: FinishReason | None = None
    n_prompt_tokens: int | None = None
    n_output_tokens: int | None = None
    truncated_left: int | None = None
    mean_logprob: float | None = None
    mean_entropy: float | None = None
    first_token_seconds: float | None = None
    seconds: float | None = None
    successes: int | None = None
    trials: int | None = None
    round: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> ItemKey:
        return ItemKey(self.task, self.content_hash, self.occurrence)
