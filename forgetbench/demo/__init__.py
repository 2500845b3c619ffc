"""The made-up world of the demo: its facts, its text, a small base model and three fine-tunes of it.

A toy, and honest about it: the checkpoints really are trained, and what the careless one forgets is what
happened, not something arranged in the scoring. Start at `build.build`.
"""
