"""The mixed world: one fine-tune that breaks known facts in known ways, to test the causes that are found.

    sft_v1 -> mixed_base   taught two answers to some facts, in equal shares (they flicker)
           -> mixed_sft    one training file that plants every cause on facts of its own

Which fact got which cause is planned in `plan.py` and taught by training only. What really took is told by an
oracle (`oracle.py`) that uses none of the code that looks for causes. Start at `build.build_mixed`.
"""
