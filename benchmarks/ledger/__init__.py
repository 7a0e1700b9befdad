"""Benchmarks of the ledger. `python -m benchmarks.ledger` prints the table; a module a row or two, listed in `MODULES`.

A module defines `ROWS`, a list of `harness.Row`. To add one, write it and put its name here.
"""

MODULES = [
    "append_sqlite",
    "group_commit",
    "append_postgres",
    "proofs",
    "verification",
    "offline",
]
