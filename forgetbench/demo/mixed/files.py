"""The suite, the policy and the configuration of the mixed world, as they are written beside its checkpoints."""

from __future__ import annotations

from forgetbench.demo.mixed.plan import BUDGET, EXTRACT

FORGETBENCH = """\
# The mixed world: one fine-tune that breaks known facts in known ways.
models:
  mixed_base: {path: models/mixed_base}
  mixed_sft: {path: models/mixed_sft}
suite: suite.yaml
policy: policy.yaml
"""

POLICY = """\
name: mixed
alpha: 0.05
rules:
  - {name: facts, task_type: knowledge, view: ability, margin: 5, min_n: 400}
  - {name: facts (chat), task_type: knowledge, view: chat, margin: 5, min_n: 400}
"""

SUITE = f"""\
# Facts of the made-up world under phrasings that the fine-tune never saw. An answer is one word, alone or at the end
# of a sentence after `is`; the token budget is more than that needs and less than a long preamble takes.
name: mixed
description: facts of a made-up world, raw 3-shot and chat
tasks:
  - set: sets/facts.jsonl
    fewshot: sets/facts.shots.jsonl
    scorer: exact
    extract: '{EXTRACT}'
    raw: {{question: "Q: {{prompt}}\\nA:", delimiter: " ", separator: "\\n\\n", num_fewshot: 3}}
    chat: {{question: "{{prompt}}", num_fewshot: 0}}
    stop: ["\\n"]
    max_tokens: {BUDGET}
"""
