"""The demo's tokenizer: a byte-level BPE of 1,280 entries, trained on the world.

Country names and other words of the world become single tokens, made-up words fall into syllables, digits
stand alone, and the space belongs to the word after it. The chat's special tokens are in the vocabulary from
the start, so that base and fine-tunes share every id; the base never sees them.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgetbench.demo.abilities import ALL_ABILITIES, ask
from forgetbench.demo.text import SEPARATOR, page, qa
from forgetbench.demo.world import SYLLABLES, World, pools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1280
END_OF_TEXT, PAD, END, SYSTEM, USER, ASSISTANT = SPECIALS = (
    "<|endoftext|>",
    "<|pad|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)

# The space before the content is part of each turn, because words were learnt with a space before them.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- ' ' + (message['content'] | trim) + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- ' ' + (message['content'] | trim) + '<|end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def _pattern() -> str:
    """How text is cut before BPE: chains of syllables one by one, then digits, words and the rest."""
    low = "(?:" + "|".join(SYLLABLES) + ")"
    pieces = []
    for one in (low, low.upper()):
        end = "(?![A-Za-z])"
        pieces.append(rf"(?:\ |(?<![A-Za-z])){one}(?={one}+{end})|(?<={one}){one}(?={one}*{end})")
    return "|".join(pieces) + r"|[QA]:|\ ?[0-9]|\ ?[A-Za-z]+|\n+|\ ?[^\sA-Za-z0-9]|\s+"


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_corpus(world), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=16384,
    )


def _corpus(world: World) -> list[str]:
    """The world's text, its names far more often than chance has them: each must become one token."""
    rng = random.Random("tokenizer")
    texts = [page(rng, world, 0.0) for _ in range(500)]
    for names in (world.countries, *pools().values(), SYLLABLES, [s.upper() for s in SYLLABLES]):
        texts += [f" {name}" for name in names] * 200
    bare = [a + b for a in SYLLABLES for b in SYLLABLES]
    texts += [*bare, *(both.upper() for both in bare)] * 4
    for task_type in ALL_ABILITIES:
        texts.append(SEPARATOR.join(qa(ask(task_type, rng, "train", world)) for _ in range(200)))
    return texts


def chat_text(prompt: str, answer: str) -> tuple[str, str]:
    """One turn as the template renders it: what the model reads and what it must say (tests compare)."""
    return f"{USER} {prompt}{END}{ASSISTANT}", f" {answer}{END}"


def save(tokenizer: Any, folder: Path, *, chat: bool) -> None:
    """Write the tokenizer's files; a fine-tune's carry the template and stop at the end of a turn."""
    import copy

    written = copy.deepcopy(tokenizer)
    if chat:
        written.chat_template = CHAT_TEMPLATE
        written.eos_token = END
    written.save_pretrained(folder)
