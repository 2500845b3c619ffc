"""What a gate's outcome looks like to CI: verdict.json, JUnit, GitHub, GitLab, a comment. One object feeds them all.

Each output is a pure function of `Outcome`; `cli/outputs.py` writes the files. What all of them promise, and tests
hold them to: one that looks green where the exit code is not 0 does not exist, nor the other way round.
"""
