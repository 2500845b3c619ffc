"""The benchmarks work, at their smallest."""
