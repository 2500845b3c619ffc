"""Several ways to train, side by side: `forgetbench ab` (docs/ab.md).

config.py    experiment.yaml
run.py       every arm and seed trained or merged, every kept checkpoint graded; worker.py, store.py, results.py
score.py     a judgement as target score and general score, item by item
frontier.py  which arm keeps most at the same target score; estimate.py: how sure that is
"""
