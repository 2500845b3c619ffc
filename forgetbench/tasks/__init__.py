"""Benchmarks and custom sets: what is asked and how an answer is scored. One file per benchmark.

`base` is the contract, `registry` finds a task by name, `source` finds its data (a folder or the hub's
cache), `custom` reads a user's own questions, `select` takes a part of the items.
"""
