"""Results from elsewhere as runs: each reader turns files into `Row`s, and the rest of the way is shared.

    lm_eval.py   `--log_samples` of lm-eval      inspect_log.py  `.eval` logs of Inspect
    evalplus.py  samples and results             plain.py        JSONL, JSON and CSV of any origin
    outputs.py   texts that are to be scored here

    rows -> identify.py (which item is it) -> records.py -> store.py (a run among the others)

An imported run is found by its alias alone: there are no weights to fingerprint. What it does not say is null.
"""

from typing import Literal

IMPORTED: Literal["imported"] = "imported"
"""The engine's name in the identity of imported results, and `engine:` of a model that is nothing but them."""
