"""What a plan would cost, told before anything runs and without loading torch: requests, tokens, time,
memory.

Counts of requests are exact. Tokens are counted under the checkpoint's own tokenizer.json where that takes a second
or two; for larger plans they are characters divided by a ratio that a sample of the prompts gives (4 characters a
token where there is no tokenizer.json). What is given as token ids (prompts, the tokens of a Read) is
exact either way. Time and memory are orders of magnitude, good enough to tell minutes from hours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from forgetbench.checkpoints import files
from forgetbench.checkpoints.checkpoint import Checkpoint
from forgetbench.engines.prefix import common_prefix
from forgetbench.errors import UsageError
from forgetbench.planning.order import CHARACTERS_PER_TOKEN
from forgetbench.planning.render import prompt_text
from forgetbench.planning.tokens import count_tokens
from forgetbench.types import Generate, Plan, Read, Request, Score

_SAMPLE = 64
COUNTED = 2_000_000
"""Characters of prompts and continuations up to which tokens are counted (about a second on one core)."""
_DEFAULT_RATIO = float(CHARACTERS_PER_TOKEN)
_EFFICIENCY = 0.3
"""Share of a plain matrix product's speed that a forward pass reaches (attention, norms, Python between
them)."""
_FORWARD_OVERHEAD = 0.004
"""Seconds that a forward pass takes beyond its arithmetic, on a CPU."""
_BATCH = 48
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens are approximate; seconds and bytes are orders of magnitude (None: cannot be told here)."""

    requests: int
    score_requests: int
    generate_requests: int
    read_requests: int
    samples: int
    """Texts to generate (n samples of a request count n)."""
    prompt_tokens: int
    computed_prompt_tokens: int
    """Tokens of the trie of prompts and continuations: what is left where an engine reads common beginnings once."""
    tokens_counted: bool
    """Whether both were counted (to the token where prompt and continuation meet) and not estimated."""
    max_new_tokens: int
    """Upper bound: every sample runs to its limit."""
    seconds: float | None
    """Upper bound of that kind, on this machine's CPU; None for a GPU or an engine without weights."""
    memory_bytes: int | None
    """Weights plus keys and values of one batch."""


def estimate(plan: Plan, checkpoint: Checkpoint, *, count_up_to: int = COUNTED) -> Estimate:
    """What running this plan would take; tokens of plans beyond `count_up_to` characters are estimated."""
    scores = [r for r in plan.requests if isinstance(r.body, Score)]
    generates = [r for r in plan.requests if isinstance(r.body, Generate)]
    tokenizer = _tokenizer(checkpoint) if plan.requests else None
    ratio = _characters_per_token(plan.requests, tokenizer)
    texts = [_text(r) for r in plan.requests]
    given = [len(r.prompt.token_ids or ()) for r in plan.requests]
    tokens_read = [len(r.body.token_ids) if isinstance(r.body, Read) else 0 for r in plan.requests]
    characters = [len(text) for text in texts]
    continued = [len(c) for r in scores if isinstance(r.body, Score) for c in r.body.continuations]
    counted = tokenizer is not None and sum(characters) + sum(continued) <= count_up_to
    if tokenizer is not None and counted:
        prompt_tokens, computed = _count(plan.requests, texts, tokenizer)
    else:
        prompt_tokens = round(sum(characters) / ratio) + sum(given)
        shared = sum(common_prefix(a, b) for a, b in pairwise(texts))  # the plan's order: depth-first over texts
        # The last token of a continuation is only predicted, never read.
        read = sum(max(0.0, length - ratio) for length in continued)
        computed = round((sum(characters) - shared + read) / ratio)
        prompts = [r.prompt.token_ids or () for r in plan.requests]
        computed += sum(given) - sum(common_prefix(a, b) for a, b in pairwise(prompts))
        computed += sum(max(0, length - 1) for length in tokens_read)
    samples = [
        (r, 1 if r.body.temperature == 0 else len(r.body.seeds)) for r in generates if isinstance(r.body, Generate)
    ]
    new_tokens = sum(n * r.body.max_tokens for r, n in samples if isinstance(r.body, Generate))
    rows = zip(characters, given, tokens_read, strict=True)
    longest = round(max((c / ratio + ids + read for c, ids, read in rows), default=0)) + max(
        (r.body.max_tokens for r in generates if isinstance(r.body, Generate)), default=0
    )
    seconds, memory = _resources(checkpoint, computed, new_tokens, len(plan.requests), longest)
    return Estimate(
        requests=len(plan.requests),
        score_requests=len(scores),
        generate_requests=len(generates),
        read_requests=sum(n > 0 for n in tokens_read),
        samples=sum(n for _, n in samples),
        prompt_tokens=prompt_tokens,
        computed_prompt_tokens=computed,
        tokens_counted=counted,
        max_new_tokens=new_tokens,
        seconds=seconds,
        memory_bytes=memory,
    )


