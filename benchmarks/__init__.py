"""The benchmarks: one file per claim in README, each comparing results before it compares times."""
