"""IFEval's 25 instruction types (Zhou et al. 2023, arXiv 2311.07911): does a text do what it was told?

    text.py      sentences, words and language of a text; needs no download
    words.py     what a text says: keywords, letters, cases, commas, language, lengths
    shape.py     how it is laid out: paragraphs, bullets, sections, JSON, title, first and last words
    judge.py     the table of all types; strict and loose verdicts

The rules are those of lm-eval 0.4.13's `ifeval` (version 4.0), quirks included, since a score is only worth
something beside published ones: keywords are regular expressions without word borders, a bullet list counts
horizontal rules, `**x**` counts as two highlights. tests/parity runs both on thousands of real answers.
"""

from forgetbench.scoring.ifeval.judge import NEEDS, Followed, Instruction, follow, loose_variants

__all__ = ["NEEDS", "Followed", "Instruction", "follow", "loose_variants"]
