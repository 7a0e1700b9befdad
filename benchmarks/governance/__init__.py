"""Benchmarks of reading and deciding in a large ledger. `python -m benchmarks.governance` prints the table."""

MODULES = ["decision", "sensor", "real_sensor", "idle"]
