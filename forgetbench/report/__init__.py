"""Comparison and verdict -> something people read: one HTML file, or the terminal.

Nothing here computes a statistic: every figure is taken from `Change`, `RuleResult` or `Pair` as it stands.
"""
