"""Benchmarks: each prints what was measured beside the goal, as ratios to baselines of the same run."""
