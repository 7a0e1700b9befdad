"""Benchmarks of the review site under load. `python -m benchmarks.review` prints the table."""

MODULES = ["load"]
