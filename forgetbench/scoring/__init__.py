"""From what a model said to scores: pure functions of text and numbers, no task, no engine.

`extract` finds the answer in a text as lm-eval does, `extract_robust` as a careful person would, `choices` ranks
options, `scorers` compares an answer with references, `refusal` recognises a refusal, `outcome` says what became of
a sample.
"""

SCORER_VERSION = "2"
"""Names the records of a scoring: bump it when any scorer or extractor judges an output differently."""