def _count(requests: Sequence[Request], texts: Sequence[str], tokenizer: Any) -> tuple[int, int]:
    """Tokens of the prompts, and of the trie of what is read. Continuations are tokenised alone, which may differ
    from the real thing by a token at the seam."""
    encoded: list[list[int]] = [[] for _ in requests]
    for flag in (True, False):
        places = [i for i, r in enumerate(requests) if r.prompt.add_special_tokens is flag]
        batch = tokenizer.encode_batch_fast([texts[i] for i in places], add_special_tokens=flag)
        for place, encoding in zip(places, batch, strict=True):
            encoded[place] = list(requests[place].prompt.token_ids or encoding.ids)
    continuations = sorted({c for r in requests if isinstance(r.body, Score) for c in r.body.continuations})
    batch = tokenizer.encode_batch_fast(continuations, add_special_tokens=False)
    tails = {c: encoding.ids[:-1] for c, encoding in zip(continuations, batch, strict=True)}
    sequences: list[list[int]] = []
    for request, ids in zip(requests, encoded, strict=True):
        read = request.body.continuations if isinstance(request.body, Score) else ()
        if isinstance(request.body, Read):
            ids = ids + list(request.body.token_ids[:-1])
        sequences += [ids + tails[c] for c in read] or [ids]
    prompt_tokens = sum(len(ids) for ids in encoded)
    return prompt_tokens, count_tokens(len(requests), prompt_tokens, sequences).trie_tokens


def _text(request: Request) -> str:
    """What there is to tokenise of a prompt: nothing where it is token ids."""
    return "" if request.prompt.token_ids is not None else prompt_text(request.prompt)


def _tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's tokenizer.json, read without transformers; None where there is none."""
    folder = checkpoint.tokenizer_folder
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception
        raise UsageError(
            str(folder / "tokenizer.json"),
            f"cannot be read as a tokenizer ({error})",
            "save the tokenizer again",
        ) from None


def _characters_per_token(requests: Sequence[Request], tokenizer: Any) -> float:
    if tokenizer is None:
        return _DEFAULT_RATIO
    texts = [_text(r) for r in requests[:: max(1, len(requests) // _SAMPLE)]]
    tokens = sum(len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False))
    return max(sum(len(t) for t in texts) / tokens, 0.1) if tokens else _DEFAULT_RATIO


def _resources(
    checkpoint: Checkpoint, prompt_tokens: int, new_tokens: int, requests: int, longest: int
) -> tuple[float | None, int | None]:
    """Seconds on this CPU and bytes, or None where there are no weights to measure."""
    if checkpoint.spec.engine != "transformers":
        return None, None
    from forgetbench.engines.transformers_engine import TransformersEngine

    engine = TransformersEngine(checkpoint, **checkpoint.spec.engine_args)
    weights = files.weight_files(checkpoint.folder)
    size = _BYTES.get(engine.dtype, 2)
    parameters = files.count_parameters(weights)
    if parameters is None:
        parameters = sum(f.stat().st_size for f in weights) // size
    config = _text_config(checkpoint.config)
    layers, width = int(config.get("num_hidden_layers") or 0), _kv_width(config)
    memory = parameters * size + _BATCH * longest * 2 * layers * width * size
    if engine.device != "cpu":
        return None, memory
    rate = _matrix_rate() * _EFFICIENCY
    # Each token meets every parameter once (2 operations) and, in attention, half of a prompt on average.
    attention = 2 * layers * width * longest
    per_token = 2 * parameters + attention
    forwards = requests / 4 + new_tokens / _BATCH
    return (prompt_tokens + new_tokens) * per_token / rate + forwards * _FORWARD_OVERHEAD, memory


def _text_config(config: Any) -> dict[str, Any]:
    inner = config.get("text_config")
    return dict(inner) if isinstance(inner, dict) else dict(config)


def _kv_width(config: dict[str, Any]) -> int:
    """Keys (or values) of one token in one layer: heads times head size."""
    heads = int(config.get("num_key_value_heads") or config.get("num_attention_heads") or 1)
    hidden, all_heads = int(config.get("hidden_size") or 0), int(config.get("num_attention_heads") or 1)
    return heads * int(config.get("head_dim") or hidden // max(all_heads, 1))


def _matrix_rate() -> float:
    """Floating-point operations per second of a float32 matrix product on this machine, now."""
    import numpy as np

    left = np.ones((256, 256), dtype=np.float32)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - begin)
    return 2 * 256**3 / max(best, 1e-9)
