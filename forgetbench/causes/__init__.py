"""A cause for every flip: what became of an item that the base got right and the candidate gets wrong.

    comparison -> triage (fresh samples) -> delivery -> recovery -> a cause, with its evidence

Start at `find.find_causes`. Nothing here changes a score or reaches the gate.
"""
